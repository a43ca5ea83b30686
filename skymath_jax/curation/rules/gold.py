"""Drops an answer that is not the gold answer, where one is known."""

from skymath_jax.curation.row import Row
from skymath_jax.curation.rules.base import Drop, Filter


class Gold(Filter):
  """By the gold answer."""

  name = "gold"

  def check(self, row: Row) -> Drop | None:
    return Drop("gold_mismatch", {}) if row.instance.gold_match is False else None
