"""The gRPC client against small fake servers (the real one is in tests/server/test_server.py)."""

import asyncio
import subprocess
import sys

import grpc
import pytest
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator


class Letters:
  def encode(self, text, *, bos=False):
    return [1] * bos + [ord(c) for c in text]

  def decode(self, ids):
    return "".join(map(chr, ids))


class Fake(jetstream_pb2_grpc.OrchestratorServicer):
  """Fails with each of `codes` in turn, then echoes the prompt backwards in two messages; answers so many at once."""

  def __init__(self, *codes, delay=0.0, at_once=1000):
    self.free = asyncio.Semaphore(at_once)
    self.codes, self.delay, self.seen, self.running, self.most = list(codes), delay, [], 0, 0

  async def HealthCheck(self, request, context):  # noqa: N802
    return jetstream_pb2.HealthCheckResponse(is_live=True)

  async def Decode(self, request, context):  # noqa: N802
    self.seen.append(dict(context.invocation_metadata()))
    self.running += 1
    self.most = max(self.most, self.running)
    try:
      async with self.free:
        await asyncio.sleep(self.delay)
      if self.codes:
        await context.abort(self.codes.pop(0), "as told")
      ids = list(request.token_content.token_ids)[:0:-1]
      for part in (ids[:2], ids[2:]):
        sample = jetstream_pb2.DecodeResponse.StreamContent.Sample(token_ids=part)
        yield jetstream_pb2.DecodeResponse(stream_content=jetstream_pb2.DecodeResponse.StreamContent(samples=[sample]))
    finally:
      self.running -= 1


def ask(fakes, requests, **options):
  """Results (exceptions in place) and statistics."""

  async def run():
    servers, addresses = [], []
    for fake in fakes:
      server = grpc.aio.server()
      jetstream_pb2_grpc.add_OrchestratorServicer_to_server(fake, server)
      addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
      await server.start()
      servers.append(server)
    client = JetStreamGenerator(addresses, Letters(), "m@0", **({"concurrency": 32, "first_pause": 0.001} | options))
    try:
      return await asyncio.gather(*map(client.complete, requests), return_exceptions=True), client.stats
    finally:
      await client.close()
      await asyncio.gather(*(server.stop(0) for server in servers))

  return asyncio.run(run())


def request(prompt="abcd", **sampling):
  return Request(id="1", prompt=prompt, sampling=Sampling(**sampling))


PASSING = [
  *(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED),
  *(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED),
]


def test_what_may_pass_is_asked_again():
  [response], stats = ask([Fake(*PASSING)], [request(max_tokens=9)])
  assert (response.text, response.prompt_tokens, response.completion_tokens) == ("dcba", 5, 4)
  assert (stats.sent, stats.retried, stats.completed, stats.failed) == (5, 4, 1, 0)


@pytest.mark.parametrize(
  "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED]
)
def test_what_will_not_pass_is_not(code):
  [error], stats = ask([Fake(code)], [request()])
  assert isinstance(error, UserError) and "as told" in str(error)
  assert isinstance(error, RequestRejected) == (code == grpc.StatusCode.INVALID_ARGUMENT)
  assert (stats.sent, stats.retried, stats.failed) == (1, 0, 1)


def test_it_gives_up_in_the_end_naming_the_address():
  [error], stats = ask([Fake(*[grpc.StatusCode.UNAVAILABLE] * 9)], [request()], attempts=3)
  assert isinstance(error, UserError) and "after 3 attempts" in str(error) and "127.0.0.1:" in str(error)
  assert stats.sent == 3


def test_a_server_that_says_nothing_is_given_up_in_each_attempt():
  fake = Fake(delay=5)
  [error], stats = ask([fake], [request()], attempts=2, silence=0.2)
  assert "it has fallen silent" in str(error) and stats.sent == 2


def test_a_request_may_wait_far_longer_than_that_while_the_server_works_for_others():
  """One answer at a time, each in half of what silence may last: the last request waits eight times as long."""
  fake = Fake(delay=0.05, at_once=1)
  answers, stats = ask([fake], [request() for _ in range(16)], silence=0.1)
  assert [a.text for a in answers] == ["dcba"] * 16 and stats.sent == 16


def test_no_more_calls_than_allowed_and_replicas_share_them():
  fakes = [Fake(delay=0.02), Fake(delay=0.02)]
  answers, stats = ask(fakes, [request() for _ in range(24)], concurrency=6)
  assert stats.completed == 24 and all(a.text == "dcba" for a in answers)
  assert max(fake.most for fake in fakes) <= 3 and min(len(fake.seen) for fake in fakes) >= 8


def test_sampling_travels_exactly_and_stop_texts_cut():
  fake = Fake()
  [response], _ = ask(
    [fake], [request(temperature=0.7, top_p=0.95, top_k=3, seed=2**40 + 1, stop=("cb",), max_tokens=4)]
  )
  sent = fake.seen[0]
  assert (float(sent["temperature"]), float(sent["top_p"]), int(sent["top_k"])) == (0.7, 0.95, 3)
  assert int(sent["seed"]) == 2**40 + 1 and sent["stop-bin"] == b'["cb"]'
  assert (response.text, response.finish_reason) == ("d", "stop")


def test_without_a_reason_from_the_server_the_length_decides():
  [full], _ = ask([Fake()], [request(max_tokens=4)])
  assert full.finish_reason == "length"


def test_a_server_that_is_not_there():
  async def run():
    client = JetStreamGenerator(["127.0.0.1:1"], Letters(), "m", concurrency=1, attempts=2, first_pause=0.001)
    try:
      await client.complete(request())
    finally:
      await client.close()

  with pytest.raises(UserError, match=r"UNAVAILABLE(?s:.*)skymath serve"):
    asyncio.run(run())


