"""The HTTP client against a fake endpoint."""

import asyncio
import time

import pytest
from aiohttp import web

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.generation import openai as openai_lib
from skymath_jax.generation.limits import CostCeilingReached, Limits
from skymath_jax.generation.openai import OpenAIGenerator

KEY = "sk-very-secret"


def answer(text="4", reason="stop"):
  return {
    "choices": [{"message": {"content": text}, "finish_reason": reason}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
  }


def ask(replies, *, count=1, sampling=None, **options):
  """Results, statistics and what the endpoint saw; `replies` are (status, body, headers), the last one repeats."""
  seen = []

  async def handler(request):
    seen.append((time.monotonic(), request.path, dict(request.headers), await request.json()))
    status, body, headers = replies[min(len(seen), len(replies)) - 1]
    if isinstance(body, str):
      return web.Response(text=body, status=status, headers=headers)
    return web.json_response(body, status=status, headers=headers)

  async def run():
    app = web.Application()
    app.router.add_post("/v1/{rest:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    client = OpenAIGenerator(url, "gpt", api_key_variable="TEST_KEY", **({"first_pause": 0.001} | options))
    requests = [Request(id=str(i), prompt="2+2", sampling=sampling or Sampling()) for i in range(count)]
    try:
      return await asyncio.gather(*map(client.complete, requests), return_exceptions=True), client.stats
    finally:
      await client.close()
      await runner.cleanup()

  results, stats = asyncio.run(run())
  return results, stats, seen


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv("TEST_KEY", KEY)


def test_a_chat_call_has_the_key_and_the_sampling():
  sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, stop=("x",), seed=4)
  [response], stats, seen = ask([(200, answer(), {})], sampling=sampling)
  assert (response.text, response.finish_reason, response.prompt_tokens, response.completion_tokens) == (
    "4",
    "stop",
    3,
    1,
  )
  _, path, headers, body = seen[0]
  assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
  expected = {"model": "gpt", "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "stop": ["x"], "seed": 4}
  assert body == expected | {"messages": [{"role": "user", "content": "2+2"}]}
  assert stats.completed == 1 and stats.prompt_tokens == 3


def test_what_may_pass_is_asked_again_no_sooner_than_the_server_says():
  replies = [
    (429, {"error": "slow down"}, {"Retry-After": "0.3"}),
    (503, "oops", {}),
    (200, "no json", {}),
    (200, {}, {}),
  ]
  [response], stats, seen = ask([*replies, (200, answer(), {})])
  assert response.text == "4" and stats.retried == 4 and stats.sent == 5
  assert seen[1][0] - seen[0][0] >= 0.3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_the_requests_fault(status):
  [error], stats, _ = ask([(status, {"error": "too long"}, {})])
  assert isinstance(error, RequestRejected) and "too long" in str(error)
  assert stats.sent == 1 and stats.failed == 1


def test_the_key_is_in_no_message():
  for status in (401, 403, 404, 500, 400):
    [error], _, _ = ask([(status, f"bad key {KEY}!", {})], attempts=1)
    assert isinstance(error, UserError) and KEY not in str(error)
    if status == 401:
      assert "TEST_KEY" in str(error)


def test_an_answer_without_end_is_cut_off(monkeypatch):
  monkeypatch.setattr(openai_lib, "LARGEST_RESPONSE", 1000)
  [error], _, _ = ask([(200, answer("x" * 2000), {})])
  assert isinstance(error, RequestRejected) and "larger than" in str(error)


def test_it_gives_up_and_does_not_follow_redirects():
  [error], stats, _ = ask([(500, "down", {})], attempts=3)
  assert "after 3 attempts" in str(error) and stats.sent == 3
  [error], _, seen = ask([(307, "", {"Location": "/v1/elsewhere"})])
  assert isinstance(error, UserError) and len(seen) == 1


def test_a_null_text_and_a_length_stop_are_taken():
  [response], _, _ = ask([(200, answer(None, "length"), {})])
  assert (response.text, response.finish_reason) == ("", "length")


def test_a_bad_address_is_refused_at_once():
  with pytest.raises(UserError, match="no web address"):
    OpenAIGenerator("api.openai.com/v1", "gpt")


def test_the_cost_is_what_the_usage_says_and_the_ceiling_holds():
  limits = Limits(price_in=1e6, price_out=1e6, cost_ceiling=100.0)
  results, stats, seen = ask(
    [(500, "down", {}), (200, answer(), {})], count=30, sampling=Sampling(max_tokens=8), limits=limits
  )
  paid = [r for r in results if not isinstance(r, Exception)]
  # an answer costs 4, the next may cost 3 + 16 + 8: the last that fits starts at 73 at most
  assert len(paid) == len(seen) - 1 == 19 and stats.cost == 76
  assert all(isinstance(r, CostCeilingReached) for r in results if isinstance(r, Exception))


def test_an_answer_that_never_came_is_taken_as_paid():
  limits = Limits(price_in=1e6, price_out=1e6)
  sampling = Sampling(max_tokens=8)
  [response], stats, _ = ask([(200, "no json", {}), (200, answer(), {})], sampling=sampling, limits=limits)
  assert response.text == "4" and stats.cost == (3 + 16 + 8) + 4
