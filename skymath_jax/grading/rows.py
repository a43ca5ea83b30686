"""Grading whole files: rows with a gold and a prediction or response in, the same rows with a verdict out."""

import functools
from collections.abc import Iterable
from typing import Any

from etils import epath

from skymath_jax import records
from skymath_jax.console import bar
from skymath_jax.errors import UserError
from skymath_jax.grading.response import bare_gold, grade_response
from skymath_jax.grading.verdict import checked_mode, equivalent
from skymath_jax.grading.workers import in_children

Row = dict[str, Any]


def grade_row(row: Row, mode: str) -> Row:
  r"""`row` with `extracted` and `correct`; a gold that is a whole solution (`\boxed{}`, `####`) is read first."""
  gold, pred = _text(row["gold"]), _text(row["pred"]) if "pred" in row else None
  gold = gold and bare_gold(gold)
  if "pred" in row:
    return {**row, "extracted": pred, "correct": equivalent(gold, pred, mode)}
  response = _text(row["response"])
  extracted, correct = grade_response(gold, response, mode) if response is not None else (None, False)
  return {**row, "extracted": extracted, "correct": correct}


def grade_rows(rows: Iterable[Row], mode: str = "symbolic", workers: int = 0) -> list[Row]:
  """Grades {`gold`, `pred`} or {`gold`, `response`} rows, in order; other keys are carried over.

  Args:
    rows: `pred` is a bare answer, `response` a whole text; golds and predictions may be numbers.
    mode: `strict` or `symbolic`.
    workers: child processes, in which every row has a hard time limit; 0 grades here.

  Raises:
    UserError: a row has no `gold`, or neither `pred` nor `response` (its number is named), or the mode is unknown.
  """
  rows = list(rows)
  checked_mode(mode)
  for number, row in enumerate(rows, start=1):
    _check(row, where="grade", what=f"row {number}")
  grade = functools.partial(grade_row, mode=mode)
  with bar(f"grade ({mode})", len(rows)) as progress:
    graded = in_children(rows, grade, workers=workers) if workers else map(grade, rows)
    return [_counted(row, progress) for row in graded]


def grade_file(source: epath.PathLike, target: epath.PathLike, *, mode: str = "symbolic", workers: int = 0) -> Row:
  """`grade_rows` from one JSONL file to another; returns {`rows`, `correct`, `accuracy`, `no_answer`, `mode`}.

  Raises:
    UserError: no row, or a line is not JSON or cannot be graded; file and line are named, and nothing is written.
  """
  found = list(records.read_lines(source))
  if not found:
    raise UserError("no rows to grade", where=source, remedy='write {"gold": …, "pred": …} objects, one a line')
  for where, row in found:
    _check(row, where=where, what="this row")
  graded = grade_rows((row for _, row in found), mode, workers)
  records.write_lines(target, graded)
  right = sum(row["correct"] for row in graded)
  return {
    "rows": len(graded),
    "correct": right,
    "accuracy": right / len(graded),
    "no_answer": sum(row["extracted"] is None for row in graded),
    "mode": mode,
  }


def _check(row: Row, *, where: str, what: str) -> None:
  if "gold" in row and {"pred", "response"} & row.keys():
    return
  raise UserError(
    f"{what} has no {'gold' if 'gold' not in row else 'pred and no response'}",
    where=where,
    remedy='every row needs "gold", and "pred" (a bare answer) or "response" (a whole text)',
  )


def _text(value: object) -> str | None:
  return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _counted(row: Row, progress: Any) -> Row:
  progress.advance()
  return row
