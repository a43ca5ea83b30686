r"""A user's own problems, from whatever `rows` reads, under the names that people use.

  {"question": "2 + 3 = ?", "answer": 5}
  {"problem": "Find $x$ …", "solution": "… \\boxed{7}", "level": "Level 3", "type": "Algebra"}
  {"question": "Natalia sold …", "answer": "… \n#### 72"}

A missing answer is taken from the solution's last `\boxed{}`, from what follows `####` or from `The answer is`.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from skymath_jax import grading, records, rows
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.records import Problem
from skymath_jax.rows import columns

ALIASES = {
  "question": ("question", "problem", "query", "instruction", "prompt", "problem_statement", "input"),
  "answer": (
    *("answer", "final_answer", "expected_answer", "gold", "ground_truth", "gold_answer", "correct_answer"),
    *("reference_answer", "ground_truth_answer", "numerical_answer", "target", "label"),
  ),
  "solution": ("solution", "response", "rationale", "generated_solution", "r1_solution_1", "completion", "output"),
  "level": ("level",),
  "subject": ("subject", "type", "topic"),
}
DIFFICULTY = "difficulty"  # a level where the whole file keeps to 1 … 5, else a scale of its own
_LEVEL = re.compile(r"(?:level\s*)?([1-5])(?:\.0+)?", re.IGNORECASE)
_UNKNOWN_LEVEL = re.compile(r"(?:level\s*)?\?|", re.IGNORECASE)


def load(text: str) -> list[Problem]:
  """All problems of what `text` names: a file, a folder, a split of one, a hub id (see `rows.find`).

  Raises:
    UserError: it cannot be read, a row has no question, or a value of the wrong kind; names file:row.
  """
  table = rows.find(str(text))
  seen: dict[str, int] = {}
  problems: dict[str, Problem] = {}
  rated: dict[str, Any] = {}  # id → difficulty
  for where, row in table:
    new = problem(row, where, source=table.name, seen=seen)
    if problems.setdefault(new.id, new) is not new:
      raise UserError(f"the id {new.id!r} was used before", where=where, remedy="make ids unique, or leave them out")
    if new.level is None and row.get(DIFFICULTY) is not None:
      rated[new.id] = row[DIFFICULTY]
  levels = {key: _LEVEL.fullmatch(str(value).strip()) for key, value in rated.items()}
  if other := next((rated[key] for key, found in levels.items() if found is None), None):
    log(f"{text}: {DIFFICULTY} ({other!r}, …) is another scale than levels 1 to 5 and is not read")
    levels = {}
  known = {key: int(found[1]) for key, found in levels.items() if found is not None}
  return [dataclasses.replace(p, level=known[p.id]) if p.id in known else p for p in problems.values()]


def problem(row: Mapping[str, Any], where: str, *, source: str, seen: dict[str, int]) -> Problem:
  """One row as a Problem; a question seen before gets an id of its own, so that no row of a test set is lost.

  Args:
    row: the JSON object.
    where: file:row for messages.
    source: the Problem's source, where the row names none.
    seen: question → times seen so far; updated.

  Raises:
    UserError: no question, or a value of the wrong kind.
  """
  row = _flat(row, where)
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
  if answer is None and solution is not None:
    boxed = "\\boxed" in solution or "####" in solution
    answer = grading.gold_answer(solution) if boxed else grading.announced_answer(solution)
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


def _flat(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
  """The row with its names in lower case; of a conversation alone, its first question and answer."""
  flat = {str(key).strip().lower(): value for key, value in row.items()}
  told = next((name for name in columns.CONVERSATIONS if flat.get(name)), None)
  if told is None or any(flat.get(key) is not None for key in ALIASES["question"]):
    return flat
  turns = columns.conversation(flat[told], where)
  texts = {m["role"]: m["content"] for m in reversed(turns.get("messages", []))}
  texts |= {"user": turns.get("query", texts.get("user")), "assistant": turns.get("response", texts.get("assistant"))}
  return {**flat, "query": texts["user"], "response": texts["assistant"]}


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
