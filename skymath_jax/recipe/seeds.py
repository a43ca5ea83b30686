"""Stage `seeds`: the seed problems of all sources, checked, counted, and compared with the test sets."""

import collections

from skymath_jax import curation, files, records
from skymath_jax.config import Experiment
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.evaluation.benchmarks import MATH500, MATH_TEST, math500
from skymath_jax.problems import catalog, suites
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.records import Facts, Problem

FOLDER, PROBLEMS = "seeds", "problems.jsonl"


def load(run: Run) -> Facts:
  """Loads the seed problems of all sources into `seeds/problems.jsonl`, and counts those that are test problems.

  Raises:
    UserError: a source cannot be read, there is no problem at all, or `curation.quality` names no filter.
  """
  config, folder = run.config.seeds, run.workdir / FOLDER
  curation.require_filters(run.config.curation.quality)  # before a request is paid
  problems: dict[str, Problem] = {}
  for source in config.sources:
    found = catalog.load(source, data_dir=config.data_dir)
    problems |= {p.id: p for p in (found[: config.limit] if config.limit else found)}
  if not problems:
    raise UserError("there are no seed problems", where="config.seeds.sources", remedy="name at least one source")
  records.write_lines(folder / PROBLEMS, problems.values())
  summary = {
    "problems": len(problems),
    "sources": _count([p.source for p in problems.values()]),
    "levels": _count([str(p.level) for p in problems.values()]),
    "subjects": _count([str(p.subject) for p in problems.values()]),
    "without_answer": sum(p.answer is None for p in problems.values()),
    "in_test_sets": _overlap(run.config, list(problems.values())),
  }
  files.write_json(folder / "summary.json", summary)
  return {"output": files.sha256(folder / PROBLEMS), **summary}


STAGE = Stage("seeds", FOLDER, load, reads=("seeds",), cheap=True)


def problems_of(run: Run) -> list[Problem]:
  """The seed problems that this stage has left.

  Raises:
    UserError: they are not there, or a line has been spoiled.
  """
  return records.read(Problem, run.workdir / FOLDER / PROBLEMS)


def test_sets(config: Experiment) -> dict[str, list[Problem]]:
  """Name → problems that must not leak into the training data.

  Raises:
    UserError: a test set cannot be read.
  """
  return {name: test_set(config, name) for name in suites.expanded(config.curation.test_sets)}


def test_set(config: Experiment, name: str) -> list[Problem]:
  """The problems of one test set; unlike a benchmark's they need no answers.

  Raises:
    UserError: it cannot be read.
  """
  if name == MATH500:
    return math500(catalog.load(MATH_TEST, data_dir=config.seeds.data_dir))
  return catalog.load(name, data_dir=config.seeds.data_dir)


def _overlap(config: Experiment, problems: list[Problem]) -> dict[str, dict[str, int]] | None:
  """Source → test set → problems in common, said aloud before a request is paid; None without the test sets.

  Curation refuses to work without them; counting the seeds or a rehearsal need not.
  """
  try:
    tests = test_sets(config)
  except UserError as error:
    log(f"warning: the seeds are not compared with the test sets. {error}")
    return None
  overlap = curation.exact_overlap(problems, tests)
  for source, counts in overlap.items():
    for name, count in counts.items():
      log(f"warning: {count:,} seed problems of {source} are problems of {name}; curation drops what keeps their words")
  return overlap


def _count(values: list[str]) -> dict[str, int]:
  return dict(sorted(collections.Counter(values).items()))
