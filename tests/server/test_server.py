"""JetStream end to end over loopback gRPC and HTTP, one server in this process (see the `server` fixture)."""

import asyncio
import contextlib
import itertools
import json
import logging
import threading
import time

import grpc
import pytest
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.server.forms import Completion
from tests.support.serving import MAX_LENGTH, by_id, http, local_generator, requests, start_server, start_slow_server

SERVER_THREADS = ("prefill", "generate", "transfer", "detokenize", "event-loop")


def ask(server, tokenizer, asked, **options):
  """All responses through the gRPC client, exceptions in their places, and the client's statistics."""

  async def run():
    client = JetStreamGenerator(
      [f"127.0.0.1:{server.port}"], tokenizer, "tiny@0", **({"concurrency": 64, "first_pause": 0.05} | options)
    )
    try:
      return await asyncio.gather(*map(client.complete, asked), return_exceptions=True), client.stats
    finally:
      await client.close()

  return asyncio.run(run())


def counters(server):
  return server.driver.counters.read()


def wait_until_idle(server, seconds=20.0):
  end = time.monotonic() + seconds
  while server.driver.busy or server.driver.waiting:
    assert time.monotonic() < end, "slots or queue are not given back"
    time.sleep(0.02)


@pytest.fixture(scope="module")
def local(decoder, tokenizer):
  return local_generator(decoder, tokenizer)


def test_grpc_gives_what_the_local_engine_gives_and_both_sides_count_alike(server, tokenizer, local):
  asked, before = requests(24), counters(server)
  answers, stats = ask(server, tokenizer, asked, concurrency=8)
  assert by_id(answers) == by_id(local.generate_all(asked))
  after = counters(server)
  assert stats.completed == 24 == after["completed"] - before["completed"]
  for name in ("prompt_tokens", "completion_tokens"):
    assert getattr(stats, name) == after[name] - before[name] > 0


def test_more_requests_than_slots_and_queue_are_refused_and_come_through_in_the_end(server, tokenizer, local):
  asked, before = requests(40, max_tokens=12), counters(server)
  answers, stats = ask(server, tokenizer, asked, concurrency=40, attempts=20)
  assert by_id(answers) == by_id(local.generate_all(asked))
  refused = counters(server)["refused"] - before["refused"]
  assert refused == stats.retried > 0
  assert stats.sent == 40 + refused


def decode(server, content, metadata=(), max_tokens=4):
  """One bare call: tokens, texts and trailing metadata, or the RpcError."""
  with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
    stub = jetstream_pb2_grpc.OrchestratorStub(channel)
    call = stub.Decode(jetstream_pb2.DecodeRequest(max_tokens=max_tokens, **content), metadata=metadata)
    samples = [sample for part in call for sample in part.stream_content.samples]
    return [list(s.token_ids) for s in samples], [s.text for s in samples], dict(call.trailing_metadata())


def joined(messages):
  return list(itertools.chain.from_iterable(messages))


def token_content(*ids):
  return {"token_content": jetstream_pb2.DecodeRequest.TokenContent(token_ids=ids)}


def test_a_plain_jetstream_client_is_served(server, tokenizer, local):
  [expected] = local.generate_all([Request(id="1", prompt="hello", sampling=Sampling(max_tokens=10))])
  text = {"text_content": jetstream_pb2.DecodeRequest.TextContent(text="hello")}
  tokens, texts, trailing = decode(server, text, max_tokens=10)
  assert "".join(texts) == expected.text and tokenizer.decode(joined(tokens)) == expected.text
  assert trailing["finish-reason"] == expected.finish_reason
  ids = token_content(*tokenizer.encode("hello", bos=True))
  assert joined(decode(server, ids, max_tokens=10)[0]) == joined(tokens)
  with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
    assert jetstream_pb2_grpc.OrchestratorStub(channel).HealthCheck(jetstream_pb2.HealthCheckRequest()).is_live


def test_tokens_come_at_once_or_as_they_are_made(server, local):
  ids = token_content(1, 50, 51)
  metadata = [("temperature", "0.9"), ("seed", "5")]
  whole, _, _ = decode(server, ids, metadata, max_tokens=11)
  pieces, _, _ = decode(server, ids, [*metadata, ("stream", "1")], max_tokens=11)
  assert len(whole) == 1 and [len(p) for p in pieces] == [4, 4, 3]
  assert joined(pieces) == whole[0]


