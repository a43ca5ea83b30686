"""The HTTP client against an endpoint that does what the test says."""

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.generation import openai as openai_lib
from skymath_jax.generation.limits import CostCeilingReached, Limits
from skymath_jax.generation.openai import OpenAIGenerator
from tests.support.endpoint import KEY, ask, completion, in_turn


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv("TEST_KEY", KEY)


def test_a_chat_call_has_the_key_and_the_sampling():
  sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, stop=("x",), seed=4)
  [response], stats, [call] = ask(in_turn(completion()), sampling=sampling)
  assert (response.text, response.finish_reason) == ("4", "stop")
  assert (response.prompt_tokens, response.completion_tokens) == (3, 1)
  assert call.path == "/v1/chat/completions" and call.headers["Authorization"] == f"Bearer {KEY}"
  expected = {"model": "gpt", "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "stop": ["x"], "seed": 4}
  assert call.body == expected | {"messages": [{"role": "user", "content": "2+2"}]}
  assert stats.completed == 1 and stats.prompt_tokens == 3


def test_without_chat_the_bare_prompt_is_completed():
  [response], _, [call] = ask(in_turn({"choices": [{"text": "4", "finish_reason": "length"}]}), chat=False)
  assert (response.text, response.finish_reason) == ("4", "length")
  assert call.path == "/v1/completions" and call.prompt == "2+2"


def test_without_a_key_none_is_sent(monkeypatch):
  monkeypatch.delenv("TEST_KEY")
  [response], _, [call] = ask(in_turn(completion()))
  assert response.text == "4" and "Authorization" not in call.headers


def test_what_may_pass_is_asked_again_no_sooner_than_the_server_says():
  replies = [(429, {"error": "slow down"}, {"Retry-After": "0.3"}), (503, "oops", {}), (200, "no json", {}), {}]
  [response], stats, calls = ask(in_turn(*replies, completion()))
  assert response.text == "4" and stats.retried == 4 and stats.sent == 5
  assert calls[1].time - calls[0].time >= 0.3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_the_requests_fault(status):
  [error], stats, _ = ask(in_turn((status, {"error": "too long"}, {})))
  assert isinstance(error, RequestRejected) and "too long" in str(error)
  assert stats.sent == 1 and stats.failed == 1


def test_the_key_is_in_no_message():
  for status in (401, 403, 404, 500, 400):
    [error], _, _ = ask(in_turn((status, f"bad key {KEY}!", {})), parameters={"attempts": 1})
    assert isinstance(error, UserError) and KEY not in str(error)
    if status == 401:
      assert "TEST_KEY" in str(error)


def test_an_answer_without_end_is_cut_off(monkeypatch):
  monkeypatch.setattr(openai_lib, "MAX_RESPONSE_BYTES", 1000)
  [error], _, _ = ask(in_turn(completion("x" * 2000)), parameters={"attempts": 1})
  assert isinstance(error, RequestRejected) and "larger than" in str(error)


def test_it_gives_up():
  [error], stats, _ = ask(in_turn((500, "down", {})), parameters={"attempts": 3})
  assert "in 3 attempts" in str(error) and "HTTP 500, text/plain: down" in str(error) and stats.sent == 3


def test_a_bad_address_is_refused_at_once():
  with pytest.raises(UserError, match="no web address"):
    OpenAIGenerator("api.openai.com/v1", "gpt", concurrency=1, chat=True)


def test_the_cost_is_what_the_usage_says_and_the_ceiling_holds():
  limits = Limits(prices=(1e6, 1e6), cost_ceiling=100.0)
  results, stats, calls = ask(
    in_turn((500, "down", {}), completion()), ["2+2"] * 30, sampling=Sampling(max_tokens=8), limits=limits
  )
  paid = [r for r in results if not isinstance(r, Exception)]
  # an answer costs 4, the next may cost 3 + 16 + 8: the last that fits starts at 73 at most
  assert len(paid) == len(calls) - 1 == 19 and stats.cost == 76
  assert all(isinstance(r, CostCeilingReached) for r in results if isinstance(r, Exception))


def test_an_answer_that_never_came_is_taken_as_paid():
  limits = Limits(prices=(1e6, 1e6))
  sampling = Sampling(max_tokens=8)
  [response], stats, _ = ask(in_turn((200, "no json", {}), completion()), sampling=sampling, limits=limits)
  assert response.text == "4" and stats.cost == (3 + 16 + 8) + 4
