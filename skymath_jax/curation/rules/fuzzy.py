"""Drops a query that is too much like a test question: the same story in other words (`tfidf.py`)."""

import functools
from collections.abc import Sequence

from skymath_jax.curation.decontaminate import Hit, Reference
from skymath_jax.curation.row import Row
from skymath_jax.curation.rules.base import Drop, Rule
from skymath_jax.curation.rules.contamination import REASON
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.tfidf import FuzzyIndex


class Fuzzy(Rule):
  """Likeness of `curation.fuzzy` or more to a test question."""

  name = "fuzzy"
  step = "decontamination"
  rank = 1

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    return settings.fuzzy > 0

  @functools.cached_property
  def _questions(self) -> list[Reference]:
    return [
      Reference(name, number, problem.id, "question", problem.question)
      for name, problems in self.test_sets.items()
      for number, problem in enumerate(problems)
    ]

  @functools.cached_property
  def _index(self) -> FuzzyIndex:
    return FuzzyIndex([question.text for question in self._questions])

  def examine(self, rows: Sequence[Row]) -> list[Drop | None]:
    return self.compare([row.instance.query for row in rows])

  def compare(self, queries: Sequence[str]) -> list[Drop | None]:
    """For each query the hit with the test question that it is most like, if that is too much."""
    found = zip(queries, *self._index.nearest(queries), strict=True)
    return [
      self._hit(query, int(number), float(likeness)) if likeness >= self.settings.fuzzy else None
      for query, likeness, number in found
    ]

  def _hit(self, query: str, number: int, likeness: float) -> Drop:
    hit = Hit("fuzzy", "query", self._questions[number], query)
    return Drop(REASON, {**hit.to_json(), "likeness": round(likeness, 3)})
