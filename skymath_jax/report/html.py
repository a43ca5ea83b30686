"""`report.html`: the story of one run in one file that needs no network and no script.

All text of the workdir is untrusted (a model wrote most of it): Jinja escapes it, `clean` takes out control characters,
and the page's content security policy forbids scripts and requests. The page is a pure function of the workdir, so two
equal runs give equal reports.
"""

import functools
import importlib.metadata
import itertools
import platform
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from etils import epath
from markupsafe import Markup

import skymath_jax
from skymath_jax import charts, files
from skymath_jax.charts import Mark
from skymath_jax.report import read, samples
from skymath_jax.report.read import MODELS, STAGES, Material, Row
from skymath_jax.statistics import Estimate

FOLDER = Path(__file__).parent
LONGEST = 4000  # characters of one shown text; a model that never stops must not drown the page
SHOWN_ORIGINS = 24  # teachers, prompts and sampling settings; a run has fewer
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "google-jetstream", "tensorflow-datasets")
STAGE_NAMES = {"stage1": "stage 1", "stage2": "stage 2"}


def write(workdir: epath.PathLike) -> epath.Path:
  """Writes `report.html` into the workdir from the files that are there; returns its path."""
  path = epath.Path(workdir) / "report.html"
  files.write_bytes(path, render(read.load(workdir)).encode("utf-8", errors="replace"))
  return path


def render(material: Material) -> str:
  """The page as text."""
  found = samples.census(material.workdir)
  context = {
    "models": MODELS,
    "stages": STAGE_NAMES,
    "name": str({"name": material.workdir.name, **material.config, **material.summary}["name"]),
    "headline": _headline(material),
    "levels": _levels(material),
    "subjects": _subjects(material),
    "benchmarks": _benchmarks(material),
    "funnel": funnel(material),
    "instances": _instances(found),
    "quality": _quality(material, found),
    "training": training(material.metrics),
    "ancestries": samples.ancestries(material.workdir, [row for _, row in sorted(found.examples.items())]),
    "answers": samples.side_by_side(material.predictions),
    "pace": _pace(material),
    "provenance": _provenance(material, found),
    "notes": material.notes,
  }
  return environment(FOLDER).get_template("template.html").render(context)


@functools.cache
def environment(*folders: Path) -> jinja2.Environment:
  """Jinja with the filters of the pages; templates come from `folders`, then from this room (style, macros)."""
  made = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=jinja2.FileSystemLoader([*folders, FOLDER]),
  )
  made.globals["chart_style"] = Markup(charts.STYLE)
  made.filters.update(percent=charts.percent, interval=charts.interval, clean=clean, share=_share)
  return made


def clean(value: Any, longest: int = LONGEST) -> str:
  """Text fit to be shown: no control or direction-changing characters, and of a length that can be read.

  None and a key that a row lacks become the empty text.
  """
  text = "" if value is None or isinstance(value, jinja2.Undefined) else str(value).replace("\r\n", "\n")
  rest = len(text) - longest
  if rest <= longest // 8:  # the note would be longer than what it stands for
    rest, longest = 0, len(text)
  text = "".join(c if _shows(c) else "\ufffd" for c in text[:longest])
  return f"{text} \u2026 ({rest:,} more characters)" if rest > 0 else text


def _shows(character: str) -> bool:
  """Printable, a line break, a tab, or a space of any width (which `isprintable` denies)."""
  return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def _share(count: float, total: float) -> str:
  return charts.percent(count / total) if total else "\u2013"


def _marks(estimates: dict[str, Estimate]) -> list[Mark]:
  return [Mark(name, MODELS[name], found) for name, found in estimates.items()]


def _headline(material: Material) -> Row:
  overall = {name: found for name, facts in material.accuracy.items() if (found := read.overall(facts))}
  names = list(overall)
  title = "Accuracy: " + ", ".join(f"{MODELS[name]} {charts.percent(found.value)}" for name, found in overall.items())
  pairs = list(itertools.pairwise(names)) + ([(names[0], names[-1])] if len(names) > 2 else [])
  settings = read.part(material.config, "evaluation")
  return {
    "overall": overall,
    "benchmark": next(iter(settings.get("benchmarks") or []), None),
    "plot": overall and charts.responsive(partial(charts.dots, title, _marks(overall))),
    "pairs": [
      (MODELS[a], MODELS[b], samples.paired(material.predictions[a], material.predictions[b]))
      for a, b in pairs
      if a in material.predictions and b in material.predictions
    ],
    "outcomes": {name: samples.outcomes(rows.values()) for name, rows in material.predictions.items()},
    "temperature": settings.get("temperature"),
    "warnings": [*material.warnings, *_disagreements(material, overall)],
  }


