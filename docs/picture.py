"""The picture of the README's first screen, drawn from a run: accuracy by level, before and after each stage.

python docs/picture.py runs/quickstart docs/images/quickstart.svg

Bars are 95 % Wilson intervals; nothing is drawn that is not in the run's summary.json.
"""

import json
import sys
from pathlib import Path

from skymath_jax import statistics
from skymath_jax.report import plots
from skymath_jax.report.read import Estimate

STYLE = """
svg { font-family: system-ui, sans-serif; --page: #fff; --ink: #1b1f24; --soft: #59616b; --rule: #d8dde3;
  --base: #6b7280; --stage1: #0072b2; --stage2: #c94f00; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --ink: #e4e8ec; --soft: #9ba5b0; --rule: #333a42;
  --base: #a3acb7; --stage1: #56b4e9; --stage2: #f39a5f; } }
.label { fill: var(--ink); font-size: 12.5px; } .small { fill: var(--ink); font-size: 11px; }
.tick { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--rule); }
.base { --tone: var(--base); } .stage1 { --tone: var(--stage1); } .stage2 { --tone: var(--stage2); }
.dot { fill: var(--tone); stroke: var(--page); stroke-width: 1.5; }
.whisker { stroke: var(--tone); stroke-width: 2.5; opacity: .55; }
.heading { fill: var(--ink); font-size: 14px; font-weight: 600; } .key { fill: var(--tone); font-size: 12.5px; }
"""
NAMES = {"base": "● base model", "stage1": "■ after stage 1", "stage2": "◆ after stage 2"}
HEADING = 48  # pixels above the chart


def picture(summary: dict) -> str:
  """The SVG of one run's summary."""
  accuracy, groups = summary["accuracy"], []
  for level in sorted(accuracy["base"]["by_level"]):
    groups.append((f"level {level}", [_mark(name, accuracy[name], level) for name in NAMES]))
  chart = plots.grouped_dots("accuracy by level", groups, plots.WIDE)
  n, made = accuracy["base"]["n"], summary["instances"]["kept"]
  heading = f"Accuracy (%) on {n} unseen micro-world problems; {made:,} synthesized instances"
  inner = str(chart).replace("<svg ", f'<svg y="{HEADING}" height="260" ', 1)
  keys = "".join(
    f'<text x="{40 + 150 * i}" y="40" class="key {k}">{v}</text>' for i, (k, v) in enumerate(NAMES.items())
  )
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plots.WIDE} {260 + HEADING}" width="{plots.WIDE}">'
    f'<style>{STYLE}</style><text x="40" y="18" class="heading">{heading}</text>{keys}{inner}</svg>\n'
  )


def _mark(name: str, found: dict, level: str) -> plots.Mark:
  share, n = found["by_level"][level], found["n_by_level"][level]
  low, high = statistics.wilson(round(share * n), n)
  return plots.Mark(name, NAMES[name], Estimate(value=share, low=low, high=high, n=n))


if __name__ == "__main__":
  run, target = Path(sys.argv[1]), Path(sys.argv[2])
  target.write_text(picture(json.loads((run / "summary.json").read_text())))
