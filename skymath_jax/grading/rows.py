"""Grading whole files: rows with a gold and a prediction or response in, the same rows with a verdict out."""

import concurrent.futures
import functools
import multiprocessing
from collections.abc import Iterable
from typing import Any

from etils import epath

from skymath_jax import records
from skymath_jax.console import bar
from skymath_jax.errors import UserError
from skymath_jax.grading.extract import extract, gold_answer, marked_answer
from skymath_jax.grading.verdict import equivalent

Row = dict[str, Any]
CHUNK = 500  # rows a worker takes at once


def answer_of(response: str, mode: str = "strict") -> str | None:
  """The answer that `mode` reads in a response: after the paper's marker only, or wherever models write it."""
  return marked_answer(response) if mode == "strict" else extract(response)


def grade_row(row: Row, mode: str) -> Row:
  r"""`row` with `extracted` and `correct`; a gold that is a whole solution (`\boxed{}`, `####`) is read first."""
  gold, pred = _text(row["gold"]), _text(row["pred"]) if "pred" in row else None
  if gold is not None and ("\\boxed" in gold or "\\fbox" in gold or "####" in gold):
    gold = gold_answer(gold)
  if "pred" not in row:
    response = _text(row["response"])
    pred = answer_of(response, mode) if response is not None else None
  return {**row, "extracted": pred, "correct": equivalent(gold, pred, mode)}


def grade_rows(rows: Iterable[Row], mode: str = "symbolic", workers: int = 0) -> list[Row]:
  """Grades {`gold`, `pred`} or {`gold`, `response`} rows, in order; other keys are carried over.

  Args:
    rows: `pred` is a bare answer, `response` a whole text; golds and predictions may be numbers.
    mode: `strict` or `symbolic`.
    workers: processes; 0 grades here.

  Raises:
    UserError: a row has no `gold`, or neither `pred` nor `response` (its number is named).
  """
  rows = list(rows)
  for number, row in enumerate(rows, start=1):
    if "gold" not in row or not {"pred", "response"} & row.keys():
      raise UserError(
        f"row {number} has no {'gold' if 'gold' not in row else 'pred and no response'}",
        where="grade",
        remedy='every row needs "gold", and "pred" (a bare answer) or "response" (a whole text)',
      )
  grade = functools.partial(grade_row, mode=mode)
  with bar(f"grade ({mode})", len(rows)) as progress:
    if workers < 2 or len(rows) <= CHUNK:
      return [_counted(grade(row), progress) for row in rows]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
      return [_counted(row, progress) for row in pool.map(grade, rows, chunksize=CHUNK)]


def grade_file(source: epath.PathLike, target: epath.PathLike, *, mode: str = "symbolic", workers: int = 0) -> Row:
  """`grade_rows` from one JSONL file to another; returns {`rows`, `correct`, `accuracy`, `no_answer`, `mode`}."""
  numbered = list(records.read_lines(source))
  for number, row in numbered:
    if "gold" not in row or not {"pred", "response"} & row.keys():
      raise UserError(
        "this row cannot be graded",
        where=f"{source}:{number}",
        remedy='every row needs "gold", and "pred" (a bare answer) or "response" (a whole text)',
      )
  graded = grade_rows((row for _, row in numbered), mode, workers)
  records.write_lines(target, graded)
  right = sum(row["correct"] for row in graded)
  return {
    "rows": len(graded),
    "correct": right,
    "accuracy": right / len(graded) if graded else 0.0,
    "no_answer": sum(row["extracted"] is None for row in graded),
    "mode": mode,
  }


def _text(value: object) -> str | None:
  return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _counted(row: Row, progress: Any) -> Row:
  progress.advance()
  return row
