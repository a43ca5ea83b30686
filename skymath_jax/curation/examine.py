"""What can be said of each instance by itself, for a chunk of them at a time: the columns and the drops of the rules.

What comes out does not depend on how the rows are cut into chunks.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from skymath_jax.curation.row import OFFSETS, Row
from skymath_jax.curation.rules.base import Drop, Rule
from skymath_jax.curation.votes import ANSWERS, GOLD, QUERIES, WEIGHTS
from skymath_jax.records import Instance

COLUMNS = (QUERIES, ANSWERS, WEIGHTS, GOLD, OFFSETS)  # what is needed whatever the rules are


@dataclasses.dataclass(frozen=True)
class Examined:
  """Of the rows of a chunk, or of all.

  Attributes:
    rows: how many.
    columns: name → values; one a row, unless the column says otherwise.
    drops: rule → row → why that rule drops it, should no earlier step have done so.
  """

  rows: int
  columns: dict[str, np.ndarray]
  drops: dict[str, dict[int, Drop]]


def examine(instances: Sequence[Instance], rules: Iterable[Rule], *, offsets: Sequence[int] = ()) -> Examined:
  """Looks at the instances of a chunk, rule by rule; a row that a rule drops is not shown to the next.

  Args:
    instances: in the order of the rows.
    rules: of all steps, in order.
    offsets: where each row begins in its file.
  """
  places = offsets or [0] * len(instances)
  rows = [Row(i, place) for i, place in zip(instances, places, strict=True)]
  left = list(range(len(rows)))
  drops: dict[str, dict[int, Drop]] = {}
  columns = dict.fromkeys(COLUMNS)
  for rule in rules:
    found = zip(left, rule.examine([rows[number] for number in left]), strict=True)
    drops[rule.name] = {number: drop for number, drop in found if drop is not None}
    left = [number for number in left if number not in drops[rule.name]]
    columns |= dict.fromkeys(rule.columns)
  return Examined(len(rows), {column.name: column.values(rows) for column in columns}, drops)


def concatenate(parts: Sequence[Examined]) -> Examined:
  """Several chunks (at least one) as one; the rows of the drops are renumbered."""
  starts = np.cumsum([0, *(part.rows for part in parts)]).tolist()
  drops: dict[str, dict[int, Drop]] = {rule: {} for rule in parts[0].drops}
  for start, part in zip(starts[:-1], parts, strict=True):
    for rule, found in part.drops.items():
      drops[rule].update((start + row, drop) for row, drop in found.items())
  columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
  return Examined(starts[-1], columns, drops)
