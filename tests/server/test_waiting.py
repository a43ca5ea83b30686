"""Who waits longer than a client has patience is told that the engine works, and is told nothing where it is stuck."""

import asyncio
import json
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.server import jobs
from skymath_jax.server.serve import start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.null_engine import NullEngine, NullSlots, answer
from skymath_jax.testing.tokenizers import CodePointTokenizer

SILENCE = 0.3  # seconds
STEP = 0.02  # so forty tokens take longer than that


class StuckSlots(NullSlots):
  """A call of the engine that does not end until `go`."""

  def __init__(self, count):
    super().__init__(count)
    self.go = threading.Event()

  def generate(self):
    rows, go = super().generate(), self.go

    class Waiting:
      def __array__(self, dtype=None, copy=None):
        go.wait()
        return np.asarray(rows)

    return Waiting()


@pytest.fixture
def serve(monkeypatch):
  """Starts a server over slots of which nothing else is known."""
  monkeypatch.setattr(jobs, "WORD_SECONDS", SILENCE / 6)
  servers = []

  def start(slots):
    servers.append(start_engine(NullEngine(), slots, CodePointTokenizer(), "null@0", ServerSettings(port=0)))
    return servers[-1]

  yield start
  for server in servers:
    server.stop()


def prompt(number):
  return chr(97 + number)


def expected(number, max_tokens):
  coder = CodePointTokenizer()
  return coder.decode(answer(coder.encode(prompt(number), bos=True), max_tokens))


def ask(server, *clients):
  """What each client got: (answers, requests sent), or the error. A client is the `max_tokens` of its requests."""

  async def one(sizes):
    address = f"127.0.0.1:{server.port}"
    client = JetStreamGenerator([address], CodePointTokenizer(), "m@0", concurrency=32, silence=SILENCE, attempts=1)
    requests = [Request(id=str(i), prompt=prompt(i), sampling=Sampling(max_tokens=n)) for i, n in enumerate(sizes)]
    try:
      return [response.text for response in await asyncio.gather(*map(client.complete, requests))], client.stats.sent
    finally:
      await client.close()

  async def run():
    return await asyncio.gather(*map(one, clients), return_exceptions=True)

  return asyncio.run(run())


def whole(*sizes):
  return [expected(i, n) for i, n in enumerate(sizes)], len(sizes)


def test_a_long_response_alone(serve):
  server = serve(NullSlots(1, steps_per_call=1, step_seconds=STEP))
  assert ask(server, [40]) == [whole(40)]


def test_a_client_whose_only_request_waits_behind_those_of_others(serve):
  server = serve(NullSlots(1, steps_per_call=1, step_seconds=STEP))
  assert ask(server, [20] * 4, [20], [20]) == [whole(*[20] * 4), whole(20), whole(20)]


def test_calls_of_the_engine_longer_than_a_word_takes(serve):
  server = serve(NullSlots(1, steps_per_call=8, step_seconds=STEP))
  assert ask(server, [40], [40]) == [whole(40), whole(40)]


def test_an_engine_that_is_stuck_has_nothing_to_say(serve):
  slots = StuckSlots(1)
  server = serve(slots)
  try:
    [error] = ask(server, [4])
  finally:
    slots.go.set()
  assert isinstance(error, UserError) and "fallen silent" in str(error)


def test_a_client_of_stock_jetstream_finds_a_sample_in_each_message(serve):
  server = serve(NullSlots(1, steps_per_call=1, step_seconds=STEP))

  async def parts():
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
      message = jetstream_pb2.DecodeRequest(max_tokens=30, token_content={"token_ids": [5]})
      call = jetstream_pb2_grpc.OrchestratorStub(channel).Decode(message)
      return [list(part.stream_content.samples[0].token_ids) async for part in call]

  found = asyncio.run(parts())
  assert [token for part in found for token in part] == answer([5], 30) and found.count([]) >= 2


@pytest.mark.parametrize("chosen", [{"prompt": "a"}, {"prompt": [7], "n": 2}])
def test_a_stream_over_http_says_nothing_in_between(serve, chosen):
  """The slot is another's for as long as twenty tokens take; the empty pieces change nothing of the text."""
  server = serve(NullSlots(1, steps_per_call=1, step_seconds=STEP))
  whole_text, _ = events(server, chosen)
  other = threading.Thread(target=ask, args=(server, [30]))
  other.start()
  while not server.driver.busy:
    time.sleep(0.01)
  text, empty = events(server, chosen)
  other.join()
  assert text == whole_text and len(set(text.values())) == 1 and empty >= 1


def events(server, chosen):
  """(text of each choice, number of empty pieces before the last) of a streamed completion."""
  body = json.dumps({"model": "null@0", "max_tokens": 4, "stream": True, "seed": 1, **chosen}).encode()
  url = f"http://127.0.0.1:{server.http_port}/v1/completions"
  request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
  text, empty = {}, 0
  with urllib.request.urlopen(request) as answered:
    for line in answered:
      data = line.decode().strip().removeprefix("data: ")
      if data and data != "[DONE]":
        [choice] = json.loads(data)["choices"]
        text[choice["index"]] = text.get(choice["index"], "") + choice["text"]
        empty += not choice["text"] and choice["finish_reason"] is None
  return text, empty
