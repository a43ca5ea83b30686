"""Grading files: what comes in comes out, with verdicts."""

import json

import pytest

from skymath_jax.errors import UserError
from skymath_jax.grading import grade_file, grade_rows

ROWS = [
  {"gold": "1/2", "pred": "0.5", "id": 7},
  {"gold": "x^2-1", "pred": "(x-1)(x+1)"},
  {"gold": "#### 12", "response": "I think\nThe answer is 12."},
  {"gold": r"thus \boxed{3}", "response": "so it is \\boxed{3}"},
  {"gold": 4, "pred": 4.0},
  {"gold": "4", "pred": None},
  {"gold": "4", "response": "no idea"},
]


def test_verdicts_by_mode_and_rows_are_carried_over():
  symbolic, strict = grade_rows(ROWS, "symbolic"), grade_rows(ROWS, "strict")
  assert [row["correct"] for row in symbolic] == [True, True, True, True, True, False, False]
  assert [row["correct"] for row in strict] == [True, False, True, False, True, False, False]
  assert [row["extracted"] for row in symbolic] == ["0.5", "(x-1)(x+1)", "12", "3", "4.0", None, None]
  assert symbolic[0] == {"gold": "1/2", "pred": "0.5", "id": 7, "extracted": "0.5", "correct": True}


def test_workers_give_the_same_rows():
  many = [{"gold": str(i % 7), "pred": str(i % 5), "n": i} for i in range(1200)]
  assert grade_rows(many, "symbolic", workers=2) == grade_rows(many, "symbolic")


def test_file_in_file_out(tmp_path):
  source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  facts = grade_file(source, target, mode="symbolic")
  assert facts == {"rows": 7, "correct": 5, "accuracy": 5 / 7, "no_answer": 2, "mode": "symbolic"}
  assert [json.loads(line)["correct"] for line in target.read_text().splitlines()] == [True] * 5 + [False] * 2


def test_a_row_that_cannot_be_graded_is_named(tmp_path):
  source = tmp_path / "in.jsonl"
  source.write_text('{"gold":"1","pred":"1"}\n\n{"gold":"1"}\n')
  with pytest.raises(UserError, match=r"in\.jsonl:3"):
    grade_file(source, tmp_path / "out.jsonl")
  assert not (tmp_path / "out.jsonl").exists()
  with pytest.raises(UserError, match="row 1 has no gold"):
    grade_rows([{"pred": "1"}], "strict")
