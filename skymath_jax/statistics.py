"""The statistics of an accuracy: intervals, paired comparison, pass@k and majority votes.

SciPy's tests do the work; it costs a second to import, so that is done where it is used.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A share in [0, 1] with its 95 % interval; `n` is what it was measured on. None where it is not known."""

  value: float
  low: float | None = None
  high: float | None = None
  n: int | None = None


def wilson(successes: int, n: int) -> tuple[float, float]:
  """Wilson's 95 % score interval of a proportion; (0, 1) for no trials. It stays inside [0, 1] at both ends.

  Raises:
    ValueError: more successes than trials, or fewer than none.
  """
  from scipy.stats import binomtest

  if not 0 <= successes <= n:
    raise ValueError(f"need 0 <= successes <= n, got {successes} of {n}")
  if n == 0:
    return 0.0, 1.0
  low, high = binomtest(successes, n).proportion_ci(method="wilson")
  return float(low), float(high)


def bootstrap_mean(values: Sequence[float]) -> tuple[float, float]:
  """95 % percentile bootstrap interval of the mean; the same for the same values.

  Raises:
    ValueError: there are no values.
  """
  from scipy.stats import bootstrap

  data = np.asarray(values, np.float64)
  if len(data) == 0:
    raise ValueError("need at least one value")
  if len(data) == 1:  # which SciPy refuses
    return float(data[0]), float(data[0])
  batch = max(1, 2_000_000 // len(data))  # bounds the memory of the drawn indices
  found = bootstrap(
    (data,), np.mean, n_resamples=10_000, batch=batch, confidence_level=0.95, method="percentile",
    rng=np.random.default_rng(0),
  )  # fmt: skip
  return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
  """Exact two-sided McNemar test of two runs over the same problems.

  Returns:
    (only the first is right, only the second is right, p-value); p is 1 where the runs never differ.

  Raises:
    ValueError: the runs are not of one length.
  """
  from scipy.stats import binomtest

  if len(first) != len(second):
    raise ValueError(f"paired runs need the same problems, got {len(first)} and {len(second)}")
  only_first = sum(a and not b for a, b in zip(first, second, strict=True))
  only_second = sum(b and not a for a, b in zip(first, second, strict=True))
  differing = only_first + only_second
  return only_first, only_second, float(binomtest(only_first, differing).pvalue) if differing else 1.0


def pass_at_k(n: int, correct: int, k: int) -> float:
  """Unbiased pass@k from `n` samples of which `correct` are right: 1 - C(n - correct, k) / C(n, k).

  Raises:
    ValueError: more right ones than samples, or `k` is not 1 to `n`.
  """
  if not 0 <= correct <= n or not 1 <= k <= n:
    raise ValueError(f"need 0 <= correct <= n and 1 <= k <= n, got n={n}, correct={correct}, k={k}")
  return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority(answers: Sequence[T | None], same: Callable[[T, T], bool] | None = None) -> T | None:
  """The most frequent answer (None does not vote); of equals the one given first.

  Args:
    answers: one per sample, in sample order.
    same: when two answers count as one, `==` if not given; then the first spelling stands for the group.
  """
  if same is None:
    counts = collections.Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None
  groups: list[list[T]] = []
  for answer in answers:
    if answer is None:
      continue
    group = next((g for g in groups if g[0] == answer or same(g[0], answer)), None)
    if group is None:
      groups.append([answer])
    else:
      group.append(answer)
  return max(groups, key=len)[0] if groups else None
