"""Intervals and tests against their formulas, simulation and counting by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from skymath_jax.statistics import bootstrap_mean, majority, mcnemar, pass_at_k, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (659, 1319), (1, 1), (4999, 5000)])
def test_wilson_is_its_formula(successes, n):
  share, z = successes / n, scipy.stats.norm.ppf(0.975)
  spread = z * z / n
  half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
  wanted = [(share + spread / 2 + sign * half) / (1 + spread) for sign in (-1, 1)]
  assert wilson(successes, n) == pytest.approx(wanted, abs=1e-12)


def test_wilson_edges():
  assert wilson(0, 0) == (0.0, 1.0)
  assert wilson(0, 5)[0] == 0.0 and wilson(5, 5)[1] == 1.0
  with pytest.raises(ValueError, match="successes"):
    wilson(6, 5)


def test_bootstrap_covers_the_normal_interval_and_repeats():
  values = (np.arange(400) % 5 == 0).astype(float)
  low, high = bootstrap_mean(values)
  half = 1.96 * values.std() / 20
  assert (low, high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.006)
  assert bootstrap_mean(values) == (low, high)
  assert bootstrap_mean([2.0] * 7) == bootstrap_mean([2.0]) == (2.0, 2.0)
  with pytest.raises(ValueError, match="at least one"):
    bootstrap_mean([])


def test_mcnemar_counts_the_splits_at_least_as_uneven():
  generator = np.random.default_rng(0)
  for _ in range(20):
    first, second = generator.random(60) < 0.6, generator.random(60) < 0.4
    only_first, only_second, p = mcnemar(first.tolist(), second.tolist())
    assert only_first == int((first & ~second).sum()) and only_second == int((second & ~first).sum())
    differing, fewer = only_first + only_second, min(only_first, only_second)
    assert p == pytest.approx(min(1.0, 2 * sum(math.comb(differing, i) for i in range(fewer + 1)) / 2**differing))
  assert mcnemar([True, False], [True, False]) == (0, 0, 1.0)
  with pytest.raises(ValueError, match="same problems"):
    mcnemar([True], [True, False])


def test_pass_at_k_is_the_share_of_draws_with_a_right_one():
  for n, correct, k in itertools.product(range(1, 7), range(7), range(1, 7)):
    if correct > n or k > n:
      continue
    draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))
  assert pass_at_k(10_000, 3, 100) == pytest.approx(1 - math.prod(1 - 100 / m for m in range(9998, 10_001)))
  with pytest.raises(ValueError, match="k <= n"):
    pass_at_k(3, 1, 4)


def test_majority_votes():
  assert majority(["1", "2", "2", None, None, None]) == "2"
  assert majority(["3", "1", "1", "3"]) == "3"
  assert majority([None]) is None
  same = lambda a, b: float(a) == float(b)  # noqa: E731
  assert majority(["1", "2.0", "2", "1", "2.00"], same) == "2.0"


def test_wilson_covers_what_it_promises():
  """Its exact coverage, averaged over true shares, is 95 %; at no share between 5 and 95 % is it under 92 %."""
  n, coverage = 100, []
  bounds = [wilson(k, n) for k in range(n + 1)]
  for share in np.linspace(0.05, 0.95, 91):
    weights = scipy.stats.binom.pmf(np.arange(n + 1), n, share)
    coverage.append(sum(w for w, (low, high) in zip(weights, bounds, strict=True) if low <= share <= high))
  assert min(coverage) > 0.92 and np.mean(coverage) == pytest.approx(0.95, abs=0.005)
