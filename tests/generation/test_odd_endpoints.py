"""What endpoints send that is not quite OpenAI's API: each kind with its siblings."""

import asyncio
import email.utils
import gzip
import json
import re
import time

import pytest
from aiohttp import web

from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.parameters import Parameters
from tests.support.endpoint import ask, completion, in_turn

TOOL = {"id": "1", "type": "function", "function": {"name": "calculator", "arguments": "{}"}}


def with_choices(*choices, **fields):
  return {"choices": list(choices), "usage": {"prompt_tokens": 3, "completion_tokens": 1}, **fields}


def raw(text: str | bytes, content_type: str = "application/json", **headers):
  return 200, text, {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}


GOOD = json.dumps(completion())


@pytest.mark.parametrize(
  ("answer", "text", "thought", "reason"),
  [
    pytest.param(completion("<think>\nHm.\n</think>\n\n4"), "4", "Hm.", "stop", id="think"),
    pytest.param(completion("Hm.\n</think>\n4"), "4", "Hm.", "stop", id="opened by the template"),
    pytest.param(completion("<think>Hm. 4"), "", "Hm. 4", "length", id="unclosed"),
    pytest.param(completion("[THINK]Hm.[/THINK]4"), "4", "Hm.", "stop", id="Magistral"),
    pytest.param(completion("◁think▷Hm.◁/think▷4"), "4", "Hm.", "stop", id="Kimi"),
    pytest.param(
      completion("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"),
      "4", "Hm.", "stop", id="gpt-oss",
    ),
    pytest.param(completion("4", reasoning_content="Hm."), "4", "Hm.", "stop", id="DeepSeek's field"),
    pytest.param(completion("4", reasoning="Hm.", reasoning_details=[{"type": "reasoning.text", "text": "Hm."}]),
                 "4", "Hm.", "stop", id="OpenRouter's fields"),
    pytest.param(completion([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                             {"type": "text", "text": "4"}]), "4", "Hm.", "stop", id="Mistral's parts"),
    pytest.param(completion(None, reasoning_content="4"), "", "4", "stop", id="only a thought"),
    pytest.param(completion([{"type": "text", "text": "4"}, {"type": "audio", "data": "x"}, {"type": "text"}, 7, None]),
                 "4", "", "stop", id="parts of unknown kinds"),
    pytest.param(completion({"type": "text", "text": "4"}), "4", "", "stop", id="one part"),
    pytest.param(completion(None, "tool_calls", tool_calls=[TOOL]), "", "", "tool_calls", id="tool calls"),
    pytest.param(completion(None, "stop", refusal="I cannot."), "I cannot.", "", "refusal", id="refusal"),
    pytest.param(completion("Ha", "content_filter"), "Ha", "", "content_filter", id="filter"),
    pytest.param(completion("Ha", "model_length"), "Ha", "", "length", id="model_length"),
    pytest.param(completion("Ha", "MAX_TOKENS"), "Ha", "", "length", id="Gemini's length"),
    pytest.param(completion("Ha", "SAFETY"), "Ha", "", "safety", id="Gemini's filter"),
    pytest.param(completion("4", "STOP"), "4", "", "stop", id="Gemini's stop"),
    pytest.param(completion("4", "eos_token"), "4", "", "stop", id="TGI's stop"),
    pytest.param(completion("4", None), "4", "", "none", id="no reason"),
    pytest.param(completion("Ha", ["stop"]), "Ha", "", "['stop']", id="a list as reason"),
    pytest.param(with_choices({"index": 2, "message": {"content": "4"}, "finish_reason": "stop"}), "4", "", "stop",
                 id="index gap"),
    pytest.param(with_choices({"index": 0, "message": {"role": "assistant"}, "finish_reason": "length"}),
                 "", "", "length", id="no content"),
    pytest.param(with_choices({"index": 0, "text": "4", "finish_reason": "stop"}),
                 "4", "", "stop", id="completion's form"),
    pytest.param(completion("4</s>"), "4", "", "stop", id="end token"),
    pytest.param(completion("4<|im_end|>\n<|im_start|>user\nThanks"), "4", "", "stop", id="another turn"),
    pytest.param(completion("\ufeff4"), "4", "", "stop", id="BOM in the text"),
    pytest.param(raw("\ufeff" + GOOD), "4", "", "stop", id="BOM before the body"),
    pytest.param(raw(GOOD.replace('"4"', '"4\\ud800"')), "4\ud800", "", "stop", id="half a surrogate pair"),
    pytest.param(raw(GOOD.replace('"usage"', '"logprob": NaN, "usage"')), "4", "", "stop", id="NaN"),
    pytest.param(raw(gzip.compress(GOOD.encode()), Content_Encoding="gzip"), "4", "", "stop", id="gzip"),
    pytest.param(raw(GOOD, "text/plain"), "4", "", "stop", id="another content type"),
    pytest.param(completion() | {"model": "other", "id": None, "object": 5}, "4", "", "stop", id="another model"),
    pytest.param(completion() | {"error": None}, "4", "", "stop", id="no error"),
    pytest.param(completion() | {"service_tier": "x", "warnings": ["y"]}, "4", "", "stop", id="further fields"),
  ],
)  # fmt: skip
def test_an_odd_answer_is_read(answer, text, thought, reason):
  [response], stats, calls = ask(in_turn(answer))
  assert not isinstance(response, Exception), response
  assert (response.text, response.thought, response.finish_reason) == (text, thought, reason)
  assert len(calls) == stats.sent == 1


