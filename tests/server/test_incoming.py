"""A server among strangers: what is large, slow, silent, malformed or too much keeps nobody else waiting."""

import asyncio
import gc
import gzip
import http.client
import json
import logging
import queue
import socket
import threading
import time
import types
import unittest.mock

import grpc
import pytest
from aiohttp import web
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.engine.batching import Job
from skymath_jax.engine.types import Prompt
from skymath_jax.generation import Request, RequestRejected
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.server import incoming, serve
from skymath_jax.server.fair import LOOPBACK, FairQueue, Waiting, client_of
from skymath_jax.server.serve import start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.null_engine import NullEngine, NullSlots
from skymath_jax.testing.tokenizers import CodePointTokenizer


@pytest.fixture(scope="module")
def server():
  slots = NullSlots(16, steps_per_call=8, step_seconds=0.002)
  running = start_engine(NullEngine(), slots, CodePointTokenizer(), "null@0", ServerSettings(port=0))
  yield running
  running.stop()


def post(server, body, headers=None, path="/v1/completions"):
  """Status and body of one call on a connection of its own."""
  connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
  data = body if isinstance(body, bytes) else json.dumps(body).encode()
  try:
    connection.request("POST", path, data, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
  finally:
    connection.close()


def slowest_health(server, meanwhile):
  """Seconds of the slowest of the fastest 99 % of calls of /health while `meanwhile` runs in other threads."""
  threads = [threading.Thread(target=work) for work in meanwhile]
  for thread in threads:
    thread.start()
  taken = []
  while any(thread.is_alive() for thread in threads) or len(taken) < 20:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    start = time.perf_counter()
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    taken.append(time.perf_counter() - start)
    connection.close()
    time.sleep(0.005)
  return sorted(taken)[int(0.99 * (len(taken) - 1))]


MEGABYTES = 4_000_000
LARGE = {
  "a prompt": b'{"prompt": "' + b"x " * (MEGABYTES // 2 - 10) + b'"}',
  "numbers": b'{"prompt": [' + b"1," * (MEGABYTES // 2 - 10) + b"1]}",
  "objects": b'{"prompt": [' + b"{}," * (MEGABYTES // 3 - 10) + b"{}]}",
  "many texts": json.dumps({"prompt": ["word " * 6000] * 128}).encode(),
  "messages": json.dumps({"messages": [{"role": "user", "content": "x" * 99}] * 30_000}).encode(),
}


def test_health_answers_at_once_whatever_is_asked_beside(server):
  seen = set()

  def http_calls():
    for name, body in LARGE.items():
      seen.add(post(server, body, path="/v1/chat/completions" if name == "messages" else "/v1/completions")[0])

  def grpc_calls():
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
      stub = jetstream_pb2_grpc.OrchestratorStub(channel)
      for content in ({"text_content": {"text": "x " * 2_000_000}}, {"token_content": {"token_ids": [1] * 3_000_000}}):
        with pytest.raises(grpc.RpcError) as refused:
          list(stub.Decode(jetstream_pb2.DecodeRequest(max_tokens=1, **content)))
        seen.add(refused.value.code().name)

  assert slowest_health(server, [http_calls, http_calls, grpc_calls]) < 0.3  # a tenth on a machine that is not busy
  assert seen <= {400, 413, "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


def test_our_client_does_not_send_a_prompt_again_that_is_too_large(server):
  async def ask():
    client = JetStreamGenerator([f"127.0.0.1:{server.port}"], CodePointTokenizer(), "null@0", concurrency=1)
    try:
      await client.complete(Request(id="7", prompt="x" * 2_000_000))
    finally:
      await client.close()

  with pytest.raises(RequestRejected, match=r"request 7 .*larger than max"):
    asyncio.run(ask())


@pytest.mark.parametrize(
  "headers",
  [
    {"Content-Type": "application/json; charset=punycode"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/json; charset=no-such"},
    {"Content-Encoding": "gzip"},
  ],
)
def test_bodies_are_utf8_and_not_compressed(server, headers):
  body = gzip.compress(b"x" * 10_000) if "Content-Encoding" in headers else b'{"prompt": "x"}'
  assert post(server, body, headers)[0] == 415
  assert post(server, {"prompt": "x", "max_tokens": 1}, {"Content-Type": "application/json; charset=UTF-8"})[0] == 200


def test_a_prompt_of_more_than_128_ids_is_served(server):
  status, text = post(server, {"prompt": [5] * 300, "max_tokens": 1})
  assert status == 200 and json.loads(text)["usage"]["prompt_tokens"] == 300


def test_a_token_that_is_no_text_is_a_wrong_token():
  settings = ServerSettings(port=0, token="secret")
  server = start_engine(NullEngine(), NullSlots(2), CodePointTokenizer(), "null@0", settings)
  try:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as raw:
      raw.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
      assert raw.recv(100).startswith(b"HTTP/1.1 401")
  finally:
    server.stop()


def closes_within(raw, seconds):
  """Whether the server ends the connection in time."""
  raw.settimeout(seconds)
  try:
    while raw.recv(1000):
      pass
  except TimeoutError:
    return False
  except ConnectionError:
    pass
  return True


def test_connections_that_ask_nothing_are_closed_and_streams_are_not(server, monkeypatch):
  monkeypatch.setattr(incoming, "IDLE_SECONDS", 1.5)
  address = ("127.0.0.1", server.http_port)
  silent, half, idle, stream = (socket.create_connection(address) for _ in range(4))
  half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Half: ")
  idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
  body = json.dumps({"prompt": "x", "max_tokens": 3000, "stream": True}).encode()  # 6 s
  stream.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
  assert all(closes_within(raw, 4.0) for raw in (silent, half, idle))
  assert not closes_within(stream, 0.5)
  stream.close()


def test_who_asks_takes_the_place_of_who_does_not():
  async def run():
    handlers = types.SimpleNamespace(request_handler=None, request_factory=None, connections=[])
    handlers.connection_made = lambda handler, transport: handlers.connections.append(handler)
    handlers.connection_lost = lambda handler, error: None
    made = incoming.Connections(handlers, 3)
    closed = []

    def connect(name):
      connection = made()
      transport = types.SimpleNamespace(
        close=lambda: closed.append(name), get_extra_info=lambda *_: None, write=lambda data: closed.append(data)
      )
      if isinstance(connection, incoming._Refusal):
        closed.append("refused")
      else:
        connection.connection_made(transport)
      return connection

    first, second, _third = (connect(name) for name in "abc")
    first.idle_since = None  # its request is being answered
    connect("d")
    assert closed == ["b"] and second.transport is None
    for connection in handlers.connections:
      connection.idle_since = None
    connect("e")
    assert closed == ["b", "refused"]

  asyncio.run(run())


@pytest.mark.parametrize(
  "header, body",
  [
    (b"Content-Length: 1000", b"{"),
    (b"Transfer-Encoding: chunked", b"1\r\n{\r\n"),
    (b"Expect: 100-continue\r\nContent-Length: 9", b""),
  ],
)
def test_bodies_that_do_not_end_keep_nobody_out(monkeypatch, header, body):
  monkeypatch.setattr(incoming, "connections_for_each", lambda: 6)
  running = start_engine(NullEngine(), NullSlots(4), CodePointTokenizer(), "null@0", ServerSettings(port=0))
  begun = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + body
  try:
    slow = [socket.create_connection(("127.0.0.1", running.http_port)) for _ in range(6)]
    for each in slow:
      each.sendall(begun)
    time.sleep(0.3)
    assert [post(running, {"prompt": "x", "max_tokens": 1})[0] for _ in range(4)] == [200] * 4
    for each in slow:
      each.close()
  finally:
    running.stop()


def test_trouble_of_one_kind_is_one_line_a_minute(capsys, monkeypatch):
  clock = [1000.0]
  monkeypatch.setattr(incoming.time, "monotonic", lambda: clock[0])
  asyncio_logger, server_logger = logging.Logger("asyncio"), logging.Logger("aiohttp.server")
  handler = incoming.OneLine()
  asyncio_logger.addHandler(handler)
  server_logger.addHandler(handler)
  for number in range(500):
    try:
      raise OSError(24, "Too many open files")
    except OSError:
      asyncio_logger.exception("socket.accept() out of system resource %d", number)
    server_logger.error("Error handling request from 10.0.0.1:%d", number)
  clock[0] += 61
  server_logger.error("Error handling request from 10.0.0.1:%d", 1)
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 3 and "Too many open files" in lines[0] and "Traceback" not in "".join(lines)
  assert lines[2].endswith("499 more like this before")


def job(client, call):
  return Job(prompt=Prompt(tokens=(1,), max_tokens=1), owner=(client, call))


def test_whoever_has_least_under_way_is_next():
  under_way = []
  line = FairQueue(lambda: under_way)
  for owner in [("a", "1")] * 5 + [("a", "2")] * 2 + [("b", "3")] * 2:
    line.put(types.SimpleNamespace(job=job(*owner)))
  order = []
  while not line.empty():
    under_way.append(line.get_nowait().job)
    order.append("".join(under_way[-1].owner))
  assert order == ["a1", "b3", "a2", "b3", "a1", "a2", "a1", "a1", "a1"]
  line.put(types.SimpleNamespace(job=job("a", "1")))
  line.put(None)
  assert line.get_nowait() is None and line.qsize() == 1


def test_one_machine_is_one_client_however_its_address_is_spelt():
  for address in ("127.0.0.1", "::1", "%5B::1%5D", "127.9.9.9", "::ffff:127.0.0.1"):
    assert client_of(address) == LOOPBACK
  assert client_of("::ffff:10.1.2.3") == client_of("10.1.2.3") != client_of("10.1.2.4")
  of_one = {client_of(address) for address in ("2001:db8:0:7::1", "%5B2001:db8:0:7:ffff::9%5D")}
  assert len(of_one) == 1 and client_of("2001:db8:0:8::1") not in of_one
  assert client_of("fe80::1%25eth0") == client_of("fe80::1%eth0") == client_of("fe80::1")
  assert client_of("") == "" and client_of("unix:") == "unix:"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_http_and_grpc_by_ipv6_are_the_same_client(host, monkeypatch):
  if not socket.has_ipv6:
    pytest.skip("no IPv6 here")
  running = start_engine(NullEngine(), NullSlots(4), CodePointTokenizer(), "null@0", ServerSettings(host=host, port=0))
  try:
    owners, ask = [], running.driver.ask
    monkeypatch.setattr(running.driver, "ask", lambda *a, **more: owners.append(more["owner"][0]) or ask(*a, **more))
    connection = http.client.HTTPConnection("::1", running.http_port, timeout=60)
    connection.request("POST", "/v1/completions", b'{"prompt": "hi", "max_tokens": 2}')
    assert connection.getresponse().status == 200
    with grpc.insecure_channel(f"[::1]:{running.port}") as channel:
      ids = jetstream_pb2.DecodeRequest.TokenContent(token_ids=[1, 50])
      message = jetstream_pb2.DecodeRequest(max_tokens=2, token_content=ids)
      assert list(jetstream_pb2_grpc.OrchestratorStub(channel).Decode(message, timeout=60))
    connection.close()
  finally:
    running.stop()
  assert owners == [LOOPBACK] * 2


def test_a_full_queue_takes_a_newcomer_in_the_place_of_one_of_who_has_many():
  waiting = Waiting(4)
  jobs = [job("a", "1") for _ in range(4)]
  assert [waiting.add(one) for one in jobs] == [None] * 4
  assert waiting.add(job("b", "2")) is jobs[3]
  assert waiting.add(job("a", "3")) is jobs[2]  # of the same machine, but another call
  with pytest.raises(queue.Full):
    waiting.add(job("a", "1"))
  assert len(waiting) == 4 and waiting.discard(jobs[0]) and not waiting.discard(jobs[0])
  assert len(waiting.clear()) == 3 and len(waiting) == 0


def test_one_token_is_not_kept_waiting_by_thousands_that_others_asked_for(server):
  many = {"prompt": "x" * 30, "max_tokens": 200, "n": 64}
  threads = [threading.Thread(target=post, args=(server, many)) for _ in range(60)]
  for thread in threads:
    thread.start()
  while server.driver.waiting < 3000 and any(thread.is_alive() for thread in threads):
    time.sleep(0.01)
  start = time.monotonic()
  status, _ = post(server, {"prompt": "y", "max_tokens": 1})
  assert status == 200 and time.monotonic() - start < 5  # all of them take 100 s


def test_a_connection_that_is_lost_before_it_had_its_turn_is_no_fault():
  faults = []

  async def run():
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    connection = incoming.Connections(web.Server(lambda _: None), 10)()
    connection.connection_made(unittest.mock.MagicMock(spec=asyncio.Transport))
    connection.connection_lost(None)
    await asyncio.sleep(0)
    del connection
    gc.collect()

  asyncio.run(run())
  gc.collect()
  assert faults == []


def test_what_a_long_garbage_collection_has_found_in_use_is_passed_over(server, monkeypatch):
  kept = [[] for _ in range(100_000)]
  before = gc.get_freeze_count()
  monkeypatch.setattr(serve, "LONG_COLLECTION", 1e9)
  gc.collect()
  assert gc.get_freeze_count() <= before
  monkeypatch.setattr(serve, "LONG_COLLECTION", 0.0)
  gc.collect()
  assert gc.get_freeze_count() - before >= len(kept)
