"""Malformed requests by the thousand, over gRPC and HTTP: none may end the server, none may hang it.

    skymath bench serving_fuzz [--requests=6000] [--seed=0]

gRPC: random and truncated protobuf bytes, fields out of range, strange call metadata, unknown methods, raw bytes and
HTTP/1 on the gRPC port, connections that say nothing. HTTP: broken JSON, wrong types, deep nesting, other methods and
paths, broken chunks, headers without end, bytes that are no HTTP. What is well-formed HTTP or gRPC must be answered
within 30 s; after each hundred a good request must be answered as it was before the first.
"""

import argparse
import asyncio
import collections
import json
import random
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.server.process import ServerProcess

PATIENCE = 30.0  # seconds
VALUES = (
  *(None, True, False, 0, -1, 1, 3.7, 1e308, 10**30, -(10**30), "", "x", "\ud800", "\x00", "z" * 5000),
  *([], [[]], [None], [1, "a"], [999_999], [-1], {}, {"a": {}}, [{}], ["x"] * 500, [[1] * 300] * 200),
)
KEYS = (
  *("prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "seed", "stop"),
  *("stop_token_ids", "stream", "stream_options", "model", "tools", "response_format", "logprobs", "surprise"),
)
METADATA = ("temperature", "top_p", "top_k", "seed", "stop-bin", "stop-tokens", "stream", "authorization", "x-other")


class Fuzzer:
  """Makes and sends one malformed request at a time, of a kind chosen at random; counts outcomes by kind."""

  def __init__(self, server: ServerProcess, seed: int):
    self.rng = random.Random(seed)
    self.grpc_host, self.grpc_port = server.address.rsplit(":", 1)
    self.http_host, self.http_port = server.http_address.removeprefix("http://").rsplit(":", 1)
    self.channel = grpc.aio.insecure_channel(server.address)
    self.raw_decode = self.channel.unary_stream("/jetstream_proto.Orchestrator/Decode")
    self.stub = jetstream_pb2_grpc.OrchestratorStub(self.channel)
    self.outcomes: collections.Counter[str] = collections.Counter()
    self.kinds: tuple[Callable[[], Awaitable[str]], ...] = (
      *(self.grpc_bytes, self.grpc_fields, self.grpc_metadata, self.grpc_method, self.grpc_socket),
      *(self.http_json, self.http_json, self.http_text, self.http_path, self.http_socket),
    )

  async def one(self) -> None:
    """One request; what takes longer than PATIENCE is a hang."""
    kind = self.rng.choice(self.kinds)
    try:
      outcome = await asyncio.wait_for(kind(), PATIENCE)
    except TimeoutError:
      outcome = "HANG"
    self.outcomes[f"{kind.__name__} {outcome}"] += 1

  def bytes(self, most: int = 300) -> bytes:
    return self.rng.randbytes(self.rng.randrange(most))

  async def ended(self, call: Any) -> str:
    """The status of a call, read to its end."""
    try:
      async for _ in call:
        pass
    except grpc.aio.AioRpcError as error:
      return error.code().name
    return "OK"

  async def grpc_bytes(self) -> str:
    """Bytes that are no request, or half of one."""
    good = jetstream_pb2.DecodeRequest(max_tokens=4, token_content={"token_ids": [5, 6, 7]}).SerializeToString()
    broken = bytearray(good)
    broken[self.rng.randrange(len(broken))] ^= 1 << self.rng.randrange(8)
    data = self.rng.choice((self.bytes(), good[: self.rng.randrange(len(good))], bytes(broken)))
    return await self.ended(self.raw_decode(data, timeout=PATIENCE))

  async def grpc_fields(self) -> str:
    """A request whose numbers make no sense."""
    number = self.rng.choice((0, -1, -(2**31), 2**31 - 1, 5000))
    ids = [self.rng.choice((0, -1, 2**31 - 1, 896, 5)) for _ in range(self.rng.randrange(4))]
    content = self.rng.choice(({"token_content": {"token_ids": ids}}, {"text_content": {"text": "\x00" * 900}}, {}))
    return await self.ended(
      self.stub.Decode(jetstream_pb2.DecodeRequest(max_tokens=number, **content), timeout=PATIENCE)
    )

  async def grpc_metadata(self) -> str:
    """A good request with sampling parameters that are none."""
    pairs = []
    for name in self.rng.sample(METADATA, 3):
      text = self.rng.choice(("", "nan", "-1", "1e999", "x" * 2000, "0x10", "[1]", "1,,2", "9" * 400))
      pairs.append((name, self.bytes() if name.endswith("-bin") else text))
    message = jetstream_pb2.DecodeRequest(max_tokens=2, token_content={"token_ids": [5]})
    return await self.ended(self.stub.Decode(message, metadata=pairs, timeout=PATIENCE))

  async def grpc_method(self) -> str:
    """Something that the service does not have."""
    name = self.rng.choice(("/jetstream_proto.Orchestrator/Encode", "/x/y", "/jetstream_proto.Orchestrator/"))
    return await self.ended(self.channel.unary_stream(name)(self.bytes(), timeout=PATIENCE))

  async def grpc_socket(self) -> str:
    """Bytes on the gRPC port that are no gRPC; the server may answer or close."""
    data = self.rng.choice(
      (self.bytes(), b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.bytes(), b"")
    )
    return await self.socket(self.grpc_host, self.grpc_port, data)

  async def http_socket(self) -> str:
    """Bytes on the HTTP port that are no HTTP, or break off."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
    endings = (
      b"Content-Length: 99999999999\r\n\r\n{",
      b"Content-Length: -5\r\n\r\n{}",
      b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
      b"Content-Length: 50\r\n\r\n{",
      b"X: " + b"y" * 70_000 + b"\r\n\r\n",
      b"".join(b"H%d: 1\r\n" % i for i in range(3000)) + b"\r\n",
    )
    return await self.socket(
      self.http_host, self.http_port, self.rng.choice((self.bytes(), head + self.rng.choice(endings)))
    )

  async def socket(self, host: str, port: str, data: bytes) -> str:
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
      writer.write(data)
      await writer.drain()
      if self.rng.random() < 0.3:
        return "left at once"
      await asyncio.wait_for(reader.read(100), 0.3)
      return "answered or closed"
    except TimeoutError:
      return "left waiting"
    except ConnectionError:
      return "closed"
    finally:
      writer.close()

  async def http_json(self) -> str:
    """JSON with the right keys and the wrong values."""
    body = {key: self.rng.choice(VALUES) for key in self.rng.sample(KEYS, self.rng.randrange(1, 6))}
    if self.rng.random() < 0.5:
      body = {"prompt": "x", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]} | body
    return await self.post(json.dumps(body).encode())

  async def http_text(self) -> str:
    """Bodies that are no JSON object."""
    deep = b"[" * 100_000
    bodies = (
      self.bytes(),
      b"{",
      b'{"prompt": ',
      b"\xff\xfe",
      b"null",
      b"3",
      b"[]",
      b'"x"',
      deep,
      b'{"a":' * 50_000,
      b"",
    )
    return await self.post(
      self.rng.choice(bodies), self.rng.choice(("application/json", "text/x; charset=no-such", ""))
    )

  async def http_path(self) -> str:
    """Other methods and paths."""
    path = self.rng.choice(
      ("/", "/v1", "/v1/models", "/v1/completions", "/%00", "/../../etc/passwd", "/v1/" + "x" * 5000)
    )
    return await self.post(
      b"{}", method=self.rng.choice(("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW", "POST")), path=path
    )

  async def post(self, data: bytes, kind: str = "application/json", *, method: str = "POST", path: str = "") -> str:
    """The status of one HTTP call, by hand: a client library would refuse to send most of this."""
    path = path or self.rng.choice(("/v1/completions", "/v1/chat/completions"))
    reader, writer = await asyncio.open_connection(self.http_host, int(self.http_port))
    try:
      head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
      writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
      await writer.drain()
      line = await reader.readline()
      while await reader.read(1 << 16):
        pass
      return line.split()[1].decode() if line else "closed"
    except ConnectionError:
      return "closed"
    finally:
      writer.close()


def good_answer(server: ServerProcess) -> str:
  """The text of one good request."""
  body = json.dumps({"prompt": "2 + 2 =", "max_tokens": 8, "temperature": 0}).encode()
  with urllib.request.urlopen(f"{server.http_address}/v1/completions", data=body, timeout=PATIENCE) as answer:
    return json.load(answer)["choices"][0]["text"]


async def fuzz(server: ServerProcess, count: int, seed: int) -> dict[str, int]:
  """Sends `count` requests, 20 at a time; outcomes by kind."""
  expected = await asyncio.to_thread(good_answer, server)
  fuzzer = Fuzzer(server, seed)
  for start in range(0, count, 100):
    for _ in range(5):
      await asyncio.gather(*(fuzzer.one() for _ in range(min(20, count - start))))
    server.check()
    if await asyncio.to_thread(good_answer, server) != expected:
      raise RuntimeError(f"a good request was answered differently after {start} malformed ones")
  await fuzzer.channel.close()
  return dict(sorted(fuzzer.outcomes.items()))


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: malformed requests survived, hangs among them, and tracebacks that they left in the log."""
  parser = argparse.ArgumentParser("skymath bench serving_fuzz")
  parser.add_argument("--requests", type=int, default=6000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--model", default="asset:micro_teacher")
  chosen = parser.parse_args(arguments)
  command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={chosen.model}", "--port=0"]
  with ServerProcess([*command, "--slots=16", "--max_length=256", "--exit_with_parent"]) as server:
    server.wait_until_ready(600)
    outcomes = asyncio.run(fuzz(server, chosen.requests, chosen.seed))
    server.check()
    counters = server.counters()
  log = server.log_path.read_text(errors="replace")
  hangs = sum(count for name, count in outcomes.items() if name.endswith("HANG"))
  settings = {
    "outcomes": outcomes,
    "slots_busy_at_the_end": counters["slots_busy"],
    "exit_code": server.process.returncode,
    "log_bytes": len(log),
  }
  yield {
    "name": "serving.fuzz",
    "value": sum(outcomes.values()),
    "unit": "malformed requests survived",
    "settings": settings,
  }
  yield {"name": "serving.fuzz.hangs", "value": hangs, "unit": "requests not answered in 30 s"}
  yield {"name": "serving.fuzz.tracebacks", "value": log.count("Traceback (most recent"), "unit": "in the server's log"}
