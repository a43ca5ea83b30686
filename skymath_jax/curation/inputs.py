"""Reads what is to be curated: JSON lines of Instance rows or of plain {query, response} rows, and test sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from skymath_jax import records
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem, stable_id


def read_inputs(paths: str | Sequence[str]) -> list[Instance]:
  """Reads JSONL files of Instance rows or plain {query, response} rows (`question`, `problem`, `solution` also serve).

  Raises:
    UserError: a row is neither; file and line are named.
  """
  return [instance(row, f"{path}:{number}") for path in listed(paths) for number, row in records.read_lines(path)]


def listed(paths: str | Sequence[str]) -> list[str]:
  """The paths of a sequence, or of a text with commas."""
  return [part for item in ([paths] if isinstance(paths, str) else paths) for part in str(item).split(",") if part]


def instance(row: dict[str, Any], where: str) -> Instance:
  """One row as an Instance; a plain pair gets an id of its own and the method `user`.

  Raises:
    UserError: it is neither an Instance nor a pair of texts; `where` is named.
  """
  if {"id", "method", "parents"} <= row.keys():
    try:
      return records.from_json(Instance, row)
    except TypeError as error:
      raise UserError(
        f"not an Instance ({error})", where=where, remedy="see skymath_jax/records.py for the keys"
      ) from None
  query = _text(row, ("query", "question", "problem"), where)
  response = _text(row, ("response", "solution"), where)
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


def _text(row: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
  found = [key for key in keys if isinstance(row.get(key), str)]
  if not found:
    raise UserError(
      f"this row has no text under {keys[0]!r} (it has {', '.join(sorted(row)) or 'no keys'})",
      where=where,
      remedy='write {"query": …, "response": …} or whole Instance rows',
    )
  return row[found[0]].encode("utf-8", "replace").decode()  # half a surrogate pair has no place in a file


def read_test_set(path: epath.PathLike) -> list[Problem]:
  """Reads a JSONL file of {`question`|`problem`|`query`, optional `answer` and `solution`|`response`} rows.

  Raises:
    UserError: a row has no question; file and line are named.
  """
  problems = []
  for number, row in records.read_lines(path):
    question = _text(row, ("question", "problem", "query"), f"{path}:{number}")
    given = {key: str(value) for key, value in row.items() if value is not None}
    solution = given.get("solution", given.get("response"))
    problems.append(Problem.create(str(path), question, solution=solution, answer=given.get("answer")))
  return problems
