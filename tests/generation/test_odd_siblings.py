"""More of what endpoints send and do, of the kinds in `test_odd_endpoints`: nothing lost, nothing taken for data."""

import asyncio
import json
import zlib

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.traffic import Traffic
from tests.support.endpoint import ask, completion, in_turn

GOOD = json.dumps(completion()).encode()
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
  ("answer", "text", "thought", "reason"),
  [
    pytest.param((200, b"\n \n" + GOOD + b"\n", JSON), "4", "", "stop", id="white space to keep the connection"),
    pytest.param((200, zlib.compress(GOOD), {**JSON, "Content-Encoding": "deflate"}), "4", "", "stop", id="deflate"),
    pytest.param((200, GOOD, {**JSON, "X-Note": "n" * 6000}), "4", "", "stop", id="a long header"),
    pytest.param((200, GOOD, {"Content-Type": "application/json; charset=utf-8", "Set-Cookie": "a=b"}), "4", "", "stop",
                 id="a cookie"),
    pytest.param(completion("<THINK>Hm.</THINK>\n4"), "4", "Hm.", "stop", id="upper case"),
    pytest.param(completion("<think>a <think>b</think> 4"), "4", "a <think>b", "stop", id="a thought about thoughts"),
    pytest.param(completion("<think>a</think>4<think>b</think>"), "4", "a\n\nb", "stop", id="thought again"),
    pytest.param(completion("4\n<think>is that so"), "4", "is that so", "length", id="cut in a second thought"),
    pytest.param(completion("<think>\n\n</think>\n\n4"), "4", "", "stop", id="an empty thought"),
    pytest.param(completion("<think>Hm.</think>"), "", "Hm.", "stop", id="a thought and no answer"),
    pytest.param(completion("4", reasoning_content="Hm.", reasoning="Hm."), "4", "Hm.", "stop", id="twice the same"),
    pytest.param(completion("4", reasoning={"summary": "Hm."}), "4", "Hm.", "stop", id="a thought as an object"),
    *(
      pytest.param(completion(text), "4", "Hm.", "stop", id=text.strip()[:12])
      for text in (
        '<think time="3">Hm.</think>4', "<think >Hm.</think >4", "<antThinking>Hm.</antThinking>4",
        "<deep_think>Hm.</deep_think>4", "<reasoning_content>Hm.</reasoning_content>4", "<mm:think>Hm.</mm:think>4",
        "<inner_monologue>Hm.</inner_monologue>4", "＜think＞Hm.＜/think＞4", "[thinking]Hm.[/thinking]4",
        "<|channel>thought\nHm.<channel|>4", "<|think|>Hm.<|end|><|begin|>assistant<|content|>4",
        "Here is my thought process:\nHm.\nHere is my response:\n4", "```thinking\nHm.\n```\n4",
        '<details type="reasoning" done="true">Hm.</details>4', "<thinking>Hm.</thinking>\n<output>4</output>",
        "<|start|>assistant<|channel|>commentary<|message|>Hm.<|end|>"
        "<|channel|>final <|constrain|>json<|message|>4<|return|>",
        "<think>Hm.</think>4[|endofturn|]", "<think>Hm.</think>4<end_of_utterance>", "<think>Hm.</think>4<turn|>",
      )
    ),
    pytest.param(completion("<think>a\n```\nb\n```\nc</think>4"), "4", "a\n```\nb\n```\nc", "stop", id="code inside"),
    pytest.param(completion("<no_think>4"), "4", "", "stop", id="no thought"),
    pytest.param(completion("See </details> and ```\nx\n``` here"), "See </details> and ```\nx\n``` here", "", "stop",
                 id="no marks of thoughts"),
    pytest.param(completion("4", "length"), "4", "", "length", id="cut at the last word"),
    pytest.param(completion("4", "repetition"), "4", "", "repetition", id="a guard against loops"),
    pytest.param(completion("4<|eot_id|><|start_header_id|>user<|end_header_id|>"), "4", "", "stop", id="Llama's turn"),
    pytest.param(completion("<|im_start|>assistant\n4<|im_end|>"), "4", "", "stop", id="ChatML's turn"),
    pytest.param({**completion(), "choices": completion()["choices"] * 3}, "4", "", "stop", id="three choices"),
  ],
)  # fmt: skip
def test_it_is_read(answer, text, thought, reason):
  [response], _, calls = ask(in_turn(answer))
  assert not isinstance(response, Exception), response
  assert (response.text, response.thought, response.finish_reason) == (text, thought, reason)
  assert len(calls) == 1


