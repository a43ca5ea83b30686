"""The verbs that do a part of the recipe, or all of it: flags, and the call into the pipeline."""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import WORKDIR, Flag, parse
from skymath_jax.console import console, log
from skymath_jax.errors import UsageError, UserError
from skymath_jax.mirror import Mirror


def run(argv: Sequence[str]) -> int:
  """`skymath run`: the whole recipe, then the table."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax.recipe import pipeline
  from skymath_jax.report import table

  summary = pipeline.run(values.config, values.workdir)
  if not summary:  # another process of this job has it
    return 0
  console.print(table.summary_table(summary))
  log(f"report: {epath.Path(values.workdir) / 'report.html'}")
  return 0


def _stages(argv: Sequence[str], folders: tuple[str, ...]) -> int:
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax.recipe import pipeline

  stages = [stage for stage in pipeline.recipe(values.config) if stage.folder in folders]
  pipeline.perform(stages, values.config, values.workdir)
  return 0


def seeds(argv: Sequence[str]) -> int:
  """`skymath seeds`."""
  return _stages(argv, ("seeds",))


def synthesize(argv: Sequence[str]) -> int:
  """`skymath synthesize`: both synthesis stages; `--dry-run` only counts."""
  argv = [argument.replace("--dry-run", "--dry_run") for argument in argv]
  dry = Flag("dry_run", False, "print requests, tokens and money per pass and method, asking nothing")
  values = parse(argv, WORKDIR, dry, config="required")
  from skymath_jax.recipe import context, data, pipeline

  if values.dry_run:
    pipeline.perform(pipeline.recipe(values.config)[:1], values.config, values.workdir)
    run = context.Run(values.config, Mirror(values.workdir))
    plan = data.synthesis_plan(run)
    print(json.dumps(plan, indent=2))
    if plan["total"]["cost"] is None:
      log("no cost: set config.teacher.price_in and config.teacher.price_out, money for a million tokens")
    return 0
  return _stages([a for a in argv if "dry_run" not in a], ("seeds", "synthesis/stage1", "synthesis/stage2"))


def curate(argv: Sequence[str]) -> int:
  """`skymath curate`: what synthesis left in the workdir, or the files of `curation.inputs`."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax.recipe import pipeline

  if values.config.curation.inputs:
    from skymath_jax.recipe import data

    with pipeline.opened(values.workdir, values.config) as run:
      facts = data.curate_files(run)
    print(json.dumps(facts, indent=2))
    return 0
  return _stages(argv, ("sft/stage1", "sft/stage2"))


def train(argv: Sequence[str]) -> int:
  """`skymath train`: the SFT stages of the recipe, or one stage over `training.data`."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax.recipe import pipeline

  if values.config.training.data:
    from skymath_jax.recipe import model

    stage = pipeline.Stage("train", "checkpoints/stage1", model.train(1), everywhere=True)
    pipeline.perform([stage], values.config, values.workdir)
    return 0
  return _stages(argv, ("checkpoints/stage1", "checkpoints/stage2"))


def evaluate(argv: Sequence[str]) -> int:
  """`skymath evaluate`: the models of a run, or `--model` on `--benchmark`; `--compare` two evaluations."""
  model = Flag("model", None, "HF folder, checkpoint folder or asset:NAME to evaluate on its own")
  benchmark = Flag("benchmark", None, "catalog name, math500 or JSONL file; @distractors1 to 5 after it weaves them in")
  pair = Flag("compare", None, "FOLDER,FOLDER of two evaluations of the same problems, to compare one by one")
  if any(argument.startswith("--compare") for argument in argv):
    workdir = dataclasses.replace(WORKDIR, required=False)
    return _compare(parse(argv, workdir, pair, config="optional").compare)  # only `pair` counts here
  values = parse(argv, WORKDIR, model, benchmark, pair, config="optional")
  if values.model is None:
    if values.config is None:
      raise UsageError("give --config (the models of a run) or --model and --benchmark. See skymath evaluate --help.")
    return _stages(argv, tuple(f"evaluation/{name}" for name in values.config.evaluation.models))
  if values.benchmark is None:
    raise UsageError("--benchmark is missing: a catalog name such as micro_gsm:test, or a JSONL file.")
  from skymath_jax import evaluation
  from skymath_jax.recipe import model as model_stages

  config = values.config if values.config is not None else config_lib.base()
  folder = epath.Path(values.workdir) / "evaluation" / evaluation.folder_name(values.benchmark)
  summary = model_stages.evaluate_model(config, folder, values.model, (values.benchmark,))
  print(json.dumps(summary, indent=2))
  return 0


def _compare(folders: str) -> int:
  if folders.count(",") != 1:
    raise UsageError("--compare wants two folders with a comma between them. See skymath evaluate --help.")
  from skymath_jax import evaluation

  print(json.dumps(evaluation.compare(*folders.split(",")), indent=2))
  return 0


def study(argv: Sequence[str]) -> int:
  """`skymath study`: the data once, then every cell of the grid, then fits, plots and the report."""
  values = parse(argv, WORKDIR, config="required")
  if importlib.util.find_spec("matplotlib") is None:  # before hours of work, not after them
    raise UserError("the figures need matplotlib", where="study", remedy='install it with: pip install -e ".[study]"')
  if "://" in values.workdir:
    raise UserError(
      "a study wants a local folder", where=values.workdir, remedy="copy its study/ to a bucket afterwards"
    )
  from skymath_jax import study
  from skymath_jax.recipe import pipeline

  study.cells_of(values.config)  # refuses what is no study before the teacher is asked
  data = [stage for stage in pipeline.recipe(values.config) if stage.folder.startswith(("seeds", "synthesis", "sft"))]
  pipeline.perform(data, values.config, values.workdir)
  print(json.dumps(study.run(values.config, values.workdir)["headline"], indent=2))
  log(f"report: {Path(values.workdir) / 'study' / 'report.html'}")
  return 0
