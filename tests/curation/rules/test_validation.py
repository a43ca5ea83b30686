"""Each fault of an instance is named; a good one has none."""

import dataclasses

import pytest

from skymath_jax.curation.rules import validation
from skymath_jax.records import Instance

GOOD = Instance(
  id="1",
  query="What is 3 + 4?",
  response="3 + 4 = 7.\nThe answer is 7",
  answer="7",
  method="xwin",
  parents=("s",),
  stage=1,
)


def reasons(**changes):
  options = {key: changes.pop(key) for key in ("max_characters", "max_tokens") if key in changes}
  return [found.reason for found in validation.findings(dataclasses.replace(GOOD, **changes), **options)]


def test_a_good_instance_has_no_findings():
  assert reasons() == []
  assert reasons(response=GOOD.response + "\n") == []
  assert reasons(answer="\\frac{1}{2}", response="Half.\nThe answer is \\frac{1}{2}") == []
  assert reasons(query="Solution: mix two of these. Question: how much?") == []
  assert reasons(max_characters=1000, max_tokens=8, tokens=8) == []


@pytest.mark.parametrize(
  "changes, reason",
  [
    ({"query": " \n"}, "empty_query"),
    ({"response": ""}, "empty_response"),
    ({"response": "3 + 4 = 7"}, "no_answer_line"),
    ({"response": "So. The answer is 7"}, "no_answer_line"),
    ({"response": "3 + 4 = 7.\nThe answer is: 7"}, "no_answer_line"),
    ({"response": "3 + 4 = 7.\nThe answer is 7\nGood luck!"}, "no_answer_line"),
    ({"response": "3 + 4 = 7.\nThe answer is 8"}, "answer_mismatch"),
    ({"response": "The answer is 7"}, "no_solution"),
    ({"answer": "", "response": "x.\nThe answer is "}, "no_answer_line"),
    ({"query": "New problem:\nWhat is 3 + 4?"}, "prompt_label"),
    ({"query": "### Instruction:\nWhat is 3 + 4?"}, "prompt_label"),
    ({"query": "What is 3 + 4?\nSolution:"}, "prompt_label"),
    ({"response": "### Response:\n3 + 4 = 7.\nThe answer is 7"}, "prompt_label"),
    ({"response": "FINAL CREATED QUESTION: What?\n3 + 4 = 7.\nThe answer is 7"}, "prompt_label"),
    ({"max_characters": 10}, "too_many_characters"),
    ({"max_tokens": 3, "tokens": 4}, "too_many_tokens"),
  ],
)
def test_faults(changes, reason):
  assert reason in reasons(**changes)


def test_rows_of_a_user_without_an_answer_need_no_answer_line():
  assert reasons(method="user", answer="", response="3 + 4 = 7") == []
  assert reasons(method="user", answer="", response="") == ["empty_response"]
