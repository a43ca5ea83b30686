"""The compiled k-center picks exactly what the one-at-a-time rule picks, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.coreset import k_center as module
from skymath_jax.coreset.k_center import k_center


def plain(points, k, centres=None):
  """The textbook rule, one pick at a time."""
  if centres is not None and len(centres):
    nearest = np.min([((points - c) ** 2).sum(1) for c in centres], axis=0)
    picks = []
  else:
    picks = [0]
    nearest = ((points - points[0]) ** 2).sum(1)
  nearest[picks] = -1
  while len(picks) < min(k, len(points)):
    best = int(np.argmax(nearest))
    picks.append(best)
    nearest = np.where(nearest < 0, nearest, np.minimum(nearest, ((points - points[best]) ** 2).sum(1)))
    nearest[best] = -1
  return picks


POINT = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=200)
@given(
  st.lists(POINT, min_size=24, max_size=24), st.integers(1, 30), st.sampled_from([1, 7, 50]),
  st.lists(POINT, max_size=3),
)  # fmt: skip
def test_ties_and_duplicates_as_in_the_plain_rule(points, k, block, centres):
  points, centres = np.array(points, float), np.array(centres, float).reshape(-1, 2)  # whole numbers: no rounding
  assert k_center(points, k, centres, block=block) == plain(points, k, centres)


@pytest.mark.parametrize(("block", "given_centres"), [(16, 0), (128, 7)])  # each shape is compiled: a second
def test_random_points_as_in_the_plain_rule(block, given_centres):
  rng = np.random.default_rng(0)
  points, centres = (rng.normal(size=(n, 24)).astype(np.float32) for n in (1200, given_centres))
  assert k_center(points, 200, centres, block=block) == plain(points.astype(float), 200, centres.astype(float))


def test_radius_is_within_twice_the_best():
  rng = np.random.default_rng(1)
  clusters = rng.normal(size=(10, 8)) * 100
  points = (clusters[:, None] + rng.normal(size=(10, 30, 8))).reshape(-1, 8)
  assert sorted(i // 30 for i in k_center(points, 10)) == list(range(10))


def test_all_points_and_none(monkeypatch):
  monkeypatch.setattr(module, "ROWS_AT_ONCE", 8)  # several blocks, the last one padded
  points = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
  assert sorted(k_center(points, 99, block=16)) == list(range(21))
  assert k_center(points, 0) == [] == k_center(points[:0], 5)
  assert k_center(points, 6, block=4) == plain(points.astype(float), 6)
