"""The recipe as a list of resumable stages: what is complete is skipped, what is not is resumed.

A stage owns one folder of the workdir. `COMPLETE.json`, the last file that it writes, holds its facts and the hash of
its inputs; a stage whose inputs are no longer the same is done again. What was made with a key of the config binds it:
while a workdir holds answers of the teacher, no other teacher may be named for it; the learning rate may still change.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from skymath_jax import config as config_lib
from skymath_jax import distributed, files
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.mirror import TOKEN, Mirror
from skymath_jax.recipe import data, model, summary
from skymath_jax.recipe.context import Run

# Group of the config → the folders of a workdir that are made with it. Other groups are bound by whatever is not CHEAP:
# bookkeeping, and the seeds, which are read again at once
MADE_WITH = {
  "seeds": ("synthesis", "sft"),
  "teacher": ("synthesis",),
  "synthesis": ("synthesis",),
  "curation": ("sft", "curation"),
  "model": ("checkpoints", "evaluation", "export", "study"),
  "training": ("checkpoints", "evaluation", "export", "study"),
  "evaluation": ("evaluation", "study"),
  "export": ("export",),
  "study": (),  # its cells are named by what they are made of: sizes and ablations may be added
}
CHEAP = {"config.json", "config_hash", ".lock", TOKEN, "server.log", "preflight.json", "seeds"}
# seconds that processes wait for each other: at a meeting, for a workdir from a bucket, for a stage's work
SHORT, FETCH, LONG = 600, 3600, 14 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of the recipe: `function(run) -> facts`, writing below `folder`.

  `needs` are the folders that it works from, `reads` the groups of the config that a complete one must have been made
  with; `asks` says that it asks the teacher, which starts early and ends after the last. In a job of several processes
  a stage is the writer's, unless it works `everywhere`.
  """

  name: str
  folder: str
  function: Callable[[Run], dict[str, Any]]
  needs: tuple[str, ...] = ()
  reads: tuple[str, ...] = ()
  asks: bool = False
  everywhere: bool = False


def recipe(config: ConfigDict) -> list[Stage]:
  """The stages of `run`, in order (Skywork-Math section 3: two synthesis stages, two SFT stages, evaluation).

  Stage 2's data needs no model of ours, so the teacher is done, and its memory free, before the first training step.
  """
  steps = [
    Stage("seeds", "seeds", data.seeds, reads=("seeds",)),
    Stage("synthesize stage 1", "synthesis/stage1", data.synthesize_normal, ("seeds",), asks=True),
    Stage("synthesize stage 2", "synthesis/stage2", data.synthesize_hard, ("seeds",), asks=True),
    Stage("curate stage 1", "sft/stage1", data.curate(1), ("synthesis/stage1",)),
    Stage("curate stage 2", "sft/stage2", data.curate(2), ("synthesis/stage2",)),
    Stage("train stage 1", "checkpoints/stage1", model.train(1), ("sft/stage1",), everywhere=True),
    Stage("train stage 2", "checkpoints/stage2", model.train(2), ("sft/stage2", "checkpoints/stage1"), everywhere=True),
  ]
  for name in config.evaluation.models:
    needs = () if name == "base" else (f"checkpoints/{name}",)
    steps.append(Stage(f"evaluate {name}", f"evaluation/{name}", model.evaluate(name), needs, everywhere=True))
  steps.append(Stage("export", "export/stage2", model.export("stage2"), ("checkpoints/stage2", "seeds")))
  return steps


def complete(stage: Stage, workdir: epath.Path, config: ConfigDict) -> bool:
  """Whether the stage's mark is there and was made from the inputs that are there now."""
  facts = files.completion(workdir / stage.folder)
  return facts is not None and facts["inputs"] == inputs_of(stage, workdir, config)


def inputs_of(stage: Stage, workdir: epath.Path, config: ConfigDict) -> dict[str, Any]:
  """Folder → output hash of the stage that made it (None while it is not complete); and what the stage `reads`."""
  marks = {folder: files.completion(workdir / folder) for folder in stage.needs}
  resolved = config_lib.as_json(config)
  read = {f"config.{group}": resolved[group] for group in stage.reads}
  return {folder: mark and mark["output"] for folder, mark in marks.items()} | read


