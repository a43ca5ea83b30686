"""All evaluations found below a folder on one page: model × benchmark with intervals, settings, and what compares.

A row is a model asked and graded in one way; the same model asked otherwise is another row. A figure that was made
otherwise than published ones are carries a mark, and the list below says why. Pairs of runs are compared problem by
problem. Like the report of a run, the page is a function of the files, and shows no text of theirs unescaped.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from skymath_jax import charts, evaluation, files
from skymath_jax.errors import UserError
from skymath_jax.problems import published, suites
from skymath_jax.report import html, read
from skymath_jax.report.read import Row
from skymath_jax.statistics import Estimate

PAGE = "leaderboard.html"
DEPTH = 7  # folders below one another: RUNS/RUN/evaluation/MODEL/BENCHMARK is four
MAX_PAIRS = 15  # of one benchmark; the first rows are compared
_NEEDED = ("name", "model", "accuracy", "prompt", "sampling", "mode")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """One evaluation: its summary, the folder it lies in, and what keeps its figure from comparing."""

  folder: epath.Path
  summary: Row
  estimate: Estimate
  differences: list[str]

  @property
  def benchmark(self) -> str:
    return str(self.summary["name"])

  @property
  def settings(self) -> Row:
    """How the model was asked and graded."""
    sampling = read.part(self.summary, "sampling")
    return {
      "prompt": str(read.part(self.summary, "prompt").get("name", "")),
      "mode": str(self.summary["mode"]),
      "samples": read.count(self.summary.get("samples")) or 1,
      "temperature": read.number(sampling.get("temperature")),
      "max_tokens": read.count(sampling.get("max_tokens")),
    }


def write(folder: epath.PathLike, out: epath.PathLike | None = None) -> epath.Path:
  """Writes the page of all evaluations below `folder` to `out`, or into the folder; returns its path.

  Raises:
    UserError: there is no evaluation below it.
  """
  root = files.located(folder)
  path = epath.Path(out) if out is not None else root / PAGE
  files.write_bytes(path, render(root).encode("utf-8", errors="replace"))
  return path


def render(root: epath.Path) -> str:
  """The page as text.

  Raises:
    UserError: there is no evaluation.
  """
  notes: list[str] = []
  entries = list(_entries(root, notes))
  if not entries:
    raise UserError("no evaluation below this folder", where=root, remedy="run skymath evaluate, or name another")
  benchmarks = _in_order({entry.benchmark for entry in entries})
  context = {
    "name": root.name or str(root),
    "root": root,
    "entries": sorted(entries, key=lambda e: (benchmarks.index(e.benchmark), -e.estimate.value, str(e.folder))),
    "tables": [
      (name, compares, columns, _rows([e for e in entries if e.benchmark in columns]))
      for name, compares, columns in _tables(benchmarks)
    ],
    "pairs": {name: found for name in benchmarks if (found := list(_pairs(name, entries, notes)))},
    "sets": {name: published.SETS[key] for name in benchmarks if (key := name.partition(":")[0]) in published.SETS},
    "notes": notes,
    "meter": charts.meter,
  }
  return html.environment(html.FOLDER).get_template(PAGE).render(context)


def _entries(root: epath.Path, notes: list[str]) -> Iterator[Entry]:
  """Every evaluation below the folder, by path."""
  for path in sorted(path for depth in range(DEPTH) for path in files.matching(root, "*/" * depth + "summary.json")):
    try:
      summary = files.read_json(path)
    except (UserError, OSError, UnicodeDecodeError) as error:
      notes.append(str(error))
      continue
    if not isinstance(summary, dict) or any(key not in summary for key in _NEEDED):
      continue  # of a run, a study or a stage
    facts = read.part(summary, "accuracy")
    estimate = read.overall(facts)
    if estimate is None:
      notes.append(f"{path}: no accuracy in it.")
      continue
    entry = Entry(folder=path.parent, summary=summary, estimate=estimate, differences=[])
    asked = {**entry.settings, "n": estimate.n}
    yield dataclasses.replace(entry, differences=suites.differences(entry.benchmark, asked))


def _in_order(names: set[str]) -> list[str]:
  """Benchmarks of the suites in their order, then others by name."""
  known = [name for name in suites.expanded(suites.SUITES) if name in names]
  return known + sorted(names - set(known))


def _tables(benchmarks: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
  """(suite, what its figures compare with, the benchmarks of it that there are)."""
  for name, suite in suites.SUITES.items():
    if columns := [b for b in benchmarks if suites.suite_of(b) is suite]:
      yield name, suite.compares, columns
  if columns := [b for b in benchmarks if suites.suite_of(b) is None]:
    yield "others", "", columns


def _rows(entries: Sequence[Entry]) -> list[Row]:
  """A row for each model and way of asking, best first; what was done twice has a row of its own each time."""
  rows: dict[tuple[Any, ...], Row] = {}
  for entry in entries:
    way = (str(entry.summary["model"]), *entry.settings.values())
    for time in itertools.count():
      row = rows.setdefault((*way, time), {"model": way[0], "settings": entry.settings, "cells": {}})
      if entry.benchmark not in row["cells"]:
        row["cells"][entry.benchmark] = entry
        break
  return sorted(rows.values(), key=_rank)


def _rank(row: Row) -> tuple[int, float]:
  """More benchmarks first, then the higher mean."""
  values = [entry.estimate.value for entry in row["cells"].values()]
  return -len(values), -sum(values) / len(values)


def _pairs(benchmark: str, entries: Sequence[Entry], notes: list[str]) -> Iterator[Row]:
  """The runs of one benchmark two by two, problem by problem, the better one second."""
  runs = sorted((e for e in entries if e.benchmark == benchmark), key=lambda entry: entry.estimate.value)
  for first, second in itertools.islice(itertools.combinations(runs, 2), MAX_PAIRS):
    try:
      found = evaluation.compare(first.folder, second.folder)
    except (UserError, KeyError, TypeError) as error:
      notes.append(f"{first.folder} and {second.folder} were not compared: {error}")
      continue
    yield {**found, "first_run": first, "second_run": second}
