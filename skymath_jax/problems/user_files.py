r"""A user's own problems: JSON lines, Parquet, or a folder of the `datasets` library, under the names that people use.

  {"question": "2 + 3 = ?", "answer": 5}
  {"problem": "Find $x$ …", "solution": "… \\boxed{7}", "level": "Level 3", "type": "Algebra"}
  {"question": "Natalia sold …", "answer": "… \n#### 72"}

A missing answer is taken from the solution's last `\boxed{}` or from what follows `####`. A folder is one that
`save_to_disk` left (Arrow files), or one of Parquet files.
"""

import math
import re
from collections.abc import Iterator, Mapping
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


SUFFIXES = (".jsonl", ".parquet", ".arrow")


def is_users(text: str) -> bool:
  """Whether the text names a file or folder of problems, and not a source of the catalog."""
  return text.endswith(SUFFIXES) or ("/" in text and epath.Path(text).expanduser().is_dir())


def load(path: epath.PathLike) -> list[Problem]:
  """All problems of a file or folder.

  Raises:
    UserError: no such file, a line that is no JSON object, no question, or a value of the wrong kind; names file:row.
  """
  seen: dict[str, int] = {}
  problems: dict[str, Problem] = {}
  for where, row in _rows(epath.Path(path)):
    new = problem(row, where, source=epath.Path(path).stem, seen=seen)
    if problems.setdefault(new.id, new) is not new:
      raise UserError(f"the id {new.id!r} was used before", where=where, remedy="make ids unique, or leave them out")
  return list(problems.values())


def _rows(path: epath.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """(file:row, row) of all rows; the files of a folder in the order of their names."""
  if path.is_dir():
    patterns = ("*.parquet", "*.arrow", "*/*.parquet", "*/*.arrow")
    found = sorted(file for pattern in patterns for file in path.glob(pattern))
    if not found:
      raise UserError(
        "no Parquet and no Arrow file in this folder", where=path, remedy="name a folder of save_to_disk, or a file"
      )
    for file in found:
      yield from _rows(file)
  elif path.suffix == ".jsonl":
    yield from ((f"{path}:{number}", row) for number, row in records.read_lines(path))
  else:
    yield from ((f"{path}:{number}", row) for number, row in enumerate(table(path), start=1))


def table(path: epath.Path) -> Iterator[dict[str, Any]]:
  """The rows of a Parquet file or of an Arrow file of the `datasets` library, without loading all at once.

  Raises:
    UserError: it is not there, or cannot be read.
  """
  try:
    import pyarrow.parquet
  except ImportError:
    raise UserError("this file needs pyarrow", where=path, remedy="install pyarrow, or write JSON lines") from None
  try:
    with path.open("rb") as file:
      parquet = path.suffix == ".parquet"
      batches = pyarrow.parquet.ParquetFile(file).iter_batches() if parquet else pyarrow.ipc.open_stream(file)
      for batch in batches:
        yield from batch.to_pylist()
  except FileNotFoundError:
    raise UserError("no such file", where=path, remedy="check the path in the config") from None
  except pyarrow.ArrowInvalid as error:
    raise UserError(f"this file cannot be read ({error})", where=path, remedy="write it again") from None


def problem(row: Mapping[str, Any], where: str, *, source: str, seen: dict[str, int]) -> Problem:
  """One row as a Problem; a question seen before gets an id of its own, so that no row of a test set is lost.

  Args:
    row: the JSON object.
    where: file:line for messages.
    source: the Problem's source, where the row names none.
    seen: question → times seen so far; updated.

  Raises:
    UserError: no question, or a value of another type than its key's.
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
