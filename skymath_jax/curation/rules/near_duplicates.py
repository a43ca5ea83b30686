"""Drops queries that nearly repeat an earlier one, with all responses to them (`minhash.py`).

Relatives sit close to each other by construction and are not compared; they are those that share a seed (`lineage.py`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from skymath_jax.curation import hashing, minhash
from skymath_jax.curation.lineage import Lineage
from skymath_jax.curation.row import Column, Row, column, hashes
from skymath_jax.curation.rules.base import Drop, Rule, Table, TestSets, first_of
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.votes import QUERIES

IDS = Column("ids", lambda rows: hashes(row.instance.id for row in rows))
PARENTS = Column("parents", lambda rows: hashes(parent for row in rows for parent in row.instance.parents))
PARENT_COUNTS = column("parent_counts", np.int32, lambda row: len(row.instance.parents))


class NearDuplicates(Rule):
  """Jaccard similarity of `curation.near_duplicate` or more, and the same numbers."""

  name = "near_duplicates"
  step = "near-duplicates"

  def __init__(self, settings: Settings, test_sets: TestSets):
    super().__init__(settings, test_sets)
    self._vocabulary = hashing.Vocabulary()
    self._bands = Column("bands", self._band_keys)  # uint64 `[rows, bands]`
    self.columns = (QUERIES, IDS, PARENTS, PARENT_COUNTS, self._bands)

  @classmethod
  def wanted(cls, settings: Settings) -> bool:
    return settings.near_duplicate > 0

  def _band_keys(self, rows: Sequence[Row]) -> np.ndarray:
    texts = [row.instance.query for row in rows]
    return minhash.band_keys(texts, minhash.rows_per_band(self.settings.near_duplicate), self._vocabulary)

  def decide(self, table: Table) -> Mapping[int, Drop]:
    rows, threshold = table.rows(), self.settings.near_duplicate
    first = rows[first_of(table[QUERIES][rows])]
    queries = rows[first == rows]  # the first row of each query, in order
    crowded = minhash.crowded(table[self._bands][queries])
    looked_at = queries[crowded.any(axis=1)]
    by_query = np.argsort(first, kind="stable")
    starts = np.searchsorted(first[by_query], looked_at)
    ends = np.searchsorted(first[by_query], looked_at, side="right")
    members = [rows[by_query[a:b]].tolist() for a, b in zip(starts, ends, strict=True)]
    lineage = Lineage(table[IDS], table[PARENT_COUNTS], table[PARENTS])
    instances = table.fetch(looked_at.tolist())
    texts = [instance.query for instance in instances]
    earlier = minhash.near_by_keys(
      table[self._bands][looked_at],
      crowded[crowded.any(axis=1)],
      texts,
      [lineage.seeds(group) for group in members],
      threshold=threshold,
    )
    drops: dict[int, Drop] = {}
    for number, other in enumerate(earlier):
      if other is not None:
        jaccard = round(minhash.jaccard(texts[number], texts[other]), 3)
        drop = Drop("near_duplicate", {"near_duplicate_of": instances[other].id, "jaccard": jaccard})
        drops |= dict.fromkeys(members[number], drop)
    return drops