@pytest.mark.parametrize(
  ("usage", "prompt", "completion_"),
  [
    ({"prompt_tokens": 12, "completion_tokens": None}, 12, 1),
    ({"prompt_tokens": "12", "completion_tokens": "1"}, 12, 1),
    ({"prompt_tokens": 12.0, "completion_tokens": 1.0}, 12, 1),
    ({"input_tokens": 12, "output_tokens": 1}, 12, 1),
    ({"prompt_tokens": -1, "completion_tokens": -1}, 17, 1),
    ({"prompt_tokens": 10**30, "completion_tokens": 10**30}, 17, 1),
    ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, 17, 1),
    ({"prompt_tokens": True, "completion_tokens": [1]}, 17, 1),
    ({"prompt_tokens": "many", "completion_tokens": {}}, 17, 1),
    ({}, 17, 1),
    ([], 17, 1),
    ("12", 17, 1),
  ],
  ids=str,
)
def test_what_is_not_counted_is_estimated(usage, prompt, completion_):
  limits = Limits(prices=(1e6, 1e6))
  [response], stats, _ = ask(in_turn(completion(usage=usage)), limits=limits)
  assert (response.prompt_tokens, response.completion_tokens) == (prompt, completion_)
  assert stats.cost == prompt + completion_


@pytest.mark.parametrize(
  ("answer", "said"),
  [
    (raw("<html><body>Sign in</body></html>", "text/html"), "HTTP 200, text/html: <html><body>Sign in"),
    (raw('data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream"), "HTTP 200, text/event-stream: data: "),
    (raw(b"\xff\xfe\x00", "application/json"), "HTTP 200, application/json: "),
    (raw("", "application/json"), "HTTP 200, application/json: nothing"),
    (raw("[1, 2]"), "no JSON object .*\\[1, 2\\]"),
    (raw('"4"'), "no JSON object"),
    (raw(GOOD[:-9]), "not JSON"),
    (raw("[" * 100_000), "not JSON"),
    (with_choices(), "no choices"),
    (with_choices(None), "no choices"),
    ({"choices": {"0": 1}}, "no choices"),
    ({"detail": "Model is overloaded"}, "Model is overloaded"),
    ({"error": {"message": "Provider returned error", "code": 502}}, "Provider returned error"),
    ({"error": "quota"}, "quota"),
    ((500, "<html>origin</html>", {"Content-Type": "text/html"}), "HTTP 500, text/html: <html>origin"),
    ((598, "read timeout", {}), "HTTP 598, text/plain: read timeout"),
  ],
  ids=str,
)  # fmt: skip
def test_what_the_server_said_is_shown_in_the_end(answer, said):
  [error], _, _ = ask(in_turn(answer), parameters={"attempts": 2})
  assert isinstance(error, RequestRejected)
  assert re.search(said, str(error)), str(error)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 520, 524, 529, 530, 598, 599, 408, 409, 425, 429])
def test_what_passes_is_asked_again(status):
  [response], _, calls = ask(in_turn((status, "<html>busy</html>", {}), completion()))
  assert response.text == "4" and len(calls) == 2


