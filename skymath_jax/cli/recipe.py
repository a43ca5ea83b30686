"""The verbs that do a part of the recipe, or all of it: flags, and the call of the stages."""

import dataclasses
import json
import os
from collections.abc import Sequence

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax.cli import shipped
from skymath_jax.cli.flags import PUSH, WORKDIR, Flag, for_keys, parse, require_repository
from skymath_jax.console import console, log
from skymath_jax.errors import UsageError

FINE_TUNING = shipped.folder("configs") / "finetune.py"


def needs_recipe(argv: Sequence[str], key: str) -> bool:
  """Whether `key` is given and no config, so that the recipe for fine-tuning is taken."""
  given = [word.partition("=")[0] for word in argv]
  return f"--config.{key}" in given and "--config" not in given and not {"--help", "-h"} & set(given)


def run(argv: Sequence[str]) -> int:
  """`skymath run`: what it will take, the whole recipe, then the table."""
  dry = Flag("dry_run", False, "only read the seeds, and say what the run will take: time, memory, disk")
  values = parse(argv, WORKDIR, dry, config="required")
  from skymath_jax.recipe import stages
  from skymath_jax.report import table

  summary = stages.run_recipe(values.config, values.workdir, dry=values.dry_run)
  if not summary:  # a dry run, or another process of this job has it
    return 0
  console.print(table.summary_table(summary))
  log(f"report: {epath.Path(values.workdir) / 'report.html'}")
  return 0


def verify(argv: Sequence[str]) -> int:
  """`skymath verify`: 1 where something is damaged. The workdir may be named without a flag."""
  words = [f"--workdir={word}" if index == 1 and not word.startswith("-") else word for index, word in enumerate(argv)]
  values = parse(words, WORKDIR)
  from skymath_jax.recipe import verify as verify_lib

  bad = 0
  for folder, wrong in verify_lib.verify(values.workdir):
    print(wrong or f"{folder}: whole")
    bad += bool(wrong)
  return min(bad, 1)


