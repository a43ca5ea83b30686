"""Stages `curate`: instances → validation, decontamination, de-duplication → SFT data sets; or files on their own."""

import functools
import os
from collections.abc import Sequence

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import curation, distributed, files, hub, sft
from skymath_jax.curation import publish
from skymath_jax.curation.workers import RUNNER_VARIABLE
from skymath_jax.errors import UserError
from skymath_jax.problems import catalog
from skymath_jax.recipe import seeds
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.records import Facts

READS = ("curation",)


def curate(run: Run, number: int) -> Facts:
  """Stage `number`'s instances → the SFT data set `sft/stageN`, with what was dropped and why.

  Raises:
    UserError: a test set is not at hand, or nothing was kept.
  """
  made, folder = run.workdir / "synthesis" / f"stage{number}", run.workdir / "sft" / f"stage{number}"
  output = curation.Output(
    name=f"{run.config.name} stage {number}",
    facts=_provenance(run, files.read_json(made / "summary.json")),
    tfds=True,
    parquet=run.config.curation.parquet,
    yardstick=seeds.problems_of(run),
  )
  summary = _curate(run, os.fspath(made / "instances.jsonl"), folder, output)
  if not summary["kept"]:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary["dropped"].items())
    what = f"curation kept none of {summary['in']:,} instances ({reasons})"
    remedy = "see dropped.jsonl; change config.curation and run the same command, or begin a workdir of more runs"
    raise UserError(what, where=folder, remedy=remedy)
  return {"output": sft.open(folder).fingerprint, "kept": summary["kept"]}


def _stage(number: int) -> Stage:
  needs = ("seeds", f"synthesis/stage{number}")
  work = functools.partial(curate, number=number)
  return Stage(f"curate stage {number}", f"sft/stage{number}", work, needs, READS, cheap=True)


STAGES = [_stage(1), _stage(2)]


def curate_files(run: Run) -> Facts:
  """`curate` on its own: the files of `curation.inputs` → `curation/kept.jsonl`, `dropped.jsonl`, `summary.json`.

  Raises:
    UserError: a file or a test set cannot be read.
  """
  config, facts = run.config, {}
  if distributed.is_writer():
    output = curation.Output(
      name=config.name, facts={"files": list(config.curation.inputs)}, parquet=config.curation.parquet
    )
    facts = _curate(run, config.curation.inputs, run.workdir / "curation", output)
    run.workdir.push("curation")
  return facts


def push(workdir: epath.PathLike, folder: str, repository: str, inputs: Sequence[str]) -> str:
  """Uploads what curation kept in `folder` of a workdir as a data set of the hub; returns its address.

  Raises:
    UserError: nothing was kept, or the hub does not take it.
  """
  if not distributed.is_writer():
    return ""
  with publish.laid_out(Workdir(workdir) / folder, repository, inputs=inputs) as made:
    return hub.push(made, repository, kind="dataset")


def _curate(run: Run, paths: str | Sequence[str], folder: epath.Path, output: curation.Output) -> Facts:
  config, runner = run.config, os.environ.get(RUNNER_VARIABLE, "local")
  if runner == "ray" and "://" in os.fspath(run.workdir.where):
    what, remedy = "a cluster does not see this machine's copy of it", "give a --workdir that all machines share"
    raise UserError(what, where=run.workdir.where, remedy=remedy)
  settings = curation.Settings.from_config(config.curation)
  return curation.curate_files(
    paths,
    folder,
    test_sets=seeds.test_sets(config),
    settings=settings,
    output=output,
    workers=config.curation.workers,
    runner=runner,
  )


def _provenance(run: Run, synthesis_summary: Facts) -> Facts:
  """What the card says of the origin: teacher, sampling, seeds with their licences and citations."""
  config, origin = run.config, files.read_json(run.workdir / seeds.FOLDER / "summary.json")
  licences = {p.source: p.license for p in seeds.problems_of(run)}
  s = config.synthesis
  return {
    "teacher": synthesis_summary["teacher"],
    "sampling": f"temperature {s.temperature}, top_p {s.top_p}, at most {s.max_tokens} tokens",
    "seed problems": [
      f"{source}: {count:,} problems, licence {licences[source] or 'not stated'}{catalog.citation(source)}"
      for source, count in origin["sources"].items()
    ],
    "config": config_lib.config_hash(config),
  }
