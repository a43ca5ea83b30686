"""Drops an answer that fewer responses to the query give than another."""

from collections.abc import Mapping

from skymath_jax.curation.rules.base import Drop, Filter, Table


class Majority(Filter):
  """By vote; of equally frequent answers the one given first wins."""

  name = "majority"
  rank = 2

  def decide(self, table: Table) -> Mapping[int, Drop]:
    return table.drop((table.votes.samples > 0) & ~table.votes.winning, "minority_answer")