def seeds(argv: Sequence[str]) -> int:
  """`skymath seeds`."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax.recipe import seeds, stages

  stages.perform([seeds.STAGE], values.config, values.workdir)
  return 0


def synthesize(argv: Sequence[str]) -> int:
  """`skymath synthesize`: both synthesis stages; `--dry-run` only counts."""
  dry = Flag("dry_run", False, "print requests, tokens and money per pass and method, asking nothing")
  values = parse(argv, WORKDIR, dry, config="required")
  from skymath_jax.recipe import seeds, stages, synthesize

  if not values.dry_run:
    stages.perform([seeds.STAGE, *synthesize.stages(values.config)], values.config, values.workdir)
    return 0
  stages.perform([seeds.STAGE], values.config, values.workdir)
  with stages.opened(values.config, values.workdir) as run:
    plan = synthesize.plan(run)
  print(json.dumps(plan, indent=2))
  if plan["total"]["cost"] is None:
    log("no cost: set config.teacher.prices, money for a million tokens of prompts and of responses")
  return 0


def curate(argv: Sequence[str]) -> int:
  """`skymath curate`: what synthesis left in the workdir, or the files of `--data`."""
  data = Flag("data", None, "files, folders, hub ids or presets to curate on their own, with commas between them")
  runner = Flag("runner", "", "local | ray: processes of this machine, or of the Ray cluster of RAY_ADDRESS")
  argv = for_keys(argv, {data: "curation.inputs"})
  words = [*argv, f"--config={FINE_TUNING}"] if needs_recipe(argv, "curation.inputs") else argv
  values = parse(words, WORKDIR, PUSH, runner, config="required", also=(data,))
  require_repository(values.push)
  from skymath_jax.curation.workers import RUNNER_VARIABLE
  from skymath_jax.recipe import curate, stages, synthesize

  if values.runner:
    os.environ[RUNNER_VARIABLE] = values.runner
  config = values.config
  if not config.curation.inputs:
    chosen = curate.STAGES[: synthesize.how_many(config)]
    stages.perform(chosen, config, values.workdir)
    pushed = {f"{values.push}-{epath.Path(stage.folder).name}": stage.folder for stage in chosen if values.push}
  else:
    with stages.opened(config, values.workdir) as run:
      print(json.dumps(curate.curate_files(run), indent=2))
    pushed = {values.push: "curation"} if values.push else {}
  for repository, folder in pushed.items():
    log(f"{folder}: {curate.push(values.workdir, folder, repository, config.curation.inputs)}")
  return 0


def train(argv: Sequence[str]) -> int:
  """`skymath train`: the SFT stages of the recipe, or one stage over `--data`, whose recipe may be left to us.

  Raises:
    UsageError: neither a config nor data and a model.
  """
  data = Flag("data", None, "pairs: FILE, FOLDER:split, hub id or preset; several by weight: a.jsonl:2,b.parquet:1")
  model = Flag("model", None, "the model to begin with: HF folder, hub id, checkpoint folder or asset:NAME")
  argv = for_keys(argv, {data: "training.data", model: "model.path"})
  from skymath_jax.recipe import stages, synthesize, train

  words = argv
  if needs_recipe(argv, "training.data"):
    given = [word.removeprefix("--config.model.path=") for word in argv if word.startswith("--config.model.path=")]
    if not given:
      raise UsageError("--model is missing: a Hugging Face folder or hub id to begin with, or --config=FILE.")
    words = [*argv, f"--config={FINE_TUNING}:{train.machine()}"]
    if not any(word.startswith("--config.training.template=") for word in argv):
      words.append(f"--config.training.template={train.template_for(given[-1])}")
  values = parse(words, WORKDIR, config="required", also=(data, model))
  chosen = [train.ON_DATA] if values.config.training.data else train.STAGES[: synthesize.how_many(values.config)]
  stages.perform(chosen, values.config, values.workdir)
  return 0


def evaluate(argv: Sequence[str]) -> int:
  """`skymath evaluate`: the models of a run, or `--model` on `--benchmarks`; `--compare` two evaluations.

  Raises:
    UsageError: it is not said what to evaluate, or on what.
  """
  model = Flag("model", None, "HF folder, checkpoint folder or asset:NAME, or what the endpoint calls its model")
  endpoint = Flag("endpoint", None, "base URL of an OpenAI-compatible server, up to and including /v1")
  benchmarks = Flag(
    "benchmarks", None, "catalog names, math500, files, suites (paper, outside, competition); commas between"
  )
  pair = Flag("compare", None, "FOLDER,FOLDER of two evaluations of the same problems, to compare one by one")
  argv = [argument.replace("--benchmark=", "--benchmarks=") for argument in argv]
  if any(argument.startswith("--compare") for argument in argv):
    workdir = dataclasses.replace(WORKDIR, required=False)
    return _compare(parse(argv, workdir, pair, config="optional").compare)  # only `pair` counts here
  if _given("endpoint", argv) and not _given("config", argv):
    argv = [*argv, "--config=endpoint"]
  values = parse(argv, WORKDIR, model, endpoint, benchmarks, pair, config="optional")
  from skymath_jax.recipe import evaluate, stages

  if values.model is None:
    if not _given("config", argv) or values.endpoint is not None:
      raise UsageError("give --config (the models of a run) or --model and --benchmarks. See skymath evaluate --help.")
    stages.perform(evaluate.stages(values.config), values.config, values.workdir)
    return 0
  if values.benchmarks is None and not _given("config", argv):
    raise UsageError("--benchmarks is missing: a catalog name such as micro_gsm:test, a suite, or a JSONL file.")
  config = values.config if values.config is not None else config_lib.Experiment()
  if values.benchmarks is not None:
    names = tuple(filter(None, values.benchmarks.split(",")))
    config = config_lib.changed(config, {"evaluation.benchmarks": names})
  from skymath_jax.recipe import endpoint as endpoints
  from skymath_jax.recipe.workdir import Workdir

  with Workdir(values.workdir).owned():
    if values.endpoint is None:
      summaries = evaluate.evaluate_apart(config, epath.Path(values.workdir) / "evaluation", values.model)
    else:
      summaries = endpoints.evaluate_endpoint(config, epath.Path(values.workdir), values.endpoint, values.model)
  print(json.dumps(summaries, indent=2))
  return 0


def _given(name: str, argv: Sequence[str]) -> bool:
  return any(word.partition("=")[0] in (f"--{name}", f"-{name}") for word in argv)


def _compare(folders: str) -> int:
  if folders.count(",") != 1:
    raise UsageError("--compare wants two folders with a comma between them. See skymath evaluate --help.")
  from skymath_jax import evaluation

  print(json.dumps(evaluation.compare(*folders.split(",")), indent=2))
  return 0