@pytest.mark.parametrize(
  "trouble",
  [
    pytest.param({"choices": [{"error": {"code": 502, "message": "upstream"}, "finish_reason": "error"}]},
                 id="an error as the choice"),
    pytest.param(completion("Ha", "abort"), id="aborted by a server that restarts"),
    pytest.param(completion("", "error"), id="ended by an error"),
    pytest.param((204, b"", {}), id="no content"),
    pytest.param((202, b"{}", JSON), id="accepted"),
    pytest.param((421, "misdirected", {}), id="misdirected"),
    pytest.param((424, "model is loading", {}), id="a dependency"),
    pytest.param((499, "", {}), id="nginx"),
    pytest.param((200, b"", JSON), id="empty"),
    pytest.param((200, GOOD[:40], JSON), id="cut"),
  ],
)  # fmt: skip
def test_it_passes(trouble):
  [response], _, calls = ask(in_turn(trouble, completion()))
  assert not isinstance(response, Exception), response
  assert (response.text, response.finish_reason, len(calls)) == ("4", "stop", 2)


@pytest.mark.parametrize("status", [301, 401, 402, 404, 405])
def test_a_gateway_that_is_set_up_anew_costs_no_prompt(status):
  results, _, calls = ask(
    lambda call: completion() if call.number < 4 or call.number > 20 else (status, "no route", {}),
    [str(n) for n in range(30)], concurrency=4, parameters={"attempts": 2}, first_pause=0.01,
  )  # fmt: skip
  assert [getattr(r, "text", r) for r in results] == ["4"] * 30 and len(calls) <= 60


def test_money_that_runs_out_ends_the_run_with_what_was_said(monkeypatch):
  monkeypatch.setattr("skymath_jax.generation.traffic.REFUSED_SECONDS", 0.5)
  monkeypatch.setattr("skymath_jax.generation.traffic.TELL_SECONDS", 0.1)

  async def first_alone(client, requests):
    return [await client.complete(requests[0]), *await asyncio.gather(*map(client.complete, requests[1:]),
                                                                      return_exceptions=True)]  # fmt: skip

  results, _, calls = ask(
    in_turn(completion(), (402, "no credit left", {})), "abcdef", how=first_alone, first_pause=0.05
  )
  assert all(isinstance(r, UserError) and not isinstance(r, RequestRejected) for r in results[1:])
  assert "no credit left" in str(results[1]) and len(calls) < 100


@pytest.mark.parametrize(
  ("usage", "tokens"),
  [
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 915}, 905),  # thoughts in the sum alone
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 5),
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, 5),
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 10**30}, 5),
  ],
)  # fmt: skip
def test_all_that_is_paid_is_counted(usage, tokens):
  [response], stats, _ = ask(in_turn(completion(usage=usage)), limits=Limits(prices=(0.0, 1e6)))
  assert response.completion_tokens == stats.cost == tokens


@pytest.mark.parametrize(("failed", "least", "most"), [(0, 8, 8), (2, 8, 8), (25, 8, 8), (150, 14, 17), (480, 32, 32)])
def test_the_more_requests_fail_at_first_the_more_attempts_tell_one_from_bad_luck(failed, least, most):
  traffic = Traffic(8, first_pause=0.1)
  for n in range(500):
    traffic.tried_first(failed=n * failed % 500 < failed)
  assert least <= traffic.attempts_to_tell(8) <= most
