"""Drops what is more than so many responses to one query; the first ones stay."""

from collections.abc import Mapping

import numpy as np

from skymath_jax.curation.rules.base import Drop, Rule, Table
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.votes import QUERIES


class ResponsesPerQuery(Rule):
  """At most `curation.responses_per_query`."""

  name = "responses_per_query"
  step = "responses per query"
  columns = (QUERIES,)

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    return settings.responses_per_query > 0

  def decide(self, table: Table) -> Mapping[int, Drop]:
    limit, rows = self.settings.responses_per_query, table.rows()
    _, starts, query = np.unique(table[QUERIES][rows], return_index=True, return_inverse=True)
    order = np.argsort(query, kind="stable")
    sizes = np.bincount(query, minlength=len(starts))
    numbers = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of each response to its query
    return {int(row): Drop("responses_per_query", {"limit": limit}) for row in rows[order[numbers >= limit]]}
