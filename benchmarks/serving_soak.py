"""Drains and restarts: the two moments in which stock JetStream kills its own process.

    skymath bench serving_soak [--drains=200000] [--cycles=100]

`drains`: on an engine that computes nothing and at a switch interval of 10 µs, the last busy slot is drained over and
over (stock: an assertion in the generate thread, SIGKILL after about a hundred). `cycles`: a server is started,
loaded with streams and stopped in their midst (stock: SIGKILL when a thread posts to the closed event loop). Both run
in a child process, whose death is seen; each wait is bounded, so that a hang is, too.
"""

import argparse
import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.cli import bench
from skymath_jax.engine.batching import Job
from skymath_jax.engine.types import Prompt
from skymath_jax.server.driver import Driver
from skymath_jax.server.serve import start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.null_engine import NullEngine, NullSlots, answer
from skymath_jax.testing.tokenizers import CodePointTokenizer

PATIENCE = 60.0  # seconds after which something that did not happen counts as a hang
SERVER_THREADS = ("prefill", "generate", "transfer", "detokenize", "event-loop")


@dataclasses.dataclass(kw_only=True, eq=False)
class Waited(Job):
  """A job that tells when it is over."""

  over: threading.Event = dataclasses.field(default_factory=threading.Event)
  error: Exception | None = None

  def on_finish(self) -> None:
    self.over.set()

  def on_error(self, error: Exception) -> None:
    self.error = error
    self.over.set()


def drains(count: int, *, switch_interval: float = 1e-5) -> dict[str, Any]:
  """Drains `count` times: one or two jobs on two slots, waited for, so that all slots are idle in between."""
  sys.setswitchinterval(switch_interval)
  start = time.monotonic()
  driver = Driver(NullEngine(), NullSlots(2, steps_per_call=4), CodePointTokenizer(), queue_size=8)
  jobs_made = 0
  for number in range(count):
    jobs = [
      Waited(prompt=Prompt(tokens=(number % 100,), max_tokens=1 + (number + i) % 9)) for i in range(1 + number % 2)
    ]
    for job in jobs:
      driver.submit(job)
    for job in jobs:
      if not job.over.wait(PATIENCE) or job.error or job.tokens != answer(job.prompt.tokens, job.prompt.max_tokens):
        raise RuntimeError(f"drain {number}: {job.error or job.tokens} {driver.counters.read()}")
    jobs_made += len(jobs)
  driver.stop()
  assert driver.counters.read()["completed"] == jobs_made and not threads_left()
  return {"drains": count, "jobs": jobs_made, "seconds": round(time.monotonic() - start, 1)}


def cycles(count: int) -> dict[str, Any]:
  """Starts and stops a server `count` times, each time with streams running, waiting and arriving."""
  start, outcomes, slowest = time.monotonic(), {}, 0.0
  for number in range(count):
    codes, seconds = asyncio.run(_cycle(number))
    slowest = max(slowest, seconds)
    for code in codes:
      outcomes[code] = outcomes.get(code, 0) + 1
  assert not threads_left()
  return {
    "cycles": count,
    "streams": sum(outcomes.values()),
    "outcomes": outcomes,
    "slowest_stop_seconds": round(slowest, 2),
    "seconds": round(time.monotonic() - start, 1),
  }


def threads_left() -> list[str]:
  """Names of a server's threads that still run."""
  return [thread.name for thread in threading.enumerate() if thread.name.startswith(SERVER_THREADS)]


async def _cycle(number: int) -> tuple[list[str], float]:
  """Outcomes of 24 streams on 8 slots when the server stops in their midst, and how long the stop took."""
  server = start_engine(
    NullEngine(),
    NullSlots(8, steps_per_call=2, step_seconds=0.001),
    CodePointTokenizer(),
    "null@0",
    ServerSettings(port=0),
  )
  async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
    stub = jetstream_pb2_grpc.OrchestratorStub(channel)
    tasks = [asyncio.ensure_future(_stream(stub, i, number % 2 == 0)) for i in range(24)]
    await asyncio.sleep(0.02 + 0.01 * (number % 7))
    begin = time.monotonic()
    await asyncio.wait_for(asyncio.to_thread(server.stop), PATIENCE)
    seconds = time.monotonic() - begin
    codes = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
  return codes, seconds


async def _stream(stub: Any, first: int, streamed: bool) -> str:
  content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=[first + 1])
  max_tokens, got = 5 if first % 3 == 0 else 2000, []
  metadata = (("stream", "1"),) if streamed else ()
  try:
    message = jetstream_pb2.DecodeRequest(max_tokens=max_tokens, token_content=content)
    async for part in stub.Decode(message, metadata=metadata, timeout=PATIENCE):
      got += part.stream_content.samples[0].token_ids
  except grpc.aio.AioRpcError as error:
    return error.code().name
  if got != answer([first + 1], max_tokens):
    raise RuntimeError(f"a broken answer: {len(got)} of {max_tokens} tokens")
  return "OK"


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: drains and cycles that the server survived."""
  parser = argparse.ArgumentParser("skymath bench serving_soak")
  parser.add_argument("--drains", type=int, default=200_000)
  parser.add_argument("--cycles", type=int, default=100)
  chosen = parser.parse_args(arguments)
  for name in ("drains", "cycles"):
    command = bench.in_child("serving_soak", "main", name, str(getattr(chosen, name)))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
      raise RuntimeError(f"{name}: the process ended with {done.returncode}")
    facts = json.loads(done.stdout.splitlines()[-1])
    yield {"name": f"serving.soak.{name}", "value": facts.pop(name), "unit": "survived", "settings": facts}


def main(name: str, count: str) -> None:
  """The child's part."""
  print(json.dumps({"drains": drains, "cycles": cycles}[name](int(count))))