def _disagreements(material: Material, overall: dict[str, Estimate]) -> list[str]:
  """Models whose stored predictions do not add up to the accuracy that the summary gives."""
  wrong = []
  for name, rows in material.predictions.items():
    counted = sum(map(samples.is_right, rows.values())) / len(rows)
    if name in overall and abs(counted - overall[name].value) > 5e-4:
      claimed, found = charts.percent(overall[name].value), charts.percent(counted)
      wrong.append(f"{MODELS[name]}: the summary says {claimed}, its {len(rows):,} predictions {found}; one is stale")
  return wrong


def _groups(material: Material, key: str) -> dict[str, dict[str, Estimate]]:
  """Group → model → estimate, in the order of the groups' names."""
  by_model = {
    name: read.grouped(facts, material.predictions.get(name, {}), key) for name, facts in material.accuracy.items()
  }
  names = dict.fromkeys(group for found in by_model.values() for group in found)
  return {group: {m: found[group] for m, found in by_model.items() if group in found} for group in names}


def _levels(material: Material) -> Row:
  groups = _groups(material, "level")
  columns = [(f"level {name}", _marks(found)) for name, found in groups.items()]
  title = "Accuracy by level: " + "; ".join(
    f"{name}: " + ", ".join(f"{mark.label} {charts.percent(mark.estimate.value)}" for mark in marks)
    for name, marks in columns
  )
  return {"groups": groups, "plot": columns and charts.responsive(partial(charts.grouped_dots, title, columns))}


def _subjects(material: Material) -> dict[str, dict[str, Estimate]]:
  return _groups(material, "subject")


def _benchmarks(material: Material) -> dict[str, dict[str, Estimate]]:
  """Benchmark → model → estimate; empty where there is only the headline's."""
  names = dict.fromkeys(name for found in material.benchmarks.values() for name in found)
  table = {
    name: {m: e for m, found in material.benchmarks.items() if name in found and (e := read.overall(found[name]))}
    for name in names
  }
  return table if len(table) > 1 else {}


def funnel(material: Material) -> Row:
  """From seed problems to what was kept: a drawing a stage, one of the reasons for dropping, and the totals."""
  stages: dict[str, Markup] = {}
  reasons: dict[str, dict[str, float]] = {}
  for stage in STAGES:
    steps = _funnel_steps(material, stage)
    if steps:
      title = f"Funnel of {STAGE_NAMES[stage]}: " + ", ".join(f"{label} {count:,.0f}" for label, count, _ in steps)
      stages[stage] = charts.responsive(partial(charts.funnel, title, steps))
    for name, count in _dropped(material, stage):
      reasons.setdefault(name, {}).setdefault(stage, 0)
      reasons[name][stage] += count
  totals = read.counts(material.summary, "instances", "dropped")
  totals = totals or {name: sum(found.values()) for name, found in reasons.items()}
  ordered = sorted(totals, key=lambda name: (-totals[name], name))
  parts = [
    (name, [(s, STAGE_NAMES[s], c) for s, c in reasons.get(name, {}).items()] or [("", "", totals[name])])
    for name in ordered
    if totals[name]
  ]
  title = "Dropped, by reason: " + ", ".join(f"{name} {totals[name]:,}" for name in ordered)
  return {
    "stages": stages,
    "idle": _idle(material),
    "kept": read.number(read.part(material.summary, "instances").get("kept")),
    "dropped": parts and charts.responsive(partial(charts.bars, title, parts)),
    "total_dropped": sum(totals.values()),
  }


def _dropped(material: Material, stage: str) -> Iterable[tuple[str, float]]:
  for found in read.listed(material.synthesis[stage], "passes"):
    yield from read.counts(found, "rejected").items()
  for step in read.listed(material.curation[stage], "steps"):
    yield from read.counts(step, "dropped").items()


def _funnel_steps(material: Material, stage: str) -> list[tuple[str, float, str]]:
  """(label, count, series) from seed problems over requests and instances to what was kept."""
  made, steps = material.synthesis[stage], read.listed(material.curation[stage], "steps")
  seeds = material.seeds.get("problems") if stage == "stage1" else made.get("seeds")
  answered = read.number(made.get("stored"))
  found = [
    ("seed problems" if stage == "stage1" else "hard seed problems", seeds, "base"),
    ("synthetic problems selected for pass 2", made.get("coreset"), "selected"),
    ("teacher responses", answered, "neutral"),
    ("instances parsed", made.get("instances"), stage),
  ]
  for index, step in enumerate(steps):
    if not index and read.number(made.get("instances")) is None:
      found.append(("instances", step.get("in"), stage))
    if step.get("out") != step.get("in"):
      found.append((f"after {_step_name(step)}", step.get("out"), stage))
  return [(label, count, series) for label, value, series in found if (count := read.number(value)) is not None]


def _step_name(step: Row) -> str:
  return str(step.get("name")).replace("_", " ")


