"""The picture of the README's first screen, drawn from a run: accuracy by level, before and after each stage.

python docs/picture.py runs/quickstart docs/images/quickstart.svg

Bars are 95 % Wilson intervals; nothing is drawn that is not in the run's summary.json.
"""

import json
import sys
from pathlib import Path

from skymath_jax import charts
from skymath_jax.statistics import Estimate, wilson

NAMES = {"base": "● base model", "stage1": "■ after stage 1", "stage2": "◆ after stage 2"}


def picture(summary: dict) -> str:
  """The SVG of one run's summary."""
  accuracy, groups = summary["accuracy"], []
  for level in sorted(accuracy["base"]["by_level"]):
    groups.append((f"level {level}", [_mark(name, accuracy[name], level) for name in NAMES]))
  chart = charts.grouped_dots("accuracy by level", groups, charts.WIDE)
  n, made = accuracy["base"]["n"], summary["instances"]["kept"]
  heading = f"Accuracy (%) on {n} unseen micro-world problems; {made:,} synthesized instances"
  return charts.standalone(heading, chart, *NAMES.items())


def _mark(name: str, found: dict, level: str) -> charts.Mark:
  share, n = found["by_level"][level], found["n_by_level"][level]
  low, high = wilson(round(share * n), n)
  return charts.Mark(name, NAMES[name], Estimate(value=share, low=low, high=high, n=n))


if __name__ == "__main__":
  run, target = Path(sys.argv[1]), Path(sys.argv[2])
  target.write_text(picture(json.loads((run / "summary.json").read_text())))
