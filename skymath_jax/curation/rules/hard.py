"""Drops all but the hardest queries (Skywork section 4.3.3)."""

from collections.abc import Mapping

import numpy as np

from skymath_jax.curation.row import column
from skymath_jax.curation.rules.base import Drop, Rule, Table
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.votes import QUERIES

DIFFICULTIES = column("difficulties", np.int8, lambda row: row.instance.quality.get("difficulty", 0))  # 1 to 5, or 0
LEVELS = column("levels", np.int8, lambda row: row.instance.level or 0)  # of the seed


class Hard(Rule):
  """Keeps the share `curation.hard` of the queries.

  Hard is what the teacher rated so, then what has a low solve rate, then a high level; what is left is drawn by hash.
  """

  name = "hard"
  step = "quality"
  rank = 3
  columns = (QUERIES, DIFFICULTIES, LEVELS)

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    return settings.hard > 0

  def decide(self, table: Table) -> Mapping[int, Drop]:
    rows = table.rows()
    queries, first = np.unique(table[QUERIES][rows], return_index=True)
    heads = rows[first]
    order = np.lexsort((queries, -table[LEVELS][heads], table.votes.solve_rate[heads], -table[DIFFICULTIES][heads]))
    chosen = queries[order[: round(self.settings.hard * len(queries))]]
    return table.drop(~np.isin(table[QUERIES], chosen), "not_hard")
