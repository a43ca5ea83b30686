"""Drops what the verifier found wrong (`synthesis.judge`; Skywork section 4.3.3)."""

from skymath_jax.curation.row import Row
from skymath_jax.curation.rules.base import Drop, Filter


class Verdict(Filter):
  """By the verifier's word."""

  name = "verdict"
  rank = 1

  def check(self, row: Row) -> Drop | None:
    return Drop("verifier_says_wrong", {}) if row.instance.quality.get("verdict") is False else None
