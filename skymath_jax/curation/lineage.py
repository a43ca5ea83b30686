"""Which seeds an instance goes back to, for millions of instances at a time.

Relatives sit close to each other by construction and are not compared; they are those that share a seed. Nearly every
instance has one parent, so the chains are followed by pointer doubling over arrays; the few with several parents are
followed one by one.
"""

from collections.abc import Iterable

import numpy as np


class Lineage:
  """The seeds of every row.

  Args:
    ids: hash of each row's id, uint64 `[rows]`.
    parent_counts: number of parents, `[rows]`.
    parents: hashes of their ids, the first row's first. An id that no row has is a seed; so is a row without parents.
  """

  def __init__(self, ids: np.ndarray, parent_counts: np.ndarray, parents: np.ndarray):
    self._ids, self._parents = ids, parents
    self._starts = np.concatenate([[0], np.cumsum(parent_counts)]).astype(np.int64)
    self._order = np.argsort(ids, kind="stable")
    self._sorted = ids[self._order]
    self._several = parent_counts > 1
    one = parent_counts == 1
    up = ids.copy()  # without a parent, or with several, the chain ends at the row itself
    up[one] = parents[self._starts[:-1][one]]
    for _ in range(64):  # depth 2^64; a circle, which should not be, at least ends
      rows = self._rows(up)
      further = np.where(rows >= 0, up[rows], up)
      if np.array_equal(further, up):
        break
      up = further
    self._roots = up

  def _rows(self, ids: np.ndarray) -> np.ndarray:
    """The row with each id, -1 where there is none."""
    if not len(self._sorted):
      return np.full(len(ids), -1)
    places = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
    return np.where(self._sorted[places] == ids, self._order[places], -1)

  def seeds(self, rows: Iterable[int]) -> frozenset[int]:
    """The hashes of the seeds that any of `rows` goes back to."""
    found: set[int] = set()
    seen: set[int] = set()
    open_ids = [int(self._roots[row]) for row in rows]
    while open_ids:
      root = open_ids.pop()
      if root in seen:
        continue
      seen.add(root)
      row = int(self._rows(np.array([root], np.uint64))[0]) if self._several.any() else -1
      if row < 0 or not self._several[row]:
        found.add(root)
        continue
      for parent in self._parents[self._starts[row] : self._starts[row + 1]].tolist():
        above = int(self._rows(np.array([parent], np.uint64))[0])
        open_ids.append(int(self._roots[above]) if above >= 0 else parent)
    return frozenset(found)
