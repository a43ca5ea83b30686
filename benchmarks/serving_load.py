"""A server under load that behaves badly: thousands of clients at once, some of which vanish and some of which err.

    skymath bench serving_load [--minutes=10] [--clients=2000] [--model=asset:micro_teacher] [--slots=64]
    skymath bench serving_load --minutes=1 --clients=1,8,64,256,1000,4500 [--code=CHECKOUT]    a server for each
    skymath bench serving_load --minutes=60 --clients=256 --pause=4 --rush=3                    an hour

Each client sends one request after the other over gRPC (with `--pause`, so many seconds apart on the mean, but without
one in the first `--rush` minutes, so that every size of batch is met early): prompts and responses of mixed lengths,
greedy or sampled. One in ten is cut off after a random time, one in twenty is malformed.
The requests come from a pool of 400, so that each answer is compared with the first one to the same request, which was
given in other company. Beside them, in a process of its own, somebody posts a prompt of 4 MB every second and broken
JSON between, leaves twenty connections silent or in the midst of a header, and asks ten times a second whether the
server is well. Memory is the server's resident set: its mean in the last tenth of the time against its mean in the
second tenth. `--code` serves with another version's code.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import http.client
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.cli import bench
from skymath_jax.server.process import ServerProcess

VOCAB, POOL = 896, 400  # of the bundled models; requests to choose from
CONNECTIONS = 16
PATIENCE = 3600.0  # seconds: a busy machine makes a long queue, which is no fault of the server
QUEUE = 8192  # requests that may wait
HUGE = 4_000_000  # bytes of a prompt that no slot can hold
SILENT = 20  # connections that are opened and left alone
BAD = (  # (token ids, max_tokens, metadata): each must come back as INVALID_ARGUMENT
  ([], 4, ()),
  ([VOCAB], 4, ()),
  ([1, -7], 4, ()),
  ([1] * 5000, 4, ()),
  ([1, 2], 0, ()),
  ([1, 2], -3, ()),
  ([1, 2], 1 << 30, ()),
  ([1, 2], 4, (("temperature", "nan"),)),
  ([1, 2], 4, (("top_p", "7"),)),
  ([1, 2], 4, (("stop-bin", b"\xff"),)),
)
Pooled = tuple[list[int], int, tuple[tuple[str, str], ...]]


def pool(rng: random.Random) -> list[Pooled]:
  """Requests of mixed lengths: prompts of 1 to 150 tokens, responses of 1 to 64, a third of them greedy."""
  made = []
  for number in range(POOL):
    tokens = [1] + [rng.randrange(3, VOCAB) for _ in range(int(rng.expovariate(1 / 30)) % 150)]
    metadata = () if number % 3 == 0 else (("temperature", "0.9"), ("seed", str(number)))
    made.append((tokens, rng.randint(1, 64), metadata + ((("stream", "1"),) if number % 2 else ())))
  return made


class Crowd:
  """The clients, and what they saw."""

  def __init__(self, stubs: list[Any], seconds: float, pause: float, rush: float, rng: random.Random):
    self.stubs, self.rng, self.pause = stubs, rng, pause
    self.calm, self.end = time.monotonic() + rush, time.monotonic() + seconds
    self.requests = pool(rng)
    self.first: dict[int, list[int]] = {}  # number of the request → its first answer
    self.seen: collections.Counter[str] = collections.Counter()
    self.tokens = 0
    self.first_seconds: list[float] = []  # until the first token of a good request
    self.seconds: list[float] = []  # until its last

  async def client(self) -> None:
    """One request after the other until time is up."""
    while time.monotonic() < self.end:
      unhurried = self.pause and time.monotonic() > self.calm
      await asyncio.sleep(self.rng.expovariate(1 / self.pause) if unhurried else 0.0)
      lot = self.rng.random()
      if lot < 0.05:
        await self.malformed()
      elif lot < 0.15:
        await self.vanishing()
      else:
        await self.good()

  def call(self, tokens: list[int], max_tokens: int, metadata: Any) -> Any:
    content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=tokens)
    message = jetstream_pb2.DecodeRequest(max_tokens=max_tokens, token_content=content)
    return self.rng.choice(self.stubs).Decode(message, metadata=metadata, timeout=PATIENCE)

  async def malformed(self) -> None:
    """Must be refused, at once."""
    code = "answered"
    try:
      async for _ in self.call(*self.rng.choice(BAD)):
        pass
    except grpc.aio.AioRpcError as error:
      code = error.code().name
    self.seen["malformed" if code == "INVALID_ARGUMENT" else f"malformed got {code}"] += 1

  async def vanishing(self) -> None:
    """Goes away in the queue, while it is being answered, or just before the end."""
    call = self.call(*self.rng.choice(self.requests))
    await asyncio.sleep(self.rng.expovariate(1 / 2.0))
    self.seen["vanished" if call.cancel() else "vanished too late"] += 1

  async def good(self) -> None:
    """Must be answered whole, and like the first time."""
    number = self.rng.randrange(POOL)
    got, call = [], self.call(*self.requests[number])
    start, first = time.monotonic(), 0.0
    try:
      async for part in call:
        first = first or time.monotonic() - start
        for sample in part.stream_content.samples:
          got += sample.token_ids
      reason = dict(await call.trailing_metadata())["finish-reason"]
    except grpc.aio.AioRpcError as error:
      self.seen[f"good got {error.code().name}"] += 1
      return
    self.tokens += len(got)
    self.first_seconds.append(first)
    self.seconds.append(time.monotonic() - start)
    whole = len(got) == self.requests[number][1] if reason == "length" else reason == "stop"
    same = self.first.setdefault(number, got) == got
    self.seen["good" if whole and same else "good but broken" if not whole else "good but different"] += 1


def beside(address: str, seconds: str) -> None:
  """In a process of its own: those who ask for more than they get. Prints what became of it as JSON."""
  host = urllib.parse.urlsplit(address).netloc
  end = time.monotonic() + float(seconds)
  outcomes: collections.Counter[str] = collections.Counter()
  took: dict[str, list[float]] = collections.defaultdict(list)  # what was asked → seconds of the answers

  def ask(name: str, method: str, path: str, body: bytes | None) -> None:
    connection, start = http.client.HTTPConnection(host, timeout=120), time.monotonic()
    try:
      connection.request(method, path, body)
      answer = connection.getresponse()
      answer.read()
      outcomes[f"{name}: {answer.status}"] += 1
    except OSError as error:
      outcomes[f"{name}: {type(error).__name__}"] += 1
    finally:
      connection.close()
      took[name].append(time.monotonic() - start)

  def every(pause: float, do: Callable[[], None]) -> None:
    while time.monotonic() < end:
      start = time.monotonic()
      do()
      time.sleep(max(0.0, pause - (time.monotonic() - start)))

  def silent() -> None:
    """Opens connections, half of them in the midst of a header, and comes back to see which are closed."""
    with contextlib.ExitStack() as held:
      for number in range(SILENT):
        name, _, port = host.rpartition(":")
        with contextlib.suppress(OSError):
          connection = held.enter_context(socket.create_connection((name, int(port)), timeout=10))
          connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
      time.sleep(min(30.0, max(0.0, end - time.monotonic())))

  huge = json.dumps({"prompt": "12 + 3 = " * (HUGE // 9), "max_tokens": 4}).encode()
  jobs = (
    (0.1, lambda: ask("health", "GET", "/health", None)),
    (1.0, lambda: ask("4 MB prompt", "POST", "/v1/completions", huge)),
    (0.5, lambda: ask("broken JSON", "POST", "/v1/completions", b'{"prompt": [[[')),
    (1.0, silent),
  )
  with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
    for done in [pool.submit(every, pause, do) for pause, do in jobs]:
      done.result()
  print(json.dumps({"outcomes": outcomes, "seconds": {name: percentiles(found) for name, found in took.items()}}))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
  """p50, p99 and the largest; empty for fewer than two."""
  if len(seconds) < 2:
    return {}
  cuts = statistics.quantiles(seconds, n=100, method="inclusive")
  return {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4), "max": round(max(seconds), 4)}


def resident(pid: int) -> int:
  """Bytes of memory that a process holds."""
  return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def drive(server: ServerProcess, clients: int, seconds: float, pause: float, rush: float) -> dict[str, Any]:
  """The crowd against the server; facts."""
  options = [("grpc.use_local_subchannel_pool", 1)]
  channels = [grpc.aio.insecure_channel(server.address, options=options) for _ in range(CONNECTIONS)]
  crowd = Crowd([jetstream_pb2_grpc.OrchestratorStub(c) for c in channels], seconds, pause, rush, random.Random(0))
  memory: list[tuple[float, int]] = []
  begin = time.monotonic()

  async def watch() -> None:
    while True:
      memory.append((time.monotonic() - begin, resident(server.process.pid)))
      await asyncio.sleep(1.0)

  watcher = asyncio.ensure_future(watch())
  command = bench.in_child("serving_load", "beside", server.http_address, str(seconds))
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as neighbours:
    await asyncio.gather(*(crowd.client() for _ in range(clients)))
    told, _ = await asyncio.to_thread(neighbours.communicate)
  watcher.cancel()
  took = time.monotonic() - begin
  await asyncio.gather(*(channel.close() for channel in channels))

  def mean(low: float, high: float) -> float:
    sizes = [size for at, size in memory if low * seconds <= at <= high * seconds]
    return sum(sizes) / len(sizes)

  return {
    "clients": clients,
    "pause": pause,
    "rush": rush,
    "minutes": round(took / 60, 2),
    "outcomes": dict(sorted(crowd.seen.items())),
    "tokens_per_second": round(crowd.tokens / took),
    "seconds_to_the_first_token": percentiles(crowd.first_seconds),
    "seconds_to_the_last_token": percentiles(crowd.seconds),
    "beside": json.loads(told.splitlines()[-1]),
    "memory_mb_over_time": [round(size / 1e6) for _, size in memory[:: max(1, len(memory) // 20)]],
    "memory_second_tenth_mb": round(mean(0.1, 0.2) / 1e6, 1),
    "memory_last_tenth_mb": round(mean(0.9, 1.0) / 1e6, 1),
    "memory_growth": round(mean(0.9, 1.0) / mean(0.1, 0.2) - 1, 4),
  }


def idle_after(server: ServerProcess, seconds: float = 30.0) -> dict[str, float]:
  """The server's counters once nothing runs or waits any more, or after `seconds`."""
  end = time.monotonic() + seconds
  while True:
    counters = server.counters()
    if time.monotonic() > end or counters["slots_busy"] == counters["requests_waiting"] == 0:
      return counters
    time.sleep(0.2)


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """For each number of clients: good requests that were answered whole and alike, against all good requests."""
  parser = argparse.ArgumentParser("skymath bench serving_load")
  parser.add_argument("--minutes", type=float, default=10.0)
  parser.add_argument("--clients", default="2000")
  parser.add_argument("--model", default="asset:micro_teacher")
  parser.add_argument("--slots", type=int, default=64)
  parser.add_argument("--pause", type=float, default=0.0)
  parser.add_argument("--rush", type=float, default=0.0)
  parser.add_argument("--code", type=Path, default=Path.cwd())
  chosen = parser.parse_args(arguments)
  command = ["env", "-C", str(chosen.code), sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={chosen.model}"]
  command += ["--port=0", f"--slots={chosen.slots}", f"--queue_size={QUEUE}", "--max_length=256", "--exit_with_parent"]
  for clients in map(int, chosen.clients.split(",")):
    yield _level(command, clients, 60 * chosen.minutes, chosen.pause, 60 * chosen.rush)


def _level(command: Sequence[str], clients: int, seconds: float, pause: float, rush: float) -> dict[str, Any]:
  """The row of this many clients."""
  with ServerProcess(command) as server:
    server.wait_until_ready(600)
    facts = asyncio.run(drive(server, clients, seconds, pause, rush))
    counters = idle_after(server)
    server.check()
    server.stop(120)
  names = ("requests_accepted", "requests_completed", "requests_cancelled", "requests_failed", "requests_rejected")
  facts["server"] = {name: int(counters[name]) for name in (*names, "slots_busy", "requests_waiting")}
  facts["exit_code"] = server.process.returncode
  facts["log_bytes"] = server.log_path.stat().st_size
  outcomes = facts["outcomes"]
  good = sum(count for name, count in outcomes.items() if name.startswith("good"))
  return {
    "name": f"serving.load.{clients}",
    "value": outcomes.get("good", 0) / good,
    "unit": "share of good requests answered whole and alike",
    "settings": facts,
  }
