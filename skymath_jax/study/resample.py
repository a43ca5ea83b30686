"""Intervals over test problems and RNG seeds at once, so that what differs between two sets of cells can be judged.

All arms answered the same problems, and seed s of one arm shares its draws with seed s of another: both are resampled
jointly (a hierarchical bootstrap), which keeps the pairing. With S seeds the spread of a plain bootstrap over them is
too small by (S - 1) / S; the weights are stretched to make up for it. One seed alone says nothing about seeds.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from skymath_jax.statistics import wilson

Arm = TypeVar("Arm", bound=Hashable)  # what an arm is called
SAMPLES = 2000


def means(arms: Mapping[Arm, np.ndarray], *, samples: int = SAMPLES) -> dict[Arm, np.ndarray]:
  """Resampled accuracies of each arm.

  Args:
    arms: name → booleans `[seeds problems]`, whether the answer was right; equal shapes.
    samples: how many times to resample.

  Returns:
    name → `[samples]`; entry i of every arm was made with the same problems and seeds.

  Raises:
    ValueError: the arms differ in shape.
  """
  shapes = {array.shape for array in arms.values()}
  if len(shapes) != 1:
    raise ValueError(f"arms need the same seeds and problems, got {sorted(shapes)}")
  (seeds, problems) = shapes.pop()
  generator = np.random.default_rng(0)
  by_problem = generator.multinomial(problems, np.full(problems, 1 / problems), size=samples) / problems
  by_seed = np.full((samples, seeds), 1 / seeds)
  if seeds > 1:
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=samples)
    by_seed = (1 + np.sqrt(seeds / (seeds - 1)) * (drawn - 1)) / seeds
  return {name: np.einsum("bs,sp,bp->b", by_seed, array.astype(float), by_problem) for name, array in arms.items()}


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
  """The central `level` of resampled values `[samples]`."""
  low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def share_interval(correct: np.ndarray, values: np.ndarray) -> tuple[float, float]:
  """The interval of one arm's accuracy, inside [0, 1]; Wilson's over the problems where all or none are right.

  Args:
    correct: `[seeds problems]`.
    values: its resampled accuracies, which do not vary where all or none are right.
  """
  if correct.all() or not correct.any():
    return wilson(correct.shape[1] * bool(correct.all()), correct.shape[1])
  low, high = interval(values)
  return max(0.0, low), min(1.0, high)
