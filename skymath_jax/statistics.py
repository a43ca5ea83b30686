"""The statistics of an accuracy: intervals, paired comparison, pass@k and majority votes. Plain Python and numpy."""

import collections
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)
Z95 = 1.959963984540054  # the 97.5 % point of the normal distribution


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
  """Wilson's score interval of a proportion; (0, 1) for no trials. It stays inside [0, 1] at both ends."""
  if not 0 <= successes <= n:
    raise ValueError(f"need 0 <= successes <= n, got {successes} of {n}")
  if n == 0:
    return 0.0, 1.0
  share, spread = successes / n, z * z / n
  centre = (share + spread / 2) / (1 + spread)
  half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
  low = 0.0 if successes == 0 else max(0.0, centre - half)
  high = 1.0 if successes == n else min(1.0, centre + half)
  return low, high


def bootstrap_mean(
  values: Sequence[float], *, samples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
  """Percentile bootstrap interval of the mean; the same for the same seed."""
  if len(values) == 0:
    raise ValueError("need at least one value")
  data, generator = np.asarray(values, np.float64), np.random.default_rng(seed)
  chunk = max(1, 2_000_000 // len(data))  # bounds the memory of the drawn indices
  means = np.concatenate(
    [
      data[generator.integers(0, len(data), (min(chunk, samples - start), len(data)))].mean(axis=1)
      for start in range(0, samples, chunk)
    ]
  )
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
  """Exact two-sided McNemar test of two runs over the same problems.

  Returns:
    (only the first is right, only the second is right, p-value); p is 1 where the runs never differ.
  """
  if len(first) != len(second):
    raise ValueError(f"paired runs need the same problems, got {len(first)} and {len(second)}")
  only_first = sum(a and not b for a, b in zip(first, second, strict=True))
  only_second = sum(b and not a for a, b in zip(first, second, strict=True))
  n, k = only_first + only_second, min(only_first, only_second)
  tail = sum(math.comb(n, i) for i in range(k + 1))
  return only_first, only_second, min(1.0, 2 * tail / 2**n)


def pass_at_k(n: int, correct: int, k: int) -> float:
  """Unbiased pass@k from `n` samples of which `correct` are right: 1 - C(n - correct, k) / C(n, k)."""
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
