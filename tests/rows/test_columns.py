"""The names that people use, each read as the pair or the conversation that is meant."""

import pytest

from skymath_jax.errors import UserError
from skymath_jax.rows import columns

PAIR = {"query": "q", "response": "r"}
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
THINKING = {**TURNS[1], "reasoning_content": "t"}
SYSTEM = {"role": "system", "content": "s"}


def pairs(row, names=""):
  return list(columns.pairs(row, "a.jsonl:1", columns.named(names)))


@pytest.mark.parametrize(
  "row",
  [
    PAIR,
    {"question": "q", "answer": "r"},
    {"Problem": "q", "Solution": "r", "answer": "5"},
    {"prompt": "q", "completion": "r"},
    {"instruction": "q", "input": "", "output": "r"},
    {"problem": "q", "generated_solution": "r", "expected_answer": "5"},
    {"question": "q", "answer": "5", "solution": "r"},
    {"query": None, "response": None, "messages": TURNS},
    {"messages": TURNS, "source": "s"},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]},
    {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]'},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {**TURNS[1], "tool_calls": None}]},
    {"prompt": TURNS[:1], "completion": TURNS[1:]},
  ],
)
def test_usual_names_give_the_pair(row):
  assert pairs(row) == [PAIR]


def test_an_input_follows_its_instruction():
  assert pairs({"instruction": "Add.", "input": "2, 3", "output": 5}) == [{"query": "Add.\n\n2, 3", "response": "5"}]


@pytest.mark.parametrize(
  ("row", "messages"),
  [
    ({"messages": [SYSTEM, *TURNS]}, [SYSTEM, *TURNS]),
    ({"messages": TURNS * 2}, TURNS * 2),
    ({"system": "s", "conversations": TURNS}, [SYSTEM, *TURNS]),
    ({"messages": [TURNS[0], THINKING]}, [TURNS[0], THINKING]),
  ],
)  # fmt: skip
def test_more_than_a_question_and_an_answer_stays_a_conversation(row, messages):
  assert pairs(row) == [{"messages": messages}]


def test_columns_may_be_named():
  row = {"a": "q", "b": "more", "c": "r", "talk": TURNS}
  assert pairs(row, "a,c") == pairs(row, "talk") == [PAIR]
  assert pairs(row, "a+b, c") == [{"query": "q\n\nmore", "response": "r"}]
  with pytest.raises(UserError, match="no column 'd'"):
    pairs(row, "a,d")
  with pytest.raises(UserError, match="3 columns"):
    pairs(row, "a,b,c")


@pytest.mark.parametrize(
  ("row", "what"),
  [
    ({"text": "t"}, r"no query and response under usual names \(there is text\)"),
    ({"query": 5, "response": "r"}, "'query' is a int"),
    ({"query": "q", "response": ["r"]}, "'response' is a list"),
    ({"query": "q", "response": True}, "'response' is a bool"),
    ({"messages": []}, "without turns"),
    ({"messages": "hello"}, "a str, not a list of turns"),
    ({"messages": "[1"}, "no JSON"),
    ({"messages": ["q", "r"]}, "a turn is a str"),
    ({"messages": [{"role": "narrator", "content": "q"}]}, "role 'narrator'"),
    ({"messages": [{"role": "user", "content": None}]}, "a turn's text is None"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part that is no text"),
  ],
)
def test_what_cannot_be_meant_names_the_row(row, what):
  with pytest.raises(UserError, match=rf"a\.jsonl:1: .*{what}"):
    pairs(row)
