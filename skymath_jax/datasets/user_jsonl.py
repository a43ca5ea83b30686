r"""A user's own problems: one JSON object a line, under the names that people use.

  {"question": "2 + 3 = ?", "answer": 5}
  {"problem": "Find $x$ …", "solution": "… \\boxed{7}", "level": "Level 3", "type": "Algebra"}
  {"question": "Natalia sold …", "answer": "… \n#### 72"}

A missing answer is taken from the solution's last `\boxed{}` or from what follows `####`.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from skymath_jax import grading, records
from skymath_jax.errors import UserError
from skymath_jax.records import Problem

ALIASES = {
  "question": ("question", "problem", "query"),
  "answer": ("answer", "final_answer", "gold"),
  "solution": ("solution", "response", "rationale"),
  "level": ("level", "difficulty"),
  "subject": ("subject", "type"),
}
_LEVEL = re.compile(r"(?:level\s*)?([1-5])", re.IGNORECASE)
_UNKNOWN_LEVEL = re.compile(r"(?:level\s*)?\?|", re.IGNORECASE)


def load(path: epath.PathLike) -> list[Problem]:
  """All problems of a JSONL file.

  Raises:
    UserError: no such file, a line that is no JSON object, no question, or a value of the wrong kind; names file:line.
  """
  seen: dict[str, int] = {}
  problems: dict[str, Problem] = {}
  for number, row in records.read_lines(path):
    where = f"{path}:{number}"
    new = problem(row, where, source=epath.Path(path).stem, seen=seen)
    if problems.setdefault(new.id, new) is not new:
      raise UserError(f"the id {new.id!r} was used before", where=where, remedy="make ids unique, or leave them out")
  return list(problems.values())


def problem(row: Mapping[str, Any], where: str, *, source: str, seen: dict[str, int]) -> Problem:
  """One row as a Problem; a question seen before gets an id of its own, so that no row of a test set is lost.

  Args:
    row: the JSON object.
    where: file:line for messages.
    source: the Problem's source, where the row names none.
    seen: question → times seen so far; updated.
  """
  question = _text(row, "question", where)
  if question is None or not question.strip():
    raise UserError(
      f"no question under any of {', '.join(ALIASES['question'])}",
      where=where,
      remedy='write e.g. {"question": "2 + 3 = ?"}',
    )
  solution, answer = _text(row, "solution", where), _text(row, "answer", where)
  if solution is None and answer is not None and "####" in answer:  # GSM8K keeps both under "answer"
    solution, answer = answer, None
  if answer is None and solution is not None and ("\\boxed" in solution or "####" in solution):
    answer = grading.gold_answer(solution)
  optional = {key: str(row[key]) for key in ("language", "license") if row.get(key) is not None}
  source = str(row.get("source") or source)
  repeat = seen[question] = seen.get(question, -1) + 1
  return Problem(
    id=str(row.get("id") or records.stable_id(source, question, *([repeat] if repeat else []))),
    source=source,
    question=question,
    solution=solution,
    answer=answer.strip() if answer is not None else None,
    level=_level(row, where),
    subject=_text(row, "subject", where),
    **optional,
  )


def _value(row: Mapping[str, Any], field: str) -> tuple[str, Any]:
  """(key, value) under the first alias that the row has, or (field, None)."""
  return next(((key, row[key]) for key in ALIASES[field] if row.get(key) is not None), (field, None))


def _text(row: Mapping[str, Any], field: str, where: str) -> str | None:
  key, value = _value(row, field)
  if value is None or isinstance(value, str):
    return value
  if field == "answer" and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
    return str(int(value)) if value == int(value) else repr(value)
  raise UserError(f"{key!r} is a {type(value).__name__}, not text", where=where, remedy="put the value in quotes")


def _level(row: Mapping[str, Any], where: str) -> int | None:
  key, value = _value(row, "level")
  if value is None or (isinstance(value, str) and _UNKNOWN_LEVEL.fullmatch(value.strip())):
    return None
  found = None if isinstance(value, bool) else _LEVEL.fullmatch(str(value).strip())
  if found is None:
    raise UserError(f"{key!r} is {value!r}", where=where, remedy='write a level from 1 to 5, e.g. 3 or "Level 3"')
  return int(found[1])