@pytest.mark.parametrize(
  ("headers", "least", "most"),
  [
    ({"Retry-After": "0.3"}, 0.3, 2),
    ({"retry-after-ms": "300"}, 0.3, 2),
    ({"Retry-After": "in 3 seconds"}, 1.5, 5),  # as a date, made when the test runs
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 2),
    # of a server whose clock, or ours, is wrong by years
    ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:02 GMT"}, 1.5, 5),
    ({"Retry-After": "-5"}, 0, 2),
    ({"Retry-After": "soon"}, 0, 2),
    ({"Retry-After": "nan"}, 0, 2),
    ({"Retry-After": "1e400"}, 0, 2),
    ({"Retry-After": "86400"}, 0, 2),  # once is nothing to end a run for
  ],
  ids=str,
)
def test_the_endpoint_says_how_long_to_wait(headers, least, most):
  if headers == {"Retry-After": "in 3 seconds"}:
    headers = {"Retry-After": email.utils.formatdate(time.time() + 3, usegmt=True)}
  [response], _, calls = ask(in_turn((429, "slow down", headers), completion()))
  assert response.text == "4" and least <= calls[1].time - calls[0].time <= most


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_neither_key_nor_prompt_follow_a_redirect(status):
  [error], _, calls = ask(in_turn((status, "", {"Location": "http://127.0.0.1:9/v1"})))
  assert isinstance(error, UserError) and not isinstance(error, RequestRejected) and len(calls) == 1
  assert f"HTTP {status}" in str(error)


def test_what_breaks_on_the_way_is_asked_again():
  async def cut(request):
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "900"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    request.transport.abort()
    return response

  async def late(request):
    await asyncio.sleep(1.5)

  for broken in (cut, late):
    [response], _, calls = ask(
      lambda call, broken=broken: broken(call.request) if call.number == 0 else completion(),
      parameters={"seconds": 0.7},
    )
    assert response.text == "4" and len(calls) == 2


@pytest.mark.parametrize(
  ("status", "body", "remedy"),
  [
    (400, {"error": {"message": "use max_completion_tokens"}}, "max_completion_tokens"),
    (422, {"detail": "extra_forbidden: seed"}, '"omit": ["seed"]'),
    (400, {"error": {"message": "'temperature' is unsupported"}}, '"omit": ["temperature"]'),
    (400, {"error": {"message": "Unrecognized request argument supplied: top_k"}}, "teacher.parameters"),
    (400, "unknown field", "teacher.parameters"),
  ],
)  # fmt: skip
def test_a_refused_parameter_ends_the_run_at_the_first_request(status, body, remedy):
  results, _, _ = ask(in_turn((status, body, {})), sampling=Sampling(temperature=0.7, seed=5))
  assert isinstance(results[0], UserError) and not isinstance(results[0], RequestRejected)
  assert remedy in str(results[0])


def test_one_prompt_that_always_fails_is_its_own_rejection(monkeypatch):
  monkeypatch.setattr("skymath_jax.generation.openai.PROBE_SECONDS", 0.0)

  def answer(call):
    return (500, "about this prompt", {}) if call.prompt == "bad" else completion()

  for order in (["bad", *"abcdef"], [*"abcdef", "bad"]):
    results, _, calls = ask(answer, order, parameters={"attempts": 4})
    failed = [r for r in results if isinstance(r, Exception)]
    assert len(failed) == 1 and isinstance(failed[0], RequestRejected) and "about this prompt" in str(failed[0])
    assert 4 <= sum(call.prompt == "bad" for call in calls) <= 7


def test_the_last_prompt_is_told_from_the_endpoint_by_a_small_question(monkeypatch):
  monkeypatch.setattr("skymath_jax.generation.openai.PROBE_SECONDS", 0.0)

  def answer(call):
    return (500, "about this prompt", {}) if call.prompt == "bad" else completion()

  async def one_after_another(client, requests):
    return [
      await client.complete(requests[0]),
      (await asyncio.gather(client.complete(requests[1]), return_exceptions=True))[0],
    ]

  results, _, calls = ask(answer, ["a", "bad"], parameters={"attempts": 3}, how=one_after_another)
  assert isinstance(results[1], RequestRejected)
  assert [call.prompt for call in calls] == ["a", "bad", "bad", *["bad", "What is 2 + 3?"] * 2, "bad"]


def test_an_outage_of_any_kind_costs_no_prompt(monkeypatch):
  for status in (500, 503, 429):
    began = []

    def answer(call, status=status, began=began):
      began.append(call.time)
      return (status, "down", {}) if 4 <= call.number and call.time - began[0] < 1.5 else completion()

    results, _, _ = ask(
      answer, [str(n) for n in range(40)], concurrency=4, parameters={"attempts": 2}, first_pause=0.02
    )
    assert all(getattr(r, "text", None) == "4" for r in results), results


def test_an_answer_belongs_to_the_model_and_what_is_read_of_it():
  assert Parameters().model_id("m") == Parameters(seconds=3, headers={"a": "b"}).model_id("m") == "m"
  names = {Parameters(**p).model_id("m") for p in ({}, {"body": {"effort": "low"}}, {"answer": "reasoning_content"})}
  assert len(names) == 3
