"""Drops the responses to a query that was answered several times, each time right: there is little to learn from it."""

from collections.abc import Mapping

import numpy as np

from skymath_jax.curation.row import column
from skymath_jax.curation.rules.base import Drop, Filter, Table

# Right beyond doubt: the gold answer is not itself a teacher's, with which it may only agree
RIGHT = column("right", np.bool_, lambda row: row.instance.gold_match is True and not row.instance.pseudo_gold)


class Solved(Filter):
  """By the solve rate, where the gold answer is known."""

  name = "solved"
  rank = 2
  columns = (RIGHT,)

  def decide(self, table: Table) -> Mapping[int, Drop]:
    votes = table.votes
    return table.drop((votes.samples > 1) & (votes.solve_rate == 1) & table[RIGHT], "always_solved")
