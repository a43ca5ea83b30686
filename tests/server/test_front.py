"""What protects a server and what it says of itself: queue, cancellation, drain, chat frames, token, TLS, metrics."""

import asyncio
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.server import serve as server_lib
from skymath_jax.server import settings as settings_lib
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import start_slow_server

HERE = Path(__file__).parent
CERTIFICATE, KEY = str(HERE / "loopback_certificate.pem"), str(HERE / "loopback_key.pem")  # self-signed, for this test

METRICS = {
  *(f"skymath_requests_{how}_total" for how in ("accepted", "completed", "failed", "cancelled", "refused", "rejected")),
  *(f"skymath_{kind}_tokens_total" for kind in ("prompt", "completion", "generated", "prefill")),
  *("skymath_prefill_tokens_saved_total", "skymath_prefill_seconds_total"),
  *("skymath_generate_seconds_total", "skymath_generate_calls_total"),
  *("skymath_slots", "skymath_slots_busy", "skymath_requests_waiting", "skymath_tokens_per_second"),
}  # dashboards and the client side of a run know these names


class SlowServer:
  """A server whose engine takes `seconds` a call, so that requests are still under way when something happens."""

  def __init__(self, decoder, seconds=0.05, **settings):
    self.server = start_slow_server(decoder, seconds, **settings)
    self.driver = self.server.driver

  def __enter__(self):
    self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")
    self.stub = jetstream_pb2_grpc.OrchestratorStub(self.channel)
    return self

  def __exit__(self, *_):
    self.channel.close()
    self.server.stop()

  def call(self, max_tokens=60, **options):
    content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=[1, 50, 51])
    message = jetstream_pb2.DecodeRequest(max_tokens=max_tokens, token_content=content)
    return self.stub.Decode(message, **options)

  def wait(self, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end, self.driver.counters.read()
      time.sleep(0.005)


def outcome(call):
  """Number of tokens, or the status code."""
  try:
    return sum(len(sample.token_ids) for part in call for sample in part.stream_content.samples)
  except grpc.RpcError as error:
    return error.code()


def test_a_cancelled_request_leaves_queue_and_slot_at_once(decoder):
  with SlowServer(decoder) as slow:
    running = [slow.call() for _ in range(4)]
    slow.wait(lambda: slow.driver.busy == 4)
    waiting = [slow.call() for _ in range(8)]
    slow.wait(lambda: slow.driver.waiting == 8)
    assert outcome(slow.call()) == grpc.StatusCode.RESOURCE_EXHAUSTED
    steps = slow.driver.counters.read()["generate_calls"]
    for call in waiting[:7]:
      call.cancel()
    slow.wait(lambda: slow.driver.waiting == 1)  # no slot came free meanwhile
    another = slow.call(max_tokens=1)
    running[0].cancel()
    slow.wait(lambda: slow.driver.counters.read()["cancelled"] == 8)
    assert slow.driver.counters.read()["generate_calls"] - steps <= 6
    assert outcome(another) == 1 and [outcome(call) for call in (*running[1:], waiting[7])] == [60] * 4
    assert slow.driver.busy == slow.driver.waiting == 0


def test_deadlines_are_honoured_in_slot_and_queue(decoder):
  with SlowServer(decoder) as slow:
    late = [slow.call(timeout=0.4) for _ in range(6)]  # four run, two wait
    assert [outcome(call) for call in late] == [grpc.StatusCode.DEADLINE_EXCEEDED] * 6
    slow.wait(lambda: slow.driver.busy == slow.driver.waiting == 0, seconds=2)
    slow.wait(lambda: slow.driver.counters.read()["cancelled"] == 6, seconds=2)  # counted with the next callbacks


def test_told_to_stop_it_answers_what_it_has_and_takes_nothing_new(decoder):
  with SlowServer(decoder, queue_size=16) as slow:
    calls = [slow.call(max_tokens=20) for _ in range(10)]
    slow.wait(lambda: slow.driver.counters.read()["accepted"] == 10)
    drained = threading.Thread(target=slow.server.drain, args=(30, threading.Event()))
    drained.start()
    slow.wait(lambda: not slow.driver.accepting)
    assert outcome(slow.call()) == grpc.StatusCode.UNAVAILABLE
    assert not slow.stub.HealthCheck(jetstream_pb2.HealthCheckRequest()).is_live
    with pytest.raises(urllib.error.HTTPError) as refused:
      urllib.request.urlopen(f"http://127.0.0.1:{slow.server.http_port}/health")
    assert refused.value.code == 503
    drained.join(30)
    assert [outcome(call) for call in calls] == [20] * 10


def test_a_drain_ends_in_time_and_at_once_when_asked_twice(decoder):
  with SlowServer(decoder) as slow:
    calls = [slow.call() for _ in range(8)]
    slow.wait(lambda: slow.driver.busy == 4)
    start, at_once = time.monotonic(), threading.Event()
    slow.server.drain(0.2, at_once)
    at_once.set()
    slow.server.drain(30, at_once)
    assert time.monotonic() - start < 1 and slow.driver.busy == 4
    slow.server.stop()
    assert {outcome(call) for call in calls} == {grpc.StatusCode.UNAVAILABLE}


def test_stop_tokens_end_a_response_and_are_left_out(server):
  ids = jetstream_pb2.DecodeRequest.TokenContent(token_ids=[1, 50, 51])
  with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
    stub = jetstream_pb2_grpc.OrchestratorStub(channel)

    def tokens(**options):
      call = stub.Decode(jetstream_pb2.DecodeRequest(max_tokens=30, token_content=ids), **options)
      made = [t for part in call for sample in part.stream_content.samples for t in sample.token_ids]
      return made, dict(call.trailing_metadata())["finish-reason"]

    whole, _ = tokens()
    for stop in (whole[5], whole[7], whole[8]):  # inside and at both ends of a chunk of 4
      assert tokens(metadata=[("stop-tokens", f"259,{stop}")]) == (whole[: whole.index(stop)], "stop")
  body = {"prompt": [1, 50, 51], "max_tokens": 30, "temperature": 0, "stop_token_ids": [whole[6]]}
  answer = post(server, "/v1/completions", body)
  assert answer["usage"]["completion_tokens"] == whole.index(whole[6])
  assert answer["choices"][0]["finish_reason"] == "stop"


def post(server, path, body, *, scheme="http", token=None, context=None):
  headers = {"Authorization": f"Bearer {token}"} if token else {}
  call = urllib.request.Request(
    f"{scheme}://127.0.0.1:{server.http_port}{path}", data=json.dumps(body).encode(), headers=headers
  )
  with urllib.request.urlopen(call, timeout=60, context=context) as answer:
    return json.loads(answer.read())


def test_what_would_change_the_answer_is_not_ignored(server):
  for extra in ({"tools": [{}]}, {"response_format": {"type": "json_object"}}, {"best_of": 2}):
    with pytest.raises(urllib.error.HTTPError) as refused:
      post(server, "/v1/completions", {"prompt": "x", "max_tokens": 2, **extra})
    assert refused.value.code == 400 and next(iter(extra)) in refused.value.read().decode()
  harmless = {"tools": [], "logprobs": None, "presence_penalty": 0, "user": "me", "response_format": {"type": "text"}}
  assert post(server, "/v1/completions", {"prompt": "x", "max_tokens": 2, **harmless})["choices"]


def test_metrics_are_prometheus_text_and_add_up(server):
  post(server, "/v1/completions", {"prompt": "hello", "max_tokens": 9, "n": 3})
  with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics") as answer:
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = answer.read().decode().splitlines()
  values = dict(line.split() for line in lines if not line.startswith("#"))
  typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
  assert typed == set(values) == {line.split()[2] for line in lines if line.startswith("# HELP")} == METRICS
  total = {name: float(values[f"skymath_{name}_total"]) for name in ("prefill_seconds", "generate_seconds")}
  assert all(seconds > 0 for seconds in total.values())
  assert float(values["skymath_prefill_tokens_saved_total"]) >= 2 * 5  # n = 3: one prefill
  assert float(values["skymath_generated_tokens_total"]) >= float(values["skymath_completion_tokens_total"]) > 0
  assert float(values["skymath_tokens_per_second"]) > 0 and float(values["skymath_slots"]) == 4


def test_token_and_tls_keep_others_out(decoder):
  protected = {"token": "secret", "tls_certificate": CERTIFICATE, "tls_key": KEY}
  with SlowServer(decoder, seconds=0, **protected) as slow:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    body = {"prompt": "hello", "max_tokens": 5, "temperature": 0}

    def ask(**options):
      return post(slow.server, "/v1/completions", body, scheme="https", context=context, **options)["choices"][0][
        "text"
      ]

    text = ask(token="secret")
    for token in (None, "wrong", "Secret"):
      with pytest.raises(urllib.error.HTTPError) as refused:
        ask(token=token)
      assert refused.value.code == 401
    with pytest.raises(urllib.error.URLError):  # a certificate that nobody vouches for
      post(slow.server, "/v1/completions", body, scheme="https", token="secret")

    good = {"certificate": CERTIFICATE, "token": "secret"}
    assert asyncio.run(ask_by_grpc(slow, good)).text == text
    for bad, why in (
      ({"token": "wrong"}, "SKYMATH_TOKEN"),
      ({"token": ""}, "SKYMATH_TOKEN"),
      ({"certificate": ""}, "UNAV"),
    ):
      with pytest.raises(UserError, match=why):
        asyncio.run(ask_by_grpc(slow, good | bad))


async def ask_by_grpc(slow, options):
  """One response through the gRPC client."""
  address = f"127.0.0.1:{slow.server.port}"
  client = JetStreamGenerator([address], ByteTokenizer(eos_id=None), "m", concurrency=64, attempts=1, **options)
  try:
    return await client.complete(Request(id="1", prompt="hello", sampling=Sampling(max_tokens=5)))
  finally:
    await client.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_other_machines_are_let_in_only_on_purpose(host):
  with pytest.raises(UserError, match=r"(?s)other machines.*--allow_remote"):
    ServerSettings(host=host, port=0).check()


def test_loopback_and_what_is_meant_are_taken():
  for host in ("127.0.0.1", "localhost", "127.9.9.9"):
    ServerSettings(host=host, port=0).check()
  ServerSettings(host="0.0.0.0", port=0, allow_remote=True, token="x").check()
  ServerSettings(host="0.0.0.0", port=0, allow_remote=True, without_token=True).check()
  with pytest.raises(UserError, match=r"without a token.*--without_token"):
    ServerSettings(host="0.0.0.0", port=0, allow_remote=True).check()


def test_a_token_is_made_once_shown_once_and_kept_for_its_owner_alone(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("HOME", str(tmp_path))
  token = settings_lib.made_token()
  first = capsys.readouterr().err
  assert settings_lib.made_token() == token and len(token) >= 40
  assert token in first and token not in capsys.readouterr().err
  assert (tmp_path / ".config" / "skymath" / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_that_others_can_read_is_shut_away_and_what_is_none_is_refused(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("HOME", str(tmp_path))
  path = tmp_path / ".config" / "skymath" / "token"
  path.parent.mkdir(parents=True)
  path.write_text("kept-from-before\n")
  path.chmod(0o644)
  assert settings_lib.made_token() == "kept-from-before" and path.stat().st_mode & 0o777 == 0o600
  assert "others could read" in capsys.readouterr().err
  for content in (b"", b"\n", b"two\nlines", b"\xff\xfe", b"t\xc3\xb6ken"):
    path.write_bytes(content)
    with pytest.raises(UserError, match="this is no token"):
      settings_lib.made_token()
  path.unlink()
  path.symlink_to(tmp_path / "nowhere")
  with pytest.raises(UserError, match="this is no token"):
    settings_lib.made_token()
  path.unlink()
  path.mkdir()
  with pytest.raises(UserError, match="this is no token"):
    settings_lib.made_token()


@pytest.mark.parametrize(
  "host", ["0.0.0.0", "::", "[::]", "", "*", "127.1", "0", "localhost.", "::ffff:0.0.0.0", "a.example"]
)
def test_hosts_that_are_not_surely_loopback_are_not_let_out_without_a_word(host):
  with pytest.raises(UserError, match="can be reached from other machines"):
    ServerSettings(host=host, port=0).check()
  with pytest.raises(UserError, match="without a token"):
    ServerSettings(host=host, port=0, allow_remote=True).check()


@pytest.mark.parametrize("host", ["a..b", "nul\0", "unix:/tmp/x", "x" * 300])
def test_what_is_no_host_is_told(host):
  with pytest.raises(UserError, match="cannot listen on"):
    ServerSettings(host=host, port=0, allow_remote=True, token="x").check()


def test_half_a_tls_setting_is_refused():
  with pytest.raises(UserError, match="certificate and its key"):
    ServerSettings(port=0, tls_certificate=CERTIFICATE).check()
  with pytest.raises(UserError, match="cannot be used"):
    ServerSettings(port=0, tls_certificate=KEY, tls_key=KEY).check()


@pytest.mark.parametrize(
  "bad",
  [
    *({"slots": 0}, {"slots": -3}, {"max_length": 1}, {"steps_per_call": 0}, {"prefill_chunk": 0}, {"kv": "int4"}),
    *({"prefix_tokens": -1}, {"weights": "int2"}, {"queue_size": 0}, {"drain_seconds": float("nan")}),
    *({"chat_frame": "nope"}, {"host": "0.0.0.0"}, {"tls_key": "key.pem"}, {"port": 99999}),
  ],
)
def test_settings_with_which_nothing_can_be_served_are_refused_before_the_model_is_loaded(bad):
  with pytest.raises(UserError) as error:
    server_lib.settings_of(**{"slots": 4, "max_length": 64, "steps_per_call": 4, "port": 0} | bad)
  named = {"chat_frame": "no prompt named", "tls_key": "TLS needs"}
  assert named.get(next(iter(bad)), next(iter(bad))) in str(error.value)
