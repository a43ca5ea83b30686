"""The recipe as a list of resumable stages: what is complete is skipped, what is not is resumed.

A stage owns one folder of the workdir. `COMPLETE.json`, the last file that it writes, holds its facts and the hash of
its inputs; a stage whose inputs are no longer the same is done again. What was made with a key of the config is bound
to it: while a workdir holds answers of the teacher, no other teacher may be named for it; the learning rate may still
change. All of that follows from what the stages say they need and read.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import distributed, hardware, integrity
from skymath_jax.config import Experiment
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.recipe import curate, evaluate, export, forecast, seeds, summary, synthesize, train
from skymath_jax.recipe.teacher import Teacher, require_nothing_secret
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.recipe.workdir import WORK_SECONDS, Workdir
from skymath_jax.records import Facts

GATHER_SECONDS = 600  # how long processes wait for each other where none has anything to do

# Folders that are no stage's, or not with every config → what of the config binds them. A study's own keys do not: its
# cells are named by what they are made of, so sizes and ablations may be added
OTHER_FOLDERS = {"evaluation": evaluate.READS, "study": (*train.READS, *evaluate.READS)}


def recipe(config: Experiment) -> list[Stage]:
  """The stages of `run`, in order (Skywork-Math section 3: two synthesis stages, two SFT stages, evaluation).

  Stage 2's data needs no model of ours, so the teacher is done, and its memory free, before the first training step;
  unless the student makes that data.
  """
  both = [*synthesize.stages(config), *curate.STAGES, *train.STAGES]
  if config.synthesis.student:
    both.sort(key=lambda stage: stage.folder[-1])  # all of stage 1, then all of stage 2
  return [
    seeds.STAGE,
    *both,
    *evaluate.stages(config),
    export.STAGE,
  ]


def made_with(config: Experiment) -> dict[str, set[str]]:
  """Top folder of a workdir → keys and groups of the config whose values bind what lies in it."""
  stages = recipe(config)
  unread = curate.STAGES if config.training.data else []  # training reads what the data names instead
  cheap = {stage.folder: stage.reads for stage in stages if stage.cheap and stage not in unread}
  table = {folder: set(keys) for folder, keys in OTHER_FOLDERS.items()}
  for stage in stages:
    if not stage.cheap:
      keys = table.setdefault(stage.folder.partition("/")[0], set())
      keys.update(stage.reads, *(cheap[folder] for folder in stage.needs if folder in cheap))
  table[train.TOKENIZER] = table["checkpoints"]  # made of the same text
  return table


def is_complete(stage: Stage, run: Run) -> bool:
  """Whether the stage's mark is there, was made from the inputs that are there now, and has all its files.

  Raises:
    UserError: a file is not what it was; it says what builds on it and what to do.
  """
  try:
    facts = run.workdir.completion(stage.folder)
  except integrity.DamagedError as error:
    raise damaged(error, stage.folder, run.config) from None
  return facts is not None and facts.get("inputs") == inputs_of(stage, run)


def damaged(error: integrity.DamagedError, folder: str, config: Experiment) -> UserError:
  """The error with the names of the stages that build on the damaged folder."""
  behind, names = {folder}, []
  for stage in recipe(config):
    if behind & set(stage.needs):
      behind.add(stage.folder)
      names.append(stage.name)
  built = f"; built on it: {', '.join(names)}" if names else ""
  return UserError(error.what + built, where=error.where, remedy=error.remedy)


def inputs_of(stage: Stage, run: Run) -> Facts:
  """Folder that the stage needs → output hash of the stage that made it (None while it is not complete).

  A cheap stage's inputs are the values that it reads, too; elsewhere the workdir is bound to them.
  """
  marks = {folder: run.workdir.mark(folder) for folder in stage.needs}
  outputs = {folder: mark and mark.get("output") for folder, mark in marks.items()}
  values = config_lib.bound(run.config, *stage.reads) if stage.cheap else {}
  return outputs | {f"config.{key}": value for key, value in values.items()} | stage.outside(run)


@contextlib.contextmanager
def opened(config: Experiment, workdir: epath.PathLike, stages: Sequence[Stage] = ()) -> Iterator[Run]:
  """What the stages share, over a workdir that the writer has locked; all processes of a job come here with the same.

  Raises:
    UserError: the folder cannot be written, is in use, or belongs to another config (the first key is named); the
      processes do not agree; or the config holds a key.
  """
  require_nothing_secret(config.teacher)
  distributed.initialize()
  agreed = {"workdir": str(workdir), "config": config_lib.as_json(config), "stages": [stage.name for stage in stages]}
  distributed.require_agreement("the run", {**agreed, "code": distributed.code_version()})
  folder = Workdir(workdir)
  with (
    folder.opened(config, made_with(config)),
    Teacher(config.teacher, config.serving, config.model.dtype, folder.path, folder.push_files) as teacher,
  ):
    yield Run(config=config, workdir=folder, teacher=teacher)


def perform(stages: Sequence[Stage], config: Experiment, workdir: epath.PathLike) -> dict[str, Facts]:
  """Does those of the stages that are not complete; returns the facts of each by name.

  Raises:
    UserError: a stage's inputs are not there, or its work failed for a reason the user can mend.
  """
  with opened(config, workdir, stages) as run:
    return _perform(stages, run)


def run_recipe(config: Experiment, workdir: epath.PathLike, *, dry: bool = False) -> Facts:
  """The whole recipe; leaves `summary.json` and `report.html` in the workdir and returns the summary.

  Says first what it will take; a dry run ends there, and says it of the machine that the recipe was fitted to. In a job
  of several processes only the writer has a summary; the others, and a dry run, return an empty one.

  Raises:
    UserError: as `perform`, or the machine has no room for it.
  """
  stages = recipe(config)
  if synthesize.how_many(config) == 1:
    raise UserError(
      "no method has runs, and a run trains on two stages",
      where="config.synthesis.hard",
      remedy="give it runs, or do the parts with one stage: skymath synthesize, curate, train, evaluate --model",
    )
  with opened(config, workdir, stages) as run:
    facts: dict[str, Facts] = _perform(stages[:1], run)
    if distributed.is_writer():
      _foretell(stages, run, dry=dry)
    if dry:
      return {}
    facts |= _perform(stages[1:], run)
    found: Facts = {}
    if distributed.is_writer():
      found = summary.summarize(config, run.workdir.path, facts)
      run.workdir.push_files("summary.json", "report.html")
    distributed.barrier("the summary is written", seconds=WORK_SECONDS)
  return found


def _foretell(stages: Sequence[Stage], run: Run, *, dry: bool) -> None:
  """Tells what is still to be done, and what it takes."""
  name = run.config.hardware
  there = dry and name not in ("", hardware.CPU.kind, train.machine())
  pace = forecast.Pace.of(hardware.find(name)) if there else forecast.Pace.here()
  rows = forecast.forecast(run, [stage for stage in stages if not is_complete(stage, run)], pace)
  if rows:
    log(f"{run.workdir.where}: to be done" + (f", on {name}" if there else ""))
    for line in forecast.lines(rows):
      log(line)
    forecast.require(rows, run, pace)


def _perform(stages: Sequence[Stage], run: Run) -> dict[str, Facts]:
  facts = {}
  for index, stage in enumerate(stages):
    if any(later.asks and not is_complete(later, run) for later in stages[index:]):
      run.teacher.start()  # compiles while earlier stages work
    else:
      run.teacher.stop()
    facts[stage.name] = _perform_one(stage, run)
  return facts


def _perform_one(stage: Stage, run: Run) -> Facts:
  """One stage: done here, done by the writer while this process waits, or found complete; returns its facts."""
  works = distributed.is_writer() or stage.everywhere
  if distributed.gather(f"{stage.name} is complete", is_complete(stage, run), seconds=GATHER_SECONDS)[0]:
    log(f"{stage.name}: complete, skipped")
    return run.workdir.facts(stage.folder)
  _require_inputs(stage, run)
  log(f"{stage.name} …" if works else f"{stage.name}: done by process 0")
  start = time.perf_counter()
  run.workdir.reopen(stage.folder)
  with run.workdir.kept_up(stage.folder):
    made = stage.work(run) if works else {}
  seconds = round(time.perf_counter() - start, 3)
  facts = run.workdir.complete(stage.folder, {"inputs": inputs_of(stage, run), **made, "seconds": seconds})
  if distributed.is_writer():
    log(f"{stage.name}: done in {seconds:.1f} s")
  return facts


def _require_inputs(stage: Stage, run: Run) -> None:
  for folder in stage.needs:
    if run.workdir.completion(folder) is None:
      raise UserError(
        f"{stage.name} needs {folder}, which is not complete",
        where=run.workdir.where,
        remedy="run the stage before it, or `skymath run`, with this --workdir",
      )