@pytest.mark.parametrize(
  ("content", "metadata", "max_tokens"),
  [
    (token_content(), (), 4),
    (token_content(5, 260), (), 4),
    (token_content(5, -1), (), 4),
    (token_content(*[5] * MAX_LENGTH), (), 4),
    (token_content(5), (), 0),
    (token_content(5), (), -1),
    (token_content(5), (), -(2**31)),
    (token_content(5), (), MAX_LENGTH + 1),
    (token_content(5), (), 2**31 - 1),
    (token_content(2**31 - 1), (), 4),
    (token_content(5), [("stop-tokens", "1,x")], 4),
    (token_content(5), [("stop-bin", json.dumps(["x" * 257]).encode())], 4),
    (token_content(5), [("stop-bin", json.dumps(["x"] * 17).encode())], 4),
    (token_content(5), [("stop-bin", b"{}")], 4),
    (token_content(5), [("temperature", "warm")], 4),
    (token_content(5), [("temperature", "nan")], 4),
    (token_content(5), [("top_p", "0")], 4),
    (token_content(5), [("top_k", "-3")], 4),
    (token_content(5), [("seed", "-1")], 4),
    (token_content(5), [("stop-bin", b"[")], 4),
    (token_content(5), [("stop-bin", b"[3]")], 4),
    ({}, (), 4),
  ],
)
def test_bad_requests_are_refused_before_they_are_queued(server, content, metadata, max_tokens):
  before = counters(server)
  with pytest.raises(grpc.RpcError) as error:
    decode(server, content, metadata, max_tokens)
  assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value.details()
  after = counters(server)
  assert after["accepted"] == before["accepted"] and after["rejected"] == before["rejected"] + 1


def test_the_client_does_not_retry_what_was_refused(server, tokenizer):
  [error], stats = ask(server, tokenizer, [Request(id="x", prompt="z" * 99, sampling=Sampling())])
  assert isinstance(error, RequestRejected) and "share 64" in str(error)
  assert stats.retried == 0 and stats.failed == 1


def test_a_client_that_leaves_gives_its_slot_back(server):
  with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
    stub, calls = jetstream_pb2_grpc.OrchestratorStub(channel), []
    before = counters(server)
    for i in range(6):  # four in slots, two in the queue, which could hold all six
      message = jetstream_pb2.DecodeRequest(max_tokens=60, **token_content(5 + i, 9))
      calls.append(stub.Decode(message, metadata=[("stream", "1")]))
    with contextlib.suppress(StopIteration):
      next(iter(calls[0]))
    for call in calls:
      call.cancel()
    wait_until_idle(server)
  after = counters(server)
  done = {name: after[name] - before[name] for name in ("completed", "cancelled", "failed")}
  assert done["cancelled"] > 0 and done["failed"] == 0
  assert sum(done.values()) == after["accepted"] - before["accepted"]


def test_a_prompt_that_fails_in_prefill_fails_alone(server, tokenizer, local, monkeypatch):
  real = Engine.prefill

  def prefill(self, prompts):
    if len(prompts[0].tokens) == 14:
      raise RuntimeError("injected")
    return real(self, prompts)

  good = requests(4)
  expected = by_id(local.generate_all(good))
  monkeypatch.setattr(Engine, "prefill", prefill)
  bad = Request(id="bad", prompt="k" * 13, sampling=Sampling(max_tokens=4))
  answers, stats = ask(server, tokenizer, [*good[:2], bad, *good[2:]])
  assert isinstance(answers[2], UserError) and "INTERNAL" in str(answers[2]) and "injected" in str(answers[2])
  assert by_id(a for a in answers if not isinstance(a, Exception)) == expected
  assert stats.retried == 0


@pytest.mark.parametrize("place", ["insert", "generate"])
def test_a_failed_call_is_survived_and_the_client_asks_again(server, tokenizer, local, monkeypatch, place):
  real, failures = getattr(Slots, place), []

  def fails_once(self, *args):
    if not failures:
      failures.append(1)
      raise RuntimeError("injected")
    return real(self, *args)

  asked = requests(4)
  expected = by_id(local.generate_all(asked))
  monkeypatch.setattr(Slots, place, fails_once)
  answers, stats = ask(server, tokenizer, asked)
  assert failures
  if place == "insert":  # that request alone
    assert sum(isinstance(a, UserError) for a in answers) == 1
    assert all(expected[a.id] == by_id([a])[a.id] for a in answers if not isinstance(a, Exception))
  else:  # all that were running, which may be asked again
    assert by_id(answers) == expected and stats.retried > 0


def test_openai_completions(server, local):
  asked = {"model": "m", "prompt": "hello", "max_tokens": 9, "temperature": 0.9, "seed": 3}
  sampling = Sampling(max_tokens=9, temperature=0.9, seed=3)
  [expected] = local.generate_all([Request(id="1", prompt="hello", sampling=sampling)])
  status, text = http(server, "/v1/completions", asked)
  answer = json.loads(text)
  assert status == 200 and answer["object"] == "text_completion"
  said = {"text": expected.text, "finish_reason": expected.finish_reason}
  assert answer["choices"] == [{"index": 0, "logprobs": None, **said}]
  assert answer["usage"] == {"prompt_tokens": 6, "completion_tokens": 9, "total_tokens": 15}
  both = json.loads(http(server, "/v1/completions", asked | {"n": 2, "prompt": ["hello", "x"]})[1])["choices"]
  assert [c["index"] for c in both] == [0, 1, 2, 3] and both[0]["text"] == expected.text != both[1]["text"]
  chat = {
    "messages": [{"role": "user", "content": "hello"}],
    **{k: asked[k] for k in ("max_tokens", "temperature", "seed")},
  }
  message = json.loads(http(server, "/v1/chat/completions", chat)[1])["choices"][0]["message"]
  assert message == {"role": "assistant", "content": expected.text}


