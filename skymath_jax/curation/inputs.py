"""Reads what is to be curated: rows of any table that `rows` reads, as Instances; and test sets."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from skymath_jax import files, records, rows
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, stable_id
from skymath_jax.rows import columns
from skymath_jax.sft import pairs

_TEXTS = ("answer", "id", "method", "query", "response", "teacher")
_OBJECTS = ("sampling", "prompt", "quality")  # JSON text in our own Parquet
_NUMBERS = {"stage": 1, "synthesis_pass": 1, "level": None, "tokens": None}
_FLAGS = {"gold_match": None, "pseudo_gold": False}


def read_inputs(paths: str | Sequence[str]) -> list[Instance]:
  """The rows of files, folders and hub ids as Instances: Instance rows, pairs, conversations of one turn.

  Raises:
    UserError: a row is none of these; file and row are named.
  """
  return [made for path in listed(paths) for made in _instances_of(path)]


def listed(paths: str | Sequence[str]) -> list[str]:
  """The paths of a sequence, or of a text with commas."""
  if isinstance(paths, str) and files.located(paths).exists():
    return [paths]
  return [part for item in ([paths] if isinstance(paths, str) else paths) for part in str(item).split(",") if part]


def as_lines(paths: str | Sequence[str], folder: epath.Path) -> list[str]:
  """The files as JSON lines: those that are, as they lie there; what another format holds, as Instances in `folder`.

  Raises:
    UserError: a file or row that cannot be read; it is named.
  """
  found = []
  for path in listed(paths):
    if path.endswith(".jsonl") and "://" not in path and epath.Path(path).expanduser().is_file():
      found.append(str(epath.Path(path).expanduser()))
      continue
    lines = folder / f"input-{len(found):03d}.jsonl"
    records.write_lines(lines, _instances_of(path))
    found.append(str(lines))
  return found


def _instances_of(path: str) -> Iterator[Instance]:
  table = pairs.table_of(path)
  preset = table.preset if isinstance(table, rows.Table) else None
  reading = columns.named("", preset)
  for where, row in pairs.numbered(table):
    if reading is None:
      yield instance(row, where)
    else:
      yield from (_of_pair(pair, where) for pair in columns.pairs(row, where, reading))


def instance(row: dict[str, Any], where: str | None = None) -> Instance:
  """A row as an Instance: one of our own, or a pair, which gets an id of its own and the method `user`.

  Raises:
    UserError: it is neither, or a value is of a kind that cannot be meant.
  """
  if {"id", "method", "parents"} <= row.keys():
    return _own(row, where)
  return _of_pair(next(columns.pairs(row, where)), where)


def _of_pair(pair: dict[str, Any], where: str | None) -> Instance:
  if "messages" in pair:
    what = "a conversation of more than one question and answer"
    raise UserError(what, where=where, remedy="curation compares questions: train on it as it is, or leave it out")
  query, response = pair["query"], pair["response"]
  last = response.rstrip().rpartition("\n")[2]
  answer = last.removeprefix(records.ANSWER_MARKER).strip() if last.startswith(records.ANSWER_MARKER) else ""
  return Instance(
    id=stable_id(query, response),
    query=query,
    response=response,
    answer=answer,
    method=records.USER_METHOD,
    parents=(),
    stage=1,
  )


def _own(row: dict[str, Any], where: str | None) -> Instance:
  """An Instance whose values are of the right kinds; `"5"` and 5.0 are the number 5, and null is nothing."""
  given = {("synthesis_pass" if key == "pass" else key): value for key, value in row.items()}
  try:
    given = {"answer": "", "teacher": "", **given}
    for key in _TEXTS:
      if not isinstance(given.get(key), str):
        raise ValueError(f"{key!r} is a {type(given[key]).__name__}, not text" if key in given else f"no {key!r}")
    for key in _OBJECTS:
      given[key] = _object(given.get(key), key)
    for key, default in _NUMBERS.items():
      given[key] = _number(given.get(key), key, default)
    for key, flag in _FLAGS.items():
      given[key] = _flag(given.get(key), key, flag)
    given["parents"] = _parents(given["parents"])
    return Instance(**given)
  except (TypeError, ValueError) as error:
    remedy = "see skymath_jax/records.py for the keys; a row without `method` is read as a pair"
    raise UserError(f"not an Instance ({error})", where=where, remedy=remedy) from None


def _object(value: Any, key: str) -> dict[str, Any]:
  if isinstance(value, str):
    value = records.without_surrogates(json.loads(value or "{}"))
  if value is None or isinstance(value, dict):
    return value or {}
  raise ValueError(f"{key!r} is a {type(value).__name__}, not an object")


def _number(value: Any, key: str, default: int | None) -> int | None:
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return default
  number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
  if not math.isfinite(number) or number != int(number):
    raise ValueError(f"{key!r} is {value!r}, not a whole number")
  return int(number)


def _flag(value: Any, key: str, default: bool | None) -> bool | None:
  if value is None or isinstance(value, bool):
    return default if value is None else value
  raise ValueError(f"{key!r} is {value!r}, not true or false")


def _parents(value: Any) -> tuple[str, ...]:
  if not isinstance(value, list | tuple) or not all(isinstance(part, str | int) for part in value):
    raise ValueError("'parents' is no list of ids")
  return tuple(map(str, value))
