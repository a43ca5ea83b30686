"""Which rows of a data set give test problems away: every hit with both texts, and the most alike of the rest.

The rules are those of curation (`decontaminate.py`, `tfidf.py`); nothing is dropped here, only told. What no rule
catches, a problem told in other words, is among the nearest; there a reader, or a model, has to judge.
"""

import collections
import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from skymath_jax.curation.decontaminate import Hit, Reference, TestIndex
from skymath_jax.curation.tfidf import FuzzyIndex
from skymath_jax.records import Problem

ROWS_AT_ONCE = 512
NEAR = 0.2  # likeness from which a row is worth a look


class Pair(NamedTuple):
  """One row: where it stands (file:row), its question, and its response where it has one."""

  where: str
  query: str
  response: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """A row beside a test problem; `hit` is None where no rule makes it a leak."""

  row: Pair
  hit: Hit | None
  nearest: Reference
  likeness: float
  same: bool | None = None  # a judge's word

  def to_json(self) -> dict[str, Any]:
    """The finding as a line of `hits.jsonl`."""
    hit = self.hit or Hit("judged" if self.same else "near", "query", self.nearest, "")
    return {**self.row._asdict(), **hit.to_json(), "likeness": self.likeness}


class Screen:
  """The test sets, and the counts of what was compared with them.

  Args:
    test_sets: name → problems.
    ngram: shared words that make a leak.
    fuzzy: likeness to a test question that makes a leak; 0 = none does.
    keep: how many of the other rows, the most alike first, are remembered as `nearest`.
  """

  def __init__(self, test_sets: Mapping[str, Sequence[Problem]], *, ngram: int, fuzzy: float, keep: int):
    self._index = TestIndex(test_sets, ngram=ngram)
    self._questions = [
      Reference(name, number, problem.id, "question", problem.question)
      for name, problems in test_sets.items()
      for number, problem in enumerate(problems)
    ]
    self._fuzzy = FuzzyIndex([question.text for question in self._questions])
    self._least = fuzzy
    self._keep = keep
    self._heap: list[tuple[float, int, Finding]] = []
    self.rows = 0
    self.kinds: collections.Counter[str] = collections.Counter()
    self.hit_problems: dict[str, set[str]] = {name: set() for name in test_sets}  # ids of the test problems

  def hits(self, rows: Iterable[Pair]) -> Iterator[Finding]:
    """The rows that give something away, in their order."""
    waiting = iter(rows)
    while chunk := list(itertools.islice(waiting, ROWS_AT_ONCE)):
      likeness, numbers = self._fuzzy.nearest([row.query for row in chunk])
      for row, alike, number in zip(chunk, likeness.tolist(), numbers.tolist(), strict=True):
        found = self._look(row, round(alike, 3), self._questions[number])
        self.rows += 1
        if found.hit is not None:
          self.kinds[found.hit.kind] += 1
          self.hit_problems[found.hit.row.test_set].add(found.hit.row.id)
          yield found
        elif alike >= NEAR:
          heapq.heappush(self._heap, (alike, -self.rows, found))
          if len(self._heap) > self._keep:
            heapq.heappop(self._heap)

  def _look(self, row: Pair, likeness: float, nearest: Reference) -> Finding:
    hit = self._index.check(row.query, row.response).hit
    if hit is None and self._least and likeness >= self._least:
      hit = Hit("fuzzy", "query", nearest, row.query)
    return Finding(row=row, hit=hit, nearest=nearest, likeness=likeness)

  @property
  def nearest(self) -> list[Finding]:
    """Of the rows that are no leak those most like a test question, the most alike first."""
    return [found for _, _, found in sorted(self._heap, key=lambda item: item[:2], reverse=True)]
