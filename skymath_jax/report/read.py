"""What a report is made of: the files that the stages of a run left in its workdir, every one of them optional.

A file that is not there, or that cannot be read, becomes a note in the report; it never stops it. JSON lines are read
as a stream, so that the report of a run with millions of instances needs no more memory than that of a small one.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from skymath_jax import files, records
from skymath_jax.errors import UserError
from skymath_jax.statistics import Estimate, wilson

MODELS = {"base": "base", "stage1": "after stage\u00a01", "stage2": "after stage\u00a02"}
STAGES = ("stage1", "stage2")
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
  """The contents of a workdir. Dicts are empty where a file is missing; `notes` say which and why.

  `accuracy` is model → accuracy facts; `predictions` is model → problem id → row; `metrics` is stage → rows;
  `benchmarks` is model → benchmark → accuracy facts; `warnings` are the evaluations' own.
  """

  workdir: epath.Path
  summary: Row
  config: Row
  seeds: Row
  synthesis: dict[str, Row]
  curation: dict[str, Row]
  accuracy: dict[str, Row]
  benchmarks: dict[str, dict[str, Row]]
  predictions: dict[str, dict[str, Row]]
  metrics: dict[str, list[Row]]
  notes: list[str]
  warnings: list[str]


def load(workdir: epath.PathLike) -> Material:
  """Reads everything but the instances, which `instances` streams."""
  workdir = epath.Path(workdir)
  notes: list[str] = []
  summary = _document(workdir / "summary.json", notes)
  predictions = {
    name: {str(row.get("id")): row for row in lines(workdir / "evaluation" / name / "predictions.jsonl", notes)}
    for name in MODELS
  }
  benchmarks = {name: _benchmarks(workdir / "evaluation" / name) for name in MODELS}
  return Material(
    workdir=workdir,
    summary=summary,
    config=_document(workdir / "config.json", notes),
    seeds=_document(workdir / "seeds" / "summary.json", notes),
    synthesis={stage: _document(workdir / "synthesis" / stage / "summary.json", notes) for stage in STAGES},
    curation={stage: _document(workdir / "sft" / stage / "summary.json", notes) for stage in STAGES},
    accuracy={
      name: found
      for name in MODELS
      if (found := accuracy(part(summary, "accuracy", name), benchmarks[name], predictions[name]))
    },
    benchmarks={name: found for name, found in benchmarks.items() if found},
    predictions={name: rows for name, rows in predictions.items() if rows},
    metrics={stage: list(lines(workdir / "checkpoints" / stage / "metrics.jsonl", notes)) for stage in STAGES},
    notes=notes,
    warnings=[line for name in MODELS for line in _warnings(workdir / "evaluation" / name)],
  )


def part(document: Mapping[str, Any], *keys: str) -> Row:
  """The object at `keys` of a JSON document; empty where any of them is missing or is something else."""
  value: Any = document
  for key in keys:
    value = value.get(key) if isinstance(value, Mapping) else None
  return dict(value) if isinstance(value, Mapping) else {}


def listed(document: Mapping[str, Any], key: str) -> list[Row]:
  """The list of objects at `key`; empty where it is missing or is something else."""
  value = document.get(key)
  return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def number(value: Any) -> float | None:
  """`value` if it is a finite number, else None (a metric of a diverged run may be NaN, a missing one null)."""
  good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
  return value if good else None


def count(value: Any) -> int | None:
  """`value` as a whole number if it is a finite one, else None."""
  found = number(value)
  return None if found is None else int(found)


def counts(document: Mapping[str, Any], *keys: str) -> dict[str, float]:
  """The finite numbers of the object at `keys`, by name."""
  found = ((str(name), number(value)) for name, value in part(document, *keys).items())
  return {name: value for name, value in found if value is not None}


def lines(path: epath.Path, notes: list[str] | None = None) -> Iterator[Row]:
  """The objects of a JSONL file up to the first line that cannot be read; notes what is missing."""
  try:
    for _, row in records.read_lines(path):
      yield row
  except (UserError, OSError) as error:
    if notes is not None:
      notes.append(str(error))


def instances(workdir: epath.Path, stage: str) -> Iterator[Row]:
  """The kept instances of a stage as JSON objects, or the synthesized ones while it has not been curated."""
  kept = workdir / "sft" / stage / "kept.jsonl"
  yield from lines(kept if kept.exists() else workdir / "synthesis" / stage / "instances.jsonl")


def _document(path: epath.Path, notes: list[str]) -> Row:
  try:
    value = files.read_json(path)
  except (UserError, OSError, UnicodeDecodeError) as error:
    notes.append(str(error))
    return {}
  if not isinstance(value, dict):
    notes.append(f"{path}: not a JSON object.")
    return {}
  return value


def _benchmarks(folder: epath.Path) -> dict[str, Row]:
  """Benchmark → its accuracy facts, the headline's first; further benchmarks have a folder each."""
  found: dict[str, Row] = {}
  for path in [folder / "summary.json", *files.matching(folder, "*/summary.json")]:
    document = _document(path, [])
    if facts := part(document, "accuracy"):
      found[str(document.get("name", path.parent.name))] = facts
  return found