def _idle(material: Material) -> dict[str, list[str]]:
  """Stage → the curation steps that dropped nothing, which get no bar of their own."""
  steps = {stage: read.listed(material.curation[stage], "steps") for stage in STAGES}
  idle = {s: [_step_name(step) for step in rows if step.get("out") == step.get("in")] for s, rows in steps.items()}
  return {stage: names for stage, names in idle.items() if names}


def _instances(found: samples.Census) -> Row:
  methods = dict.fromkeys(sorted(method for counter in found.methods.values() for method in counter))
  rows = [
    (method, [(stage, STAGE_NAMES[stage], c[method]) for stage, c in found.methods.items() if c[method]])
    for method in methods
  ]
  panels = [(stage, STAGE_NAMES[stage].capitalize(), lengths) for stage, lengths in found.lengths.items()]
  title = "Instances by method: " + ", ".join(f"{name} {sum(p[2] for p in parts):,}" for name, parts in rows)
  spread = f"Response lengths in {found.unit}: " + ", ".join(f"{n} median {charts.median(c)}" for _, n, c in panels)
  return {
    "total": sum(counter.total() for counter in found.methods.values()),
    "methods": rows and charts.responsive(partial(charts.bars, title, rows)),
    "lengths": panels and charts.responsive(partial(charts.histogram, spread, panels, found.unit)),
    "unit": found.unit,
  }


def _quality(material: Material, found: samples.Census) -> list[Row]:
  """One row a method: the oracle's shares, and agreement with a gold answer where one is known."""
  oracle = read.part(material.summary, "oracle")
  rows: list[Row] = []
  for method in sorted({*oracle, *found.gold}):
    verdict, gold = read.part(oracle, method), found.gold.get(method, Counter[bool | None]())
    family, dot, operation = method.partition(".")
    n, known = read.count(verdict.get("n")), gold[True] + gold[False]
    shares = {
      "valid": read.estimate(verdict.get("valid_question"), n),
      "right": read.estimate(verdict.get("right_answer"), n),
      "gold": read.estimate(gold[True] / known, known) if known else None,
    }
    meters = {f"{key}_meter": share and charts.meter(share) for key, share in shares.items()}
    rows.append({"family": family + dot, "operation": operation, "n": n, **shares, **meters})
  return rows


def training(metrics: Mapping[str, list[Row]]) -> dict[str, Row]:
  """Stage → its loss curve and what it came to, of the rows of each stage's metrics."""
  curves = {
    stage: [(row["step"], row["loss"]) for row in rows if read.number(row.get("step")) is not None
            and read.number(row.get("loss")) is not None]
    for stage, rows in metrics.items()
  }  # fmt: skip
  curves = {stage: points for stage, points in curves.items() if len(points) > 1}
  losses = [loss for points in curves.values() for _, loss in points]
  result = {}
  for stage, points in curves.items():
    average = charts.smoothed([loss for _, loss in points], max(5, len(points) // 25))
    title = f"Loss of {STAGE_NAMES[stage]} over {len(points):,} steps: from {points[0][1]:.3f} to {average[-1]:.3f}"
    rows = metrics[stage]
    result[stage] = {
      "plot": charts.curve(title, stage, points, (min(losses), max(losses)), charts.NARROW),
      "steps": len(points),
      "first": points[0][1],
      "last": average[-1],
      "tokens": sum(read.number(row.get("tokens")) or 0 for row in rows),
      "seconds": sum(read.number(row.get("seconds")) or 0 for row in rows),
      "bad": len(rows) - len(points),
    }
  return result


def _pace(material: Material) -> Row:
  seconds = read.counts(material.summary, "seconds")
  title = "Seconds per stage: " + ", ".join(f"{name} {value:,.1f}" for name, value in seconds.items())
  rows = [(name, [("neutral", "seconds", value)]) for name, value in seconds.items()]
  return {
    "seconds": seconds,
    "total": sum(seconds.values()),
    "plot": rows and charts.responsive(partial(charts.bars, title, rows, digits=1)),
    "speeds": read.counts(material.summary, "tokens_per_second"),
    "requests": read.counts(material.summary, "requests"),
  }


def _provenance(material: Material, found: samples.Census) -> Row:
  return {
    "facts": {key: material.summary[key] for key in ("config_hash", "seed") if key in material.summary},
    "origins": {name: counter.most_common(SHOWN_ORIGINS) for name, counter in found.origins.items()},
    "export": read.part(material.summary, "export"),
    "config": dict(_flat(material.config)),
    "versions": {"skymath_jax": skymath_jax.__version__, "Python": platform.python_version(), **_versions()},
  }


def _versions() -> dict[str, str]:
  installed = {}
  for name in LIBRARIES:
    try:
      installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return installed


def _flat(document: Row, prefix: str = "") -> Iterable[tuple[str, Any]]:
  for key, value in document.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value
