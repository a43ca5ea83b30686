"""The two records of the pipeline, Problem and Instance, and their JSON lines (one object a line, UTF-8).

A problem is a seed or a synthesized question; an instance is one (query, response) pair with the whole chain of
where it came from. Ids are hashes of content, so a record made twice is the same record.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError

Facts: TypeAlias = dict[str, Any]  # what a stage or a tool has to tell, as JSON values
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD]")
# Asymptote code, to the end where the closing mark is missing (a teacher was cut off): neither words nor numbers of it
DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)|\\begin\{asy\}.*?(?:\\end\{asy\}|\Z)", re.DOTALL)
USER_METHOD = "user"  # the method of {query, response} rows that no pipeline made
ANSWER_MARKER = "The answer is "  # the literal prefix of the last line of a response; no colon (Skywork section 3)


def stable_id(*parts: object) -> str:
  """16 hex digits that depend on the parts' content and order only."""
  return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """A question to be solved. `level` is 1 (easy) to 5; `answer` is the gold answer where one is known."""

  id: str
  source: str
  question: str
  solution: str | None = None
  answer: str | None = None
  level: int | None = None
  subject: str | None = None
  language: str = "en"
  license: str = ""

  @classmethod
  def create(cls, source: str, question: str, **fields: Any) -> "Problem":
    """A problem whose id is the hash of source and question."""
    return cls(id=stable_id(source, question), source=source, question=question, **fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instance:
  """One synthesized (query, response) pair; `response` ends with the literal `\\nThe answer is ANSWER`.

  `parents` are ids of the problem or instance it was made from; `stage` is 1 (normal) or 2 (hard); `synthesis_pass`
  (JSON key `pass`) is 1 from seeds, 2 from selected synthetic problems. `gold_match` is None where no gold exists;
  `pseudo_gold` is true where the gold was itself a teacher's answer. `quality` holds what else is known of it:
  `verdict` (the verifier's word), `difficulty` (1 to 5, as the teacher rates the query), `samples` and `solve_rate`
  (responses to the query, and the share of them that agree), `round` (which draw of its problem it was, from 1, where
  `synthesis.rounds` ends them). `thought` is what a reasoning teacher thought before it wrote the response; a row of a
  teacher that does not think has no such key.
  """

  id: str
  query: str
  response: str
  answer: str
  method: str
  parents: tuple[str, ...]
  stage: int
  synthesis_pass: int = 1
  teacher: str = ""
  sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
  prompt: dict[str, str] = dataclasses.field(default_factory=dict)
  gold_match: bool | None = None
  pseudo_gold: bool = False
  level: int | None = None
  tokens: int | None = None
  quality: dict[str, Any] = dataclasses.field(default_factory=dict)
  thought: str | None = None


Record = Problem | Instance
R = TypeVar("R", Problem, Instance)


def to_json(record: Record) -> dict[str, Any]:
  """The record as a JSON object (`synthesis_pass` is written as `pass`)."""
  row = dict(vars(record))  # in the order of the fields; `dataclasses.asdict` would copy every value, ten times as slow
  if isinstance(record, Instance):
    row = {("pass" if key == "synthesis_pass" else key): value for key, value in row.items()}
    row["parents"] = list(record.parents)
    if record.thought is None:
      del row["thought"]
  return row


def from_json(kind: type[R], row: dict[str, Any]) -> R:
  """The inverse of `to_json`; keys that the record does not have are an error (`TypeError`)."""
  row = dict(row)
  if "pass" in row:
    row["synthesis_pass"] = row.pop("pass")
  if "parents" in row:
    row["parents"] = tuple(row["parents"])
  return kind(**row)


def read_lines(path: epath.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (file:line, JSON object); blank lines are passed over.

  Raises:
    UserError: the file is missing or a folder, or a line is not a JSON object (file and line are named).
  """
  path = files.located(path)
  if not path.exists():
    raise UserError("no such file", where=path, remedy="check the path")
  if path.is_dir():
    raise UserError("this is a folder", where=path, remedy="name a JSONL file in it")
  with path.open("rb") as f:
    yield from parse_lines(f, path)


def parse_lines(lines: Iterable[bytes], path: epath.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
  """(file:line, JSON object) of the lines of an open file; blank ones are passed over.

  Raises:
    UserError: a line is not a JSON object.
  """
  for number, line in enumerate(lines, start=1):
    if line.strip():
      where = f"{path}:{number}"
      yield where, parse_line(line, where)


def parse_line(line: bytes, where: str | None = None) -> dict[str, Any]:
  """The object of one JSON line; half a surrogate pair, which no file can hold, becomes U+FFFD.

  Args:
    line: in UTF-8.
    where: file:line, for messages.

  Raises:
    UserError: it is not a JSON object.
  """
  try:
    row = json.loads(line)
    if _ESCAPED_SURROGATE.search(line):
      row = without_surrogates(row)
  except (ValueError, RecursionError) as error:  # also no UTF-8, a number of 5,000 digits, nested without end
    what = " ".join(str(error).split())[:200]
    remedy = "write the file in UTF-8" if isinstance(error, UnicodeDecodeError) else "repair or remove the line"
    raise UserError(f"this line is not JSON ({what})", where=where, remedy=remedy) from None
  if not isinstance(row, dict):
    raise UserError(
      f"this line is a JSON {type(row).__name__}, not an object",
      where=where,
      remedy='write one {"key": value} object a line',
    )
  found: dict[str, Any] = row
  return found


def without_surrogates(value: Any) -> Any:
  """A JSON value whose texts have U+FFFD for every half of a surrogate pair."""
  if isinstance(value, str):
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
  if isinstance(value, list):
    return [without_surrogates(part) for part in value]
  if isinstance(value, dict):
    return {without_surrogates(key): without_surrogates(part) for key, part in value.items()}
  return value


def read(kind: type[R], path: epath.PathLike) -> list[R]:
  """All records of one JSONL file; `UserError` names file and line of a row with missing or unknown keys."""
  records = []
  for where, row in read_lines(path):
    try:
      records.append(from_json(kind, row))
    except TypeError as error:
      what = f"not a {kind.__name__} ({error})"
      raise UserError(what, where=where, remedy="see skymath_jax/records.py for the keys") from None
  return records


def _line(row: dict[str, Any]) -> str:
  """One JSON line; half a surrogate pair, which UTF-8 cannot hold, is written as an escape."""
  line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
  return line if line.isascii() or not _SURROGATE.search(line) else json.dumps(row, separators=(",", ":"))


def write_lines(path: epath.PathLike, rows: Iterable[dict[str, Any] | Record]) -> int:
  """Writes one JSON object a line, atomically; returns the number of lines."""
  count = 0
  with files.replacing(path) as f:
    for row in rows:
      f.write(f"{_line(row if isinstance(row, dict) else to_json(row))}\n".encode())
      count += 1
  return count