def _warnings(folder: epath.Path) -> list[str]:
  found = _document(folder / "summary.json", []).get("warnings")
  return [f"{folder.name}: {line}" for line in found] if isinstance(found, list) else []


def accuracy(summarized: Row, benchmarks: Mapping[str, Row], predictions: Mapping[str, Row]) -> Row:
  """Accuracy facts of one model: from the run's summary, else the evaluation's, else counted in the predictions."""
  for facts in (summarized, *list(benchmarks.values())[:1]):
    if number(facts.get("all")) is not None:
      return facts
  if not predictions:
    return {}
  right = sum(row.get("correct") is True for row in predictions.values())
  by_level, by_subject = (
    {name: found.value for name, found in _counted(predictions.values(), key).items()} for key in ("level", "subject")
  )
  return {"all": right / len(predictions), "n": len(predictions), "by_level": by_level, "by_subject": by_subject}


def estimate(value: Any, n: int | None = None, interval: Any = None) -> Estimate | None:
  """An Estimate from a bare share or from an object {"accuracy" or "all", "n", "ci95"}; None if it holds no number.

  An interval that is not given is Wilson's where `n` is known.
  """
  if isinstance(value, Mapping):
    return estimate(value.get("accuracy", value.get("all")), value.get("n", n), value.get("ci95", interval))
  share = number(value)
  if share is None:
    return None
  low, high = wilson(round(share * n), n) if n else (None, None)
  ends = [number(end) for end in interval] if isinstance(interval, list | tuple) else []
  if len(ends) == 2 and None not in ends:
    low, high = ends
  return Estimate(value=share, low=low, high=high, n=n)


def overall(facts: Row) -> Estimate | None:
  """The accuracy over all problems of one model's accuracy facts."""
  return estimate(facts)


def grouped(facts: Row, predictions: Mapping[str, Row], key: str) -> dict[str, Estimate]:
  """Group → accuracy of one model by `level` or `subject`; sizes the facts lack are counted in the predictions."""
  known = part(facts, f"n_by_{key}")
  sizes = {str(name): count(n) for name, n in known.items()} or {
    name: found.n for name, found in _counted(predictions.values(), key).items()
  }
  shares = {str(name): share for name, share in part(facts, f"by_{key}").items()}
  groups = ((name, estimate(shares[name], sizes.get(name))) for name in sorted(shares, key=_natural))
  return {name: found for name, found in groups if found is not None}


def _natural(name: str) -> tuple[bool, float, str]:
  return (not name.isdecimal(), float(name) if name.isdecimal() else 0.0, name)


def _counted(rows: Iterable[Row], key: str) -> dict[str, Estimate]:
  total: collections.Counter[str] = collections.Counter()
  right: collections.Counter[str] = collections.Counter()
  for row in rows:
    total[str(row.get(key))] += 1
    right[str(row.get(key))] += row.get("correct") is True
  return {name: Estimate(value=right[name] / n, n=n) for name, n in total.items() if name != "None"}
