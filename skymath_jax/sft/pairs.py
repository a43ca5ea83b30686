"""Training pairs from anywhere: what `training.data` names, as one source of rows.

  pairs.open("pairs.jsonl")                     {"query", "response"} or {"messages"} of each row
  pairs.open("a.jsonl:2,folder:train:0.5")      the rows of the first twice an epoch, every other row of the second
  pairs.open('{"odd name, with comma.csv": 1}') the same as a mapping, for any name
  pairs.open("runs/a/sft/stage1")               a data set that `curate` made

Nothing is held in memory: rows are read anew each time the source is gone through.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from skymath_jax import files, rows
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.rows import columns
from skymath_jax.rows.columns import Reading
from skymath_jax.sft import dataset

Row = dict[str, Any]
LOOKED_AT = 100  # rows from which the columns are chosen
SHOWN, SHOWN_CHARACTERS = 3, 200
_WEIGHT = re.compile(r"\d+(?:\.\d+)?|\.\d+")


@dataclasses.dataclass(frozen=True)
class Part:
  """One source of a mixture; a row comes `weight` times an epoch, of 0.5 every other one."""

  text: str
  weight: float
  table: rows.Table | dataset.SFTDataset
  reading: Reading | None

  def __iter__(self) -> Iterator[Row]:
    total = 0
    for row in self.rows():
      before, total = total, total + 1
      for _ in range(int(total * self.weight) - int(before * self.weight)):
        yield row

  def rows(self) -> Iterator[Row]:
    """Each row once, whatever the weight.

    Raises:
      UserError: a row cannot be read as this source's rows are; file and row are named.
    """
    for where, row in numbered(self.table):
      fits = self.reading is not None and all(name in row for name in (self.reading.query[0], *self.reading.responses))
      yield from columns.pairs(row, where, self.reading if fits or columns.reading_of(row) is None else None)

  @property
  def about(self) -> str:
    """Licence and citation of a public set; else nothing."""
    preset = None if isinstance(self.table, dataset.SFTDataset) else self.table.preset
    return f"; licence {preset.licence}; {preset.citation}" if preset is not None else ""


class Pairs:
  """The rows of all parts, in order; goes through them anew each time."""

  def __init__(self, parts: tuple[Part, ...]):
    self.parts = parts

  def __iter__(self) -> Iterator[Row]:
    return itertools.chain.from_iterable(self.parts)

  def __len__(self) -> int:
    return self._count

  @functools.cached_property
  def _count(self) -> int:
    return sum(1 for _ in self)

  @functools.cached_property
  def fingerprint(self) -> str:
    """16 hex digits over the bytes of all files, and over how they are read and mixed."""
    facts = [[part.table.fingerprint, part.weight, str(part.reading), part.about] for part in self.parts]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

  def show(self) -> None:
    """Tells how the rows are read, with the first of them, and what each source gives to an epoch."""
    for part in self.parts:
      first = list(itertools.islice(part.rows(), SHOWN))
      often = f", {part.weight:g} times an epoch" if part.weight != 1 else ""
      log(f"{part.text} is read as: {part.reading}{often}{part.about}; {len(first)} examples follow")
      for row in first:
        log("\n".join(f"  {who}: {_short(text)}" for who, text in _told(row)))


def _told(row: Row) -> list[tuple[str, str]]:
  turns = row.get("messages")
  if turns is None:
    return [("query", row["query"]), ("response", row["response"])]
  return [(message["role"], message["content"]) for message in turns]


def _short(text: str) -> str:
  line = " ".join(text.split())
  return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} …"


def open(text: str, columns_: str = "") -> Pairs:
  """The source that `text` names.

  Args:
    text: `SOURCE`, `SOURCE:WEIGHT,SOURCE:WEIGHT` or a JSON object of source → weight. A source is what `rows.find`
      finds, or a folder of `sft`.
    columns_: `QUERY,RESPONSE` or `MESSAGES`; empty: a preset's, or those with usual names.

  Raises:
    UserError: there is no such source, it has no rows, or no columns with usual names.
  """
  parts = tuple(_part(source, weight, columns_) for source, weight in split(text).items())
  return Pairs(parts)


def split(text: str) -> dict[str, float]:
  """Source → weight.

  Raises:
    UserError: a weight is none, or the mapping is damaged.
  """
  if text.lstrip().startswith("{") and not files.located(text).exists():
    return _mapping(text)
  if files.located(text).exists():
    return {text: 1.0}
  found: dict[str, float] = {}
  for item in filter(None, (item.strip() for item in text.split(","))):
    head, colon, weight = item.rpartition(":")
    weighted = bool(colon) and _WEIGHT.fullmatch(weight) is not None and not files.located(item).exists()
    source, times = (head, float(weight)) if weighted else (item, 1.0)
    found[source] = found.get(source, 0.0) + times
  return _positive(found, text)


def _mapping(text: str) -> dict[str, float]:
  try:
    found = json.loads(text)
    weights = {str(source): float(weight) for source, weight in found.items()}
  except (ValueError, TypeError, AttributeError) as error:
    what = f"no mapping of sources to weights ({error})"
    raise UserError(what, where="config.training.data", remedy='write {"a.jsonl": 2, "b.parquet": 1}') from None
  return _positive(weights, text)


def _positive(weights: Mapping[str, float], text: str) -> dict[str, float]:
  if not weights or not all(0 < weight <= 1000 for weight in weights.values()):
    remedy = "a weight says how often each row comes in an epoch: above 0, at most 1000"
    raise UserError("no source with a weight", where=text or "config.training.data", remedy=remedy)
  return dict(weights)


def _part(text: str, weight: float, columns_: str) -> Part:
  table = table_of(text)
  if isinstance(table, dataset.SFTDataset):
    return Part(text, weight, table, Reading(("query",), ("response",)))
  reading = columns.named(columns_, table.preset)
  first = list(itertools.islice(table, LOOKED_AT))
  if not first:
    raise UserError("there are no rows", where=text, remedy="name another file")
  if reading is None:  # the columns that most of the first rows have a use for
    counts = Counter(found for _, row in first if (found := columns.reading_of(row)) is not None)
    reading = counts.most_common(1)[0][0] if counts else None
  part = Part(text, weight, table, reading)
  next(part.rows(), None)  # refuses what cannot be read before anything is made
  return part


def table_of(text: str) -> rows.Table | dataset.SFTDataset:
  """What `text` names: a data set that `curate` made, or a table of `rows`.

  Raises:
    UserError: there is none.
  """
  folder = files.located(text)
  return dataset.open(folder) if (folder / dataset.FACTS).exists() else rows.find(text)


def numbered(table: rows.Table | dataset.SFTDataset) -> Iterator[tuple[str, Row]]:
  """(file:row, row) of a table, columns as they are."""
  if isinstance(table, dataset.SFTDataset):
    return ((f"{table.folder}:{number}", row) for number, row in enumerate(table, start=1))
  return iter(table)
