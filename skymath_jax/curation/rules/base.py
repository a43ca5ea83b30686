"""What a rule of curation is: which columns it needs, and its decision on one row or on all rows together.

A rule that can decide on a row alone has a `check` (or `examine`, where many rows at a time are faster): worker
processes call it for each chunk. A rule that must compare rows has a `decide`: it is called once, on the table of the
columns of all rows. Rows are preferred in their order: of equal ones the first stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from skymath_jax.curation.row import Column, Row
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.votes import Votes
from skymath_jax.records import Instance, Problem

TestSets = Mapping[str, Sequence[Problem]]  # name → problems that must not leak


class Drop(NamedTuple):
  """Why an instance is left out: a short reason, counted in the funnel, and what was found, for `dropped.jsonl`."""

  reason: str
  detail: dict[str, Any]


class Fetch(Protocol):
  """Reads instances again, by row number."""

  def __call__(self, rows: Sequence[int]) -> list[Instance]:
    """The instances of `rows`, in that order."""


class Table:
  """The columns of all rows, and which rows are left.

  Attributes:
    alive: rows that no earlier step has dropped, bool `[rows]`.
    votes: the responses to each query counted by answer, of the rows that passed decontamination.
  """

  def __init__(self, columns: Mapping[str, np.ndarray], rows: int, fetch: Fetch):
    self._columns = columns
    self.alive = np.ones(rows, bool)
    self.votes = Votes(columns, np.zeros(0, np.int64))
    self.fetch = fetch

  def __getitem__(self, column: Column) -> np.ndarray:
    """The values of a column, `[rows, …]`."""
    return self._columns[column.name]

  def count_votes(self) -> None:
    """Lets the rows that are left vote."""
    self.votes = Votes(self._columns, self.rows())

  def rows(self) -> np.ndarray:
    """The numbers of the rows that are left, int64 `[left]`."""
    return np.flatnonzero(self.alive)

  def drop(self, rows: np.ndarray, reason: str) -> dict[int, Drop]:
    """A drop for each row that is left and marked in `rows`, bool `[rows]`."""
    return {row: Drop(reason, {}) for row in np.flatnonzero(rows & self.alive).tolist()}

  def fetched(self, rows: Iterable[int]) -> dict[int, Instance]:
    """Row → instance, each read once."""
    wanted = sorted(set(rows))
    return dict(zip(wanted, self.fetch(wanted), strict=True))


class Rule:
  """A reason to leave instances out. A rule is made once in each process.

  Attributes:
    name: unique.
    step: of the funnel, a name of `rules.ORDER`.
    rank: where several rules of a step would drop a row, the one of the lowest rank says why.
    columns: what `decide` needs of every row.
  """

  name: ClassVar[str]
  step: ClassVar[str]
  rank: ClassVar[int] = 0
  columns: tuple[Column, ...] = ()

  def __init__(self, settings: Settings, test_sets: TestSets):
    self.settings, self.test_sets = settings, test_sets

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    """Whether the settings ask for it."""
    del settings
    return True

  def check(self, row: Row) -> Drop | None:
    """Decides on one row by itself."""
    del row
    return None

  def examine(self, rows: Sequence[Row]) -> list[Drop | None]:
    """`check` of many rows."""
    return [self.check(row) for row in rows]

  def decide(self, table: Table) -> Mapping[int, Drop]:
    """Row → why it is dropped, for rows of `table` that are left."""
    del table
    return {}


class Filter(Rule):
  """A rule that is applied where `curation.quality` holds its name."""

  step = "quality"

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    return cls.name in settings.quality


def first_of(keys: np.ndarray) -> np.ndarray:
  """For each entry the index of the first that equals it, int64 `[length]`."""
  _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
  return first[inverse]
