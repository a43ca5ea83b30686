"""Drops what gives a test problem away: the text itself, a run of its words, or its whole question inside another."""

import functools

import numpy as np

from skymath_jax.curation.decontaminate import TestIndex
from skymath_jax.curation.row import Row, column
from skymath_jax.curation.rules.base import Drop, Rule

REASON = "contamination"
SHARED_WORDS = column("shared_words", np.int32, lambda row: row.shared_words)


class Contamination(Rule):
  """Exact, n-gram and embedded matches with the test sets (`decontaminate.py`)."""

  name = "contamination"
  step = "decontamination"
  columns = (SHARED_WORDS,)

  @functools.cached_property
  def index(self) -> TestIndex:
    """The test sets, arranged for look-up."""
    return TestIndex(self.test_sets, ngram=self.settings.ngram, sensitivity=self.settings.sensitivity)

  def check(self, row: Row) -> Drop | None:
    verdict = self.index.check(row.instance.query, row.instance.response, normal=(row.query, row.response))
    row.shared_words = verdict.longest_run
    return None if verdict.hit is None else Drop(REASON, verdict.hit.to_json())