def perform(selected: Sequence[Stage], config: ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Runs the selected stages that are not complete; returns the facts of each by name.

  Raises:
    UserError: a stage's inputs are not there, or its work failed for a reason the user can mend.
  """
  distributed.initialize()
  agreed = {"workdir": str(workdir), "config": config_lib.as_json(config), "stages": [stage.name for stage in selected]}
  distributed.require_agreement("the run", {**agreed, "code": distributed.code_version()})
  with opened(workdir, config) as run:
    return {stage.name: _perform(stage, selected[index:], run) for index, stage in enumerate(selected)}


@contextlib.contextmanager
def opened(workdir: epath.PathLike, config: ConfigDict) -> Iterator[Run]:
  """What the stages share, over a workdir that the writer has locked and all processes see.

  Raises:
    UserError: the folder cannot be written, is in use, or belongs to another config (the first key is named).
  """
  config_lib.check(config)
  mirror = Mirror(workdir, process=distributed.process_index())
  mirror.open(writer=distributed.is_writer())
  with contextlib.ExitStack() as stack:
    if distributed.is_writer():
      _make(mirror.local)
      stack.enter_context(files.lock(mirror.local / ".lock", f"the workdir {workdir}"))
      _claim(mirror.local, config)
      mirror.push_files("config.json", "config_hash")
    distributed.barrier("the workdir is open", seconds=FETCH)
    if not (mirror.durable / "config.json").exists():
      raise UserError(
        f"process {distributed.process_index()} does not see what process 0 has written here",
        where=workdir,
        remedy="give a --workdir that all hosts share: a bucket (gs://...) or a network file system",
      )
    yield stack.enter_context(Run(config, mirror))


def _make(workdir: epath.Path) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / ".writable").touch()
    (workdir / ".writable").unlink()
  except OSError as error:
    raise UserError(f"cannot write here ({error.strerror})", where=workdir, remedy="choose another --workdir") from None


def _claim(workdir: epath.Path, config: ConfigDict) -> None:
  """Leaves the resolved config in the workdir, or refuses one with which something there was not made."""
  path, resolved = workdir / "config.json", config_lib.as_json(config)
  if path.exists():
    old, new = (config_lib.binding(c) for c in (files.read_json(path), resolved))
    changed = [key for key in {**new, **old} if key not in old or key not in new or old[key] != new[key]]
    if not changed:
      return
    there = {entry.name for entry in workdir.iterdir()} - CHEAP
    for key in changed:
      was, now = (repr(flat[key]) if key in flat else "not there" for flat in (old, new))
      group = key.partition(".")[0]
      bound = [folder for folder in (MADE_WITH[group] if group in MADE_WITH else sorted(there)) if folder in there]
      if bound:
        raise UserError(
          f"what is in {' and '.join(bound)} was made with config.{key} = {was}, now it is {now}",
          where=workdir,
          remedy=f"use another --workdir, or the config of this one (its config.json), or move {bound[0]}/ away",
        )
      log(f"config.{key} was {was} here, now it is {now}: nothing was made with it yet")
  files.write_json(path, resolved)
  files.write_text(workdir / "config_hash", config_lib.config_hash(config) + "\n")


def _perform(stage: Stage, following: Sequence[Stage], run: Run) -> dict[str, Any]:
  """One stage: done here, done by the writer while this process waits, or found complete; returns its facts."""
  folder, writer = run.workdir / stage.folder, distributed.is_writer()
  if writer and any(later.asks and not complete(later, run.workdir, run.config) for later in following):
    run.begin_teacher()  # compiles while earlier stages work
  else:
    run.end_teacher()
  if distributed.gather(f"{stage.name} is complete", complete(stage, run.workdir, run.config), seconds=SHORT)[0]:
    log(f"{stage.name}: complete, skipped")
    return files.completion(folder)
  _require_inputs(stage, run.workdir)
  log(f"{stage.name} …" if writer or stage.everywhere else f"{stage.name}: done by process 0")
  start = time.perf_counter()
  with run.mirror.kept_up(stage.folder) if writer else contextlib.nullcontext():
    result = stage.function(run) if writer or stage.everywhere else {}
  if writer:
    result["seconds"] = round(time.perf_counter() - start, 3)
    files.mark_complete(folder, inputs=inputs_of(stage, run.workdir, run.config), **result)
    run.mirror.push(stage.folder)
    log(f"{stage.name}: done in {result['seconds']:.1f} s")
  distributed.barrier(f"{stage.name} is done", seconds=LONG)
  if not writer:
    run.mirror.pull(stage.folder)
  return files.completion(folder)


def _require_inputs(stage: Stage, workdir: epath.Path) -> None:
  for folder in stage.needs:
    if files.completion(workdir / folder) is None:
      raise UserError(
        f"{stage.name} needs {folder}, which is not complete",
        where=workdir,
        remedy="run the stage before it, or `skymath run`, with this --workdir",
      )


def run(config: ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """The whole recipe; leaves `summary.json` and `report.html` in the workdir and returns the summary.

  In a job of several processes only the writer has a summary; the others return an empty one.
  """
  facts = perform(recipe(config), config, workdir)
  if not distributed.is_writer():
    distributed.barrier("the summary is written", seconds=LONG)
    return {}
  mirror = Mirror(workdir)
  found = summary.summarize(config, mirror.local, facts)
  mirror.push_files("summary.json", "report.html")
  distributed.barrier("the summary is written", seconds=LONG)
  return found
