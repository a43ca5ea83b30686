"""Curves through accuracy against number of instances, fitted to all sizes but the largest.

log-linear                         accuracy = a + b · log2(n)             b: gain per doubling
saturating power law               accuracy = c - d · n^(-e)              c ≤ 1: where it would end
saturating power law with a floor  accuracy = c / (1 + (h / n)^e)         h: the size that gets half of c

The first two are straight or bent downward everywhere, so a stretch at zero, where a small set teaches nothing yet,
spoils them; the third is the second's curve for large n and starts from zero. Least squares on the mean over seeds: for
fixed exponents the rest is linear, so a grid of them fits thousands of resampled curves without starting values.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from skymath_jax.study import resample

EXPONENTS = np.geomspace(0.02, 3.0, 400)
FLOOR_EXPONENTS = np.geomspace(0.2, 5.0, 60)
HALVES = 120  # half sizes tried, from a tenth of the smallest size to a hundred times the largest
AT_ONCE = 200  # curves fitted at one time, which bounds the memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
  """A family of curves. `solve(sizes [k], accuracies [b k])` gives parameters `[b p]`; `curve(them, sizes)` `[b k]`."""

  title: str
  parameters: tuple[str, ...]
  solve: Callable[[np.ndarray, np.ndarray], np.ndarray]
  curve: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
  """One form's best curve and the resampled ones around it; `[1 p]` and `[samples p]`."""

  form: Form
  best: np.ndarray
  resampled: np.ndarray

  def at(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
    """The curve, `[k]`."""
    return self.form.curve(self.best, np.asarray(sizes, float))[0]

  def band(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ends of the curve's 95 % interval, `[2 k]`."""
    return np.quantile(self.form.curve(self.resampled, np.asarray(sizes, float)), [0.025, 0.975], axis=0)

  def parameters(self) -> dict[str, dict[str, float | list[float]]]:
    """Name → value and `ci95`."""
    return {
      name: {"value": float(self.best[0, i]), "ci95": list(resample.interval(self.resampled[:, i]))}
      for i, name in enumerate(self.form.parameters)
    }


def _solve_line(sizes: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
  terms = np.stack([np.ones_like(sizes), np.log2(sizes)], axis=1)
  return accuracies @ np.linalg.pinv(terms).T


def _line(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  return parameters[:, :1] + parameters[:, 1:] * np.log2(sizes)


def _solve_power(sizes: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
  """For each e the best c ≤ 1 and d ≥ 0 in closed form; of all e the one with the smallest squared error."""
  scale = sizes.min()  # d is solved for n / scale, where the powers are of order one
  x = (sizes[None, :] / scale) ** -EXPONENTS[:, None]  # [e k]
  x_mean, y_mean = x.mean(1), accuracies.mean(1)
  spread = ((x - x_mean[:, None]) ** 2).sum(1)
  slope = -((x - x_mean[:, None]) @ (accuracies - y_mean[:, None]).T) / spread[:, None]  # [e b]
  slope = np.maximum(slope, 0)
  top = y_mean[None, :] + slope * x_mean[:, None]
  capped = np.maximum(0, (x @ (1 - accuracies).T) / (x * x).sum(1)[:, None])  # the best d where c = 1
  slope, top = np.where(top > 1, capped, slope), np.minimum(top, 1)
  errors = ((top[..., None] - slope[..., None] * x[:, None, :] - accuracies[None]) ** 2).sum(-1)
  at = errors.argmin(0), np.arange(len(accuracies))
  exponent = EXPONENTS[at[0]]
  return np.stack([top[at], slope[at] * scale**exponent, exponent], axis=1)


def _power(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  c, d, e = parameters[:, :1], parameters[:, 1:2], parameters[:, 2:]
  return c - d * sizes**-e


def _solve_floor(sizes: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
  """For each (h, e) the best c in [0, 1] in closed form; of all the pair with the smallest squared error."""
  halves = np.geomspace(sizes.min() / 10, sizes.max() * 100, HALVES)
  h, e = (grid.ravel() for grid in np.meshgrid(halves, FLOOR_EXPONENTS, indexing="ij"))
  x = 1 / (1 + (h[:, None] / sizes[None, :]) ** e[:, None])  # [g k]
  squares = (x * x).sum(1)[:, None]
  found = []
  for start in range(0, len(accuracies), AT_ONCE):
    products = x @ accuracies[start : start + AT_ONCE].T  # [g b]
    top = np.clip(products / squares, 0, 1)
    best = (top * top * squares - 2 * top * products).argmin(0)
    found.append(np.stack([top[best, np.arange(len(best))], h[best], e[best]], axis=1))
  return np.concatenate(found)


def _floor(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  c, h, e = parameters[:, :1], parameters[:, 1:2], parameters[:, 2:]
  return c / (1 + (h / sizes) ** e)


FORMS: dict[str, Form] = {
  "log_linear": Form(title="log-linear", parameters=("intercept", "gain_per_doubling"), solve=_solve_line, curve=_line),
  "power_law": Form(
    title="saturating power law", parameters=("limit", "coefficient", "exponent"), solve=_solve_power, curve=_power
  ),
  "power_law_floor": Form(
    title="saturating power law with a floor",
    parameters=("limit", "half_size", "exponent"),
    solve=_solve_floor,
    curve=_floor,
  ),
}


def fit(form: Form, sizes: Sequence[int], accuracies: Sequence[float], resampled: np.ndarray) -> Fit:
  """The curve of `form` through `accuracies`, and through each row of `resampled` `[samples k]`."""
  x = np.asarray(sizes, float)
  best = form.solve(x, np.asarray(accuracies, float)[None])
  return Fit(form=form, best=best, resampled=form.solve(x, resampled))


def held_out(found: Fit, size: int, accuracy: float, resampled: np.ndarray) -> dict[str, float | list[float]]:
  """How far the curve is from what was measured at a size that it has not seen.

  Args:
    found: fitted to other sizes.
    size: the size held out.
    accuracy: measured there.
    resampled: of that accuracy, `[samples]`, entry by entry with those of the fit.
  """
  predicted = float(found.at([size])[0])
  errors = found.form.curve(found.resampled, np.array([float(size)]))[:, 0] - resampled
  return {
    "size": size,
    "measured": accuracy,
    "predicted": predicted,
    "error": predicted - accuracy,
    "ci95": list(resample.interval(errors)),
  }


def residual(found: Fit, sizes: Sequence[int], accuracies: Sequence[float]) -> float:
  """Root mean square distance of the curve from what it was fitted to."""
  return float(np.sqrt(np.mean((found.at(sizes) - np.asarray(accuracies)) ** 2)))
