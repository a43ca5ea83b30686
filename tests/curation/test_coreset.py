"""The blocked k-center picks exactly what the one-at-a-time rule picks, ties included."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.curation import coreset


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


GRID = st.integers(1, 40).flatmap(
  lambda n: st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=n, max_size=n)
)


@settings(max_examples=200, deadline=None)
@given(
  GRID, st.integers(1, 45), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3)
)
def test_ties_and_duplicates_as_in_the_plain_rule(points, k, block, centres):
  points, centres = np.array(points, float), np.array(centres, float).reshape(-1, 2)
  assert coreset.k_center(points, k, centres, block=block) == plain(points, k, centres)


@pytest.mark.parametrize("block", [1, 16, 128, 5000])
@pytest.mark.parametrize("given_centres", [0, 7])
def test_random_points_as_in_the_plain_rule(block, given_centres):
  rng = np.random.default_rng(0)
  points, centres = rng.normal(size=(1200, 24)), rng.normal(size=(given_centres, 24))
  assert coreset.k_center(points, 200, centres, block=block) == plain(points, 200, centres)


def test_radius_is_within_twice_the_best():
  rng = np.random.default_rng(1)
  clusters = rng.normal(size=(10, 8)) * 100
  points = (clusters[:, None] + rng.normal(size=(10, 30, 8))).reshape(-1, 8)
  assert sorted(i // 30 for i in coreset.k_center(points, 10)) == list(range(10))


def test_select_skips_repeats_and_what_the_centres_cover():
  texts = ["one two three", "one two three", "alpha beta gamma", "one two three four", "delta epsilon"]
  assert coreset.select(texts, 2)[0] == 0
  assert sorted(coreset.select(texts, 99)) == [0, 2, 3, 4]
  assert coreset.select(texts, 99, centres=["alpha beta gamma"])[-1] == 3
  assert 2 not in coreset.select(texts, 99, centres=["alpha beta gamma"])
  assert set(coreset.select(texts, 2, centres=["one two three"])) == {2, 4}
  assert coreset.select([], 3) == [] and coreset.select(texts, 0) == []


def test_embedding_tells_order_and_ignores_drawings():
  a, b, c, d, empty = coreset.embed(
    ["a dog bites a man", "a man bites a dog", "A dog  bites a man", "a dog bites a man [asy]\ndraw(x);\n[/asy]", ""]
  )
  assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6) and not empty.any()
  assert np.array_equal(a, c) and np.array_equal(a, d)
  assert 0.3 < a @ b < 0.99


def test_embedding_is_the_same_in_every_process_and_batch():
  code = "from skymath_jax.curation import coreset; print(coreset.embed(['find x', 'sum of 3']).sum(1).tolist())"
  runs = {
    subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
    ).stdout
    for seed in ("1", "2")
  }
  assert len(runs) == 1
  texts = [f"problem number {i} about {'xyz'[i % 3]}" for i in range(50)]
  assert np.array_equal(coreset.embed(texts)[30:], coreset.embed(texts[30:]))