def test_openai_streams_add_up(server):
  asked = {"prompt": "hello", "max_tokens": 11, "temperature": 0.9, "seed": 3, "stop": ["zzzz"]}
  whole = json.loads(http(server, "/v1/completions", asked)[1])["choices"][0]
  events = http(server, "/v1/completions", asked | {"stream": True})[1].split("\n\n")
  assert events[-2:] == ["data: [DONE]", ""]
  parts = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-2]]
  assert len(parts) > 1 and "".join(part["text"] for part in parts) == whole["text"]
  assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [whole["finish_reason"]]


@pytest.mark.parametrize(
  "body",
  [
    b"{",
    b"[]",
    {},
    {"prompt": 3},
    {"prompt": "x", "temperature": "hot"},
    {"prompt": "x", "n": 0},
    {"prompt": "x", "n": 10**9},
    {"prompt": "x", "max_tokens": True},
    {"prompt": "x" * 99},
    {"prompt": "x", "stop": [1]},
    {"prompt": [999]},
    {"prompt": []},
    {"prompt": [5] * 200},
    {"prompt": ["x", 5]},
    {"prompt": ["x"] * 129},
    {"prompt": "x", "temperature": 10**400},
    {"prompt": "x", "top_k": 1.0},
    {"prompt": "x", "stop_token_ids": [5] * 129},
  ],
)
def test_bad_http_requests_get_a_400_with_a_reason(server, body):
  status, text = http(server, "/v1/completions", body)
  assert status == 400 and json.loads(text)["error"]["message"]
  assert server.driver.busy == server.driver.waiting == 0


def test_http_reports_health_models_and_totals(server):
  assert http(server, "/health") == (200, '{"status": "ok"}')
  assert json.loads(http(server, "/v1/models")[1])["data"][0]["id"] == "tiny@0"
  assert http(server, "/nothing")[0] == 404
  status, text = http(server, "/metrics")
  samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
  values = {sample.name: sample.value for sample in samples}
  assert status == 200 and values["skymath_requests_completed_total"] == counters(server)["completed"] > 0
  assert values["skymath_slots_busy"] == 0


def test_a_prompt_of_many_token_ids_is_one_prompt():
  assert Completion(prompt=[5] * 200).prompts(str) == [[5] * 200]
  assert Completion(prompt=[[5, 6], "x"]).prompts(str) == [[5, 6], "x"]


@pytest.mark.parametrize(
  ("extra", "reason"),
  [
    ({"temprature": 1.0}, "temprature: this server does not support it. see the OpenAI API reference."),
    ({"temperature": "hot"}, "temperature: Input should be a valid number; this is 'hot'. see the OpenAI"),
    ({"prompt": 3}, "prompt: prompt must be a text, at most 128 texts, or a list of token ids; this is '3'. see"),
    ({"max_tokens": MAX_LENGTH + 1}, "max_tokens: max_tokens is 65, but prompt and response share 64. ask for less"),
  ],
)
def test_a_refusal_names_the_field_and_the_remedy(server, extra, reason):
  status, text = http(server, "/v1/completions", {"prompt": "x"} | extra)
  assert status == 400 and json.loads(text)["error"]["message"].startswith(reason)


@pytest.mark.parametrize("chat", [True, False])
def test_the_openai_client_gets_what_the_engine_gives(server, local, chat):
  async def run():
    client = OpenAIGenerator(
      f"http://127.0.0.1:{server.http_port}/v1", "tiny", chat=chat, concurrency=4, first_pause=0.05
    )
    responses = [r async for r in client.generate(requests(9))]
    await client.close()
    return responses, client.stats

  responses, stats = asyncio.run(run())
  assert by_id(responses) == by_id(local.generate_all(requests(9)))
  assert stats.completed == 9


def test_a_port_in_use_is_named(server, decoder, tokenizer):
  for flag, port in (("port", server.port), ("http_port", server.http_port)):
    with pytest.raises(UserError, match=f"(?s){flag}.*{port}.*choose another {flag}"):
      start_server(decoder, tokenizer, **{flag: port})


def test_start_and_stop_twice_with_streams_open(decoder):
  before = set(threading.enumerate())
  for _ in range(2):
    server = start_slow_server(decoder, 0.1)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
      stub = jetstream_pb2_grpc.OrchestratorStub(channel)
      message = jetstream_pb2.DecodeRequest(max_tokens=60, **token_content(5))
      calls = [stub.Decode(message, metadata=[("stream", "1")]) for _ in range(6)]
      while counters(server)["accepted"] < 6 or server.driver.busy < 4:
        time.sleep(0.01)
      start = time.monotonic()
      server.stop()
      assert time.monotonic() - start < 8
      for call in calls:
        with pytest.raises(grpc.RpcError) as error:
          list(call)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert not [t.name for t in set(threading.enumerate()) - before if t.name.startswith(SERVER_THREADS)]


def test_the_root_logger_is_left_alone(server):
  from skymath_jax.server.driver import orchestrator

  assert orchestrator.handler not in logging.getLogger().handlers
  assert logging.getLogger().level == logging.WARNING
