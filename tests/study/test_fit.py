"""The fits against known curves and SciPy, the intervals against simulation."""

import numpy as np
import pytest
import scipy.optimize

from skymath_jax.study import fit, resample

SIZES = [100, 300, 1000, 2500, 5000]


def fitted(form, sizes, accuracies, noise=0.01, samples=400):
  spread = np.random.default_rng(0).normal(accuracies, noise, (samples, len(sizes)))
  return fit.fit(fit.FORMS[form], sizes, accuracies, spread)


def test_log_linear_gives_the_gain_per_doubling():
  found = fitted("log_linear", [100, 200, 400, 800], [0.1, 0.15, 0.2, 0.25])
  assert found.parameters()["gain_per_doubling"]["value"] == pytest.approx(0.05)
  assert found.at([1600]) == pytest.approx([0.3])
  # Skywork-Math, LLaMA2-7B on MATH: 15.16 % with 60K instances, 29.36 % with 360K: 5.5 points a doubling
  paper = fitted("log_linear", [60_000, 360_000], [0.1516, 0.2936])
  assert paper.parameters()["gain_per_doubling"]["value"] == pytest.approx(0.055, abs=5e-4)


@pytest.mark.parametrize(
  ("form", "truth"),
  [
    ("power_law", (0.8, 3.0, 0.4)),
    ("power_law", (0.55, 12.0, 0.8)),
    ("power_law_floor", (0.8, 1500.0, 1.3)),
    ("power_law_floor", (0.6, 4000.0, 2.0)),
  ],
)
def test_curves_are_recovered_from_exact_points(form, truth):
  curve = fit.FORMS[form].curve(np.array([truth]), np.array(SIZES, float))[0]
  found = fitted(form, SIZES, curve)
  assert found.best[0] == pytest.approx(truth, rel=0.12)
  assert found.at(SIZES) == pytest.approx(curve, abs=0.004)
  ahead = fit.FORMS[form].curve(np.array([truth]), np.array([10_000.0]))[0, 0]
  assert found.at([10_000])[0] == pytest.approx(ahead, abs=0.012)
  low, high = found.band([10_000])[:, 0]
  assert low < ahead < high


@pytest.mark.parametrize("form", ["power_law", "power_law_floor"])
def test_no_curve_of_scipy_is_closer(form):
  rng = np.random.default_rng(3)
  for _ in range(4):
    points = np.sort(rng.random(5)) * 0.8
    found = fitted(form, SIZES, points, samples=2)
    start = {"power_law": (0.9, 2.0, 0.3), "power_law_floor": (0.9, 1000.0, 1.0)}[form]
    bounds = {"power_law": ([0, 0, 0.02], [1, 1e4, 3]), "power_law_floor": ([0, 10, 0.2], [1, 5e5, 5])}[form]

    def distance(p, points=points):
      return fit.FORMS[form].curve(np.array([p]), np.array(SIZES, float))[0] - points

    best = scipy.optimize.least_squares(distance, start, bounds=bounds, x_scale=np.maximum(np.abs(start), 1e-3))
    assert fit.residual(found, SIZES, points) <= np.sqrt(np.mean(best.fun**2)) + 0.004


def test_the_power_law_never_promises_more_than_all():
  found = fitted("power_law", [100, 200, 400, 800], [0.5, 0.7, 0.85, 0.97])
  assert found.best[0, 0] <= 1 and found.resampled[:, 0].max() <= 1 and found.at([1e7])[0] <= 1


def test_held_out_error_is_predicted_minus_measured():
  found = fitted("log_linear", [100, 200, 400, 800], [0.1, 0.15, 0.2, 0.25])
  error = fit.held_out(found, 1600, 0.33, np.full(400, 0.33))
  assert error["predicted"] == pytest.approx(0.3) and error["error"] == pytest.approx(-0.03)
  assert error["ci95"][0] < -0.03 < error["ci95"][1] < 0


def test_a_common_draw_of_problems_cancels_in_differences():
  rng = np.random.default_rng(0)
  hard = rng.random(400)
  first = np.stack([hard < 0.5] * 3)
  second = first.copy()
  second[:, :40] = False
  draws = resample.means({"a": first, "b": second})
  assert np.std(draws["a"]) == pytest.approx(np.sqrt(0.25 / 400), rel=0.1)
  gap = draws["a"] - draws["b"]
  lost = first[0, :40].sum() / 400
  assert gap.mean() == pytest.approx(lost, abs=0.002)
  assert np.std(gap) == pytest.approx(np.sqrt(lost * (1 - lost) / 400), rel=0.1)
  with pytest.raises(ValueError, match="same seeds and problems"):
    resample.means({"a": first, "b": second[:, 1:]})


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
  """Two arms of equal true accuracy, seeds that differ by 3 points (sd), three seeds: near 95 % of 120 studies."""
  rng, held = np.random.default_rng(5), 0
  for _ in range(120):
    hard = rng.random(120) * 0.4
    shifts = {name: rng.normal(0.5, 0.03, 3) for name in "ab"}
    arms = {name: np.stack([rng.random(120) * 0.6 + hard < at for at in found]) for name, found in shifts.items()}
    draws = resample.means(arms, samples=300)
    low, high = resample.interval(draws["a"] - draws["b"])
    held += low <= 0 <= high
  assert 0.87 <= held / 120 <= 0.995
