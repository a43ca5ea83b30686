"""Drops a pair of query and response that came before, after `normalize`."""

from collections.abc import Mapping

from skymath_jax.curation.row import Column, hashes
from skymath_jax.curation.rules.base import Drop, Rule, Table, first_of

PAIRS = Column("pairs", lambda rows: hashes(f"{row.query}\0{row.response}" for row in rows))


class Duplicates(Rule):
  """Of equal pairs the first stays."""

  name = "duplicates"
  step = "duplicates"
  columns = (PAIRS,)

  def decide(self, table: Table) -> Mapping[int, Drop]:
    rows = table.rows()
    first = rows[first_of(table[PAIRS][rows])]
    earlier = {int(row): int(other) for row, other in zip(rows, first, strict=True) if row != other}
    instances = table.fetched(earlier.values())
    return {row: Drop("duplicate", {"duplicate_of": instances[other].id}) for row, other in earlier.items()}
