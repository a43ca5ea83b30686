"""`study/report.html`: the curve, the ablations, the funnel and the answers side by side, in one file without network.

Figures are embedded as SVG images, wide ones for a desk and narrow ones for a phone. As in the report of a run, the
page's content security policy forbids scripts and requests, and all text of the workdir is escaped.
"""

import base64
from pathlib import Path

from markupsafe import Markup

from skymath_jax import files
from skymath_jax.records import Facts
from skymath_jax.report import html, read, samples
from skymath_jax.statistics import Estimate
from skymath_jax.study.ablations import ABLATIONS
from skymath_jax.study.cells import Study
from skymath_jax.study.plan import BASE, Cell

FOLDER = Path(__file__).parent
ALT = {
  "scaling": "Accuracy against the number of training instances, with both fits",
  "levels": "Accuracy against the number of training instances, by level",
  "ablations": "Differences in accuracy between the arms of each ablation, with 95 % intervals",
}


def write(study: Study, summary: Facts, figures: list[str]) -> Path:
  """Writes the page from the summary and the figures in `study/plots`; returns its path."""
  path = study.workdir / "study" / "report.html"
  files.write_bytes(path, render(study, summary, figures).encode("utf-8", errors="replace"))
  return path


def render(study: Study, summary: Facts, figures: list[str]) -> str:
  """The page as text."""
  plots = study.workdir / "study" / "plots"
  context = {
    "name": summary["name"],
    "summary": summary,
    "figures": {name: picture(plots, name) for name in figures},
    "points": [
      {**point, "estimate": Estimate(value=point["accuracy"], low=point["ci95"][0], high=point["ci95"][1])}
      for point in summary["curve"]
    ],
    "ablations": {name: _table(found) for name, found in summary["ablations"].items()},
    "funnel": html.funnel(read.load(study.workdir)),
    "stages": html.STAGE_NAMES,
    "models": read.MODELS,
    "answers": samples.side_by_side(_side_by_side(study)),
  }
  return html.environment(FOLDER).get_template("page.html").render(context)


def picture(folder: Path, name: str) -> Markup:
  """The figure as two embedded images, of which the screen's width picks one."""
  wide, narrow = (_data(folder / f"{file}.svg") for file in (name, f"{name}_narrow"))
  return Markup(
    '<picture><source media="(max-width: 700px)" srcset="{narrow}"><img src="{wide}" alt="{alt}"></picture>'
  ).format(narrow=narrow, wide=wide, alt=ALT[name])


def _data(path: Path) -> str:
  return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _table(found: Facts) -> Facts:
  """An ablation's rows for the page: every arm, and its comparison with the subject where it is not the subject."""
  rows = []
  for arm, facts in found["arms"].items():
    compared = found["comparisons"].get(arm)
    estimate = Estimate(value=facts["accuracy"], low=facts["ci95"][0], high=facts["ci95"][1])
    rows.append({"arm": arm, **facts, "estimate": estimate, "compared": compared})
  return {**found, "rows": rows}


def _side_by_side(study: Study) -> dict[str, dict[str, read.Row]]:
  """Answers of the base, of a stage-1 cell and of the cell that goes on from it with hard data, where there."""
  then_hard = next(iter(ABLATIONS["hard"].arms(study.config.study.ablation_size).values()))
  cells = {"base": BASE, "stage1": Cell(phases=then_hard[:1]), "stage2": Cell(phases=then_hard)}
  found = {
    name: {str(row.get("id")): row for row in read.lines(study.folder(cell) / "predictions.jsonl")}
    for name, cell in cells.items()
    if study.facts(cell)
  }
  return {name: rows for name, rows in found.items() if rows}
