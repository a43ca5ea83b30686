"""A user's rows under the names people use; what is wrong is named with file and line."""

import json

import pytest

from skymath_jax.datasets import user_jsonl
from skymath_jax.errors import UserError


def load(tmp_path, *rows):
  path = tmp_path / "mine.jsonl"
  path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
  return user_jsonl.load(path)


@pytest.mark.parametrize(
  "row, expected",
  [
    ({"question": "q", "answer": "5"}, {"question": "q", "answer": "5", "source": "mine"}),
    ({"problem": "q", "solution": "so \\boxed{\\frac{1}{2}}"}, {"question": "q", "answer": "\\frac{1}{2}"}),
    ({"query": "q", "response": "so\n#### 1,000"}, {"answer": "1,000", "solution": "so\n#### 1,000"}),
    ({"question": "q", "answer": "2 + 3\n#### 5"}, {"answer": "5", "solution": "2 + 3\n#### 5"}),
    ({"question": "q", "answer": 5}, {"answer": "5"}),
    ({"question": "q", "answer": 5.0}, {"answer": "5"}),
    ({"question": "q", "answer": 0.25}, {"answer": "0.25"}),
    ({"question": "q", "answer": "7", "solution": "\\boxed{8}"}, {"answer": "7"}),
    ({"question": "q", "solution": "no mark"}, {"answer": None, "solution": "no mark"}),
    ({"question": "q", "level": 3, "subject": "Algebra"}, {"level": 3, "subject": "Algebra"}),
    ({"question": "q", "level": "Level 5", "type": "Geometry"}, {"level": 5, "subject": "Geometry"}),
    ({"question": "q", "level": "Level ?"}, {"level": None}),
    ({"question": "q", "level": None, "language": "zh"}, {"level": None, "language": "zh"}),
    ({"question": "q", "id": 12, "source": "s", "more": [1]}, {"id": "12", "source": "s"}),
  ],
)  # fmt: skip
def test_names_that_people_use(tmp_path, row, expected):
  (problem,) = load(tmp_path, row)
  assert {key: getattr(problem, key) for key in expected} == expected


@pytest.mark.parametrize(
  "row, what",
  [
    ({"answer": "5"}, "no question"),
    ({"question": "  "}, "no question"),
    ({"question": ["q"]}, "'question' is a list"),
    ({"question": "q", "answer": True}, "'answer' is a bool"),
    ({"question": "q", "answer": ["5"]}, "'answer' is a list"),
    ({"question": "q", "level": "hard"}, "'level' is 'hard'"),
    ({"question": "q", "level": 9}, "'level' is 9"),
    ({"question": "q", "level": True}, "'level' is True"),
    ("{broken", "not JSON"),
    ("[1]", "not an object"),
    ({"question": "q", "id": "first"}, "used before"),
  ],
)
def test_errors_name_file_and_line(tmp_path, row, what):
  with pytest.raises(UserError, match=r"mine\.jsonl:3: ") as caught:
    load(tmp_path, {"question": "fine", "id": "first"}, "", row)
  assert what in str(caught.value)


def test_a_missing_file(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    user_jsonl.load(tmp_path / "nope.jsonl")


def test_a_repeated_question_keeps_its_rows_and_ids_are_stable(tmp_path):
  problems = load(tmp_path, {"question": "q"}, {"question": "r"}, {"question": "q"})
  assert [p.question for p in problems] == ["q", "r", "q"] and len({p.id for p in problems}) == 3
  assert [p.id for p in problems] == [
    p.id for p in load(tmp_path, {"question": "q"}, {"question": "r"}, {"question": "q"})
  ]