def test_a_full_server_is_asked_until_it_has_room_but_not_for_ever():
  full = [grpc.StatusCode.RESOURCE_EXHAUSTED]
  [response], stats = ask([Fake(*full * 9)], [request()], attempts=2)
  assert response.text == "dcba" and stats.sent == 10
  [error], stats = ask([Fake(*full * 10_000)], [request()], attempts=3, silence=0.3, first_pause=0.05)
  assert isinstance(error, UserError) and "RESOURCE_EXHAUSTED" in str(error)


def test_a_replica_that_fails_is_left_alone_and_its_requests_go_elsewhere():
  dead, alive = Fake(*[grpc.StatusCode.UNAVAILABLE] * 10_000), Fake(delay=0.002)
  answers, stats = ask([dead, alive], [request() for _ in range(200)], concurrency=8, attempts=3)
  assert [a.text for a in answers] == ["dcba"] * 200
  assert stats.completed == 200 and stats.sent == 200 + stats.retried
  assert len(dead.seen) <= 12, "it was asked again and again"


@pytest.mark.parametrize("blips", [1, 2])
def test_while_none_can_be_had_the_one_that_stumbled_is_asked_rather_than_the_dead_one(blips):
  """Few attempts, and answers that take longer than all pauses between them."""
  dead = Fake(*[grpc.StatusCode.UNAVAILABLE] * 10_000)
  alive = Fake(*[grpc.StatusCode.UNAVAILABLE] * blips, delay=0.3, at_once=2)
  answers, _ = ask([dead, alive], [request() for _ in range(20)], attempts=4, first_pause=0.01)
  assert [getattr(a, "text", a) for a in answers] == ["dcba"] * 20


def test_a_replica_that_comes_back_is_used_again(monkeypatch):
  monkeypatch.setattr("skymath_jax.generation.jetstream.FIRST_COOLDOWN_SECONDS", 0.05)
  flaky, other = Fake(*[grpc.StatusCode.UNAVAILABLE] * 3, delay=0.005), Fake(delay=0.005)
  answers, _ = ask([flaky, other], [request() for _ in range(500)], concurrency=4)
  assert [a.text for a in answers] == ["dcba"] * 500
  assert len(flaky.seen) > 100


def test_requests_of_a_replica_that_hangs_are_given_to_another(monkeypatch):
  """It accepts connections and calls, and never answers anything, its health check included."""
  monkeypatch.setattr("skymath_jax.generation.jetstream.HEALTH_CHECK_SECONDS", 0.1)

  class Hanging(Fake):
    async def HealthCheck(self, request, context):  # noqa: N802
      await asyncio.sleep(30)

  hanging, alive = Hanging(delay=30), Fake()
  answers, stats = ask([hanging, alive], [request() for _ in range(20)], concurrency=6)
  assert [a.text for a in answers] == ["dcba"] * 20 and stats.completed == 20
  assert 0 < len(hanging.seen) == stats.retried < 20


def test_a_killed_server_loses_nothing_and_doubles_nothing():
  """Two server processes; one is killed with SIGKILL while it works on many requests."""
  children = [subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) for _ in range(2)]
  try:
    addresses = [f"127.0.0.1:{int(child.stdout.readline())}" for child in children]

    async def run():
      client = JetStreamGenerator(addresses, Letters(), "m@0", concurrency=32, first_pause=0.01)
      asked = [Request(id=str(i), prompt=f"a{i}", sampling=Sampling()) for i in range(400)]
      seen = []
      async for response in client.generate(asked):
        seen.append(response)
        if len(seen) == 100:
          children[0].kill()
      await client.close()
      return seen, client.stats

    seen, stats = asyncio.run(run())
  finally:
    for child in children:
      child.kill()
      child.wait()
  assert sorted((r.id for r in seen), key=int) == [str(i) for i in range(400)]
  assert all(r.text == f"a{r.id}"[::-1] for r in seen)
  assert stats.completed == 400 and stats.retried >= 1


SERVER = """
import asyncio, grpc
from jetstream.core.proto import jetstream_pb2_grpc
from tests.generation.test_jetstream import Fake
async def main():
  server = grpc.aio.server()
  jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Fake(delay=0.02), server)
  port = server.add_insecure_port("127.0.0.1:0")
  await server.start()
  print(port, flush=True)  # who reads it finds the server there
  await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_run_begins_with_the_replicas_that_are_there(capfd):
  async def run():
    server = grpc.aio.server()
    jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Fake(), server)
    alive = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    client = JetStreamGenerator(["127.0.0.1:9", alive], Letters(), "m@0", concurrency=4)
    await client.check(seconds=0.5)
    answers = [
      await client.complete(Request(id=str(i), prompt="ab", sampling=Sampling(max_tokens=4))) for i in range(4)
    ]
    retried = client.stats.retried
    await client.close()
    nobody = JetStreamGenerator(["127.0.0.1:9", "127.0.0.1:10"], Letters(), "m@0", concurrency=4)
    with pytest.raises(UserError, match=r"127.0.0.1:9, 127.0.0.1:10: no healthy JetStream server answers here"):
      await nobody.check(seconds=0.5)
    await nobody.close()
    await server.stop(None)
    return answers, retried

  answers, retried = asyncio.run(run())
  assert [answer.text for answer in answers] == ["ba"] * 4 and retried == 0
  assert "127.0.0.1:9: no healthy JetStream server answers here" in capfd.readouterr().err
