"""One function per verb: its flags and the call. Each takes the command line from the verb on, returns an exit code."""

import ast
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from skymath_jax import config as config_lib
from skymath_jax.console import console, log
from skymath_jax.errors import UsageError, UserError


@dataclasses.dataclass(frozen=True)
class Flag:
  """One command-line flag; `default=None` with `required` means it must be given."""

  name: str
  default: str | int | float | bool | None
  help: str
  required: bool = False


WORKDIR = Flag("workdir", None, "folder of the run: everything it makes, and what it resumes from", required=True)


def parse(argv: Sequence[str], *wanted: Flag, config: str | None = None) -> flags.FlagValues:
  """Parses `argv[1:]`; `config` is None (the verb takes none), "required" or "optional".

  Raises:
    UsageError: an unknown or malformed flag, or a required one that is missing.
    UserError: the config file is missing or broken, or an override names an unknown key.
  """
  values = flags.FlagValues()
  define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_boolean}
  for flag in wanted:
    define.get(type(flag.default), flags.DEFINE_string)(flag.name, flag.default, flag.help, flag_values=values)
  if config:
    _refuse_bad_config(argv)
    config_flags.DEFINE_config_file("config", None, "experiment file", flag_values=values)
  if "--help" in argv or "-h" in argv:
    _print_help(argv[0], wanted, config)
    raise SystemExit(0)
  given, sys.argv = sys.argv, list(argv)  # config_flags looks there for the overrides
  try:
    rest = values(list(argv))
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    _explain_override(argv)
    raise UsageError(f"{_one_line(error)} See skymath {argv[0]} --help.") from None
  finally:
    sys.argv = given
  if len(rest) > 1:
    raise UsageError(f"did not expect {rest[1]!r}; flags are written --name=value. See skymath {argv[0]} --help.")
  missing = [f.name for f in wanted if f.required and getattr(values, f.name) is None]
  missing += ["config"] if config == "required" and values.config is None else []
  if missing:
    raise UsageError(f"--{missing[0]} is missing. See skymath {argv[0]} --help.")
  if config and values.config is not None:
    config_lib.check(values.config)
  return values


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()).rstrip(".") + "."


def _print_help(verb: str, wanted: Sequence[Flag], config: str | None) -> None:
  print(f"usage: skymath {verb} [flags]\n")
  if config:
    print(f"  --config=FILE            experiment file ({config})")
    print("  --config.KEY=VALUE       changes a key; skymath config lists them")
  for flag in wanted:
    note = "required" if flag.required else f"default {flag.default!r}"
    print(f"  {'--' + flag.name + '=':<25}{flag.help} ({note})")
  print(f"  {'--debug':<25}show the traceback of a failure")


def _refuse_bad_config(argv: Sequence[str]) -> None:
  """Says what is wrong with the file before absl wraps it into something longer."""
  for argument in argv:
    if argument.startswith("--config="):
      path = Path(argument.removeprefix("--config="))
      if not path.is_file():
        raise UserError("no such config file", where=path, remedy="see the folder configs/")
      try:
        spec = importlib.util.spec_from_file_location("skymath_experiment", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config_lib.check(module.get_config())
      except (AttributeError, KeyError, TypeError, SyntaxError, ImportError) as error:
        what = f"not a usable experiment file ({_one_line(error)})"
        raise UserError(what, where=path, remedy="see the folder configs/") from None


def _explain_override(argv: Sequence[str]) -> None:
  """Raises `UserError` for the first `--config.KEY=VALUE` whose key does not exist or whose value has another type."""
  defaults = config_lib.flatten(config_lib.base())
  for argument in argv:
    key, _, value = argument.removeprefix("--config.").partition("=")
    if not argument.startswith("--config."):
      continue
    if key not in defaults:
      remedy = f"did you mean config.{config_lib.nearest(key)}? `skymath config` lists all"
      raise UserError("no such key", where=f"config.{key}", remedy=remedy)
    wanted = type(defaults[key])
    try:
      right = ast.literal_eval(value) if wanted in (int, float, bool, tuple) else value
    except (ValueError, SyntaxError):
      right = None
    if not isinstance(right, (int, float) if wanted is float else wanted):
      raise UserError(
        f"{value!r} is not of type {wanted.__name__}", where=f"config.{key}", remedy=f"e.g. {defaults[key]!r}"
      )


def run(argv: Sequence[str]) -> int:
  """`skymath run`: the whole recipe, then the table."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax import pipeline
  from skymath_jax.report import table

  summary = pipeline.run(values.config, values.workdir)
  console.print(table.summary_table(summary))
  log(f"report: {Path(values.workdir) / 'report.html'}")
  return 0


def _stages(argv: Sequence[str], folders: tuple[str, ...]) -> int:
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax import pipeline

  stages = [stage for stage in pipeline.recipe(values.config) if stage.folder in folders]
  pipeline.perform(stages, values.config, values.workdir)
  return 0


def seeds(argv: Sequence[str]) -> int:
  """`skymath seeds`."""
  return _stages(argv, ("seeds",))


def synthesize(argv: Sequence[str]) -> int:
  """`skymath synthesize`: both synthesis stages; `--dry_run` only counts."""
  dry = Flag("dry_run", False, "print the number of requests per method and stop")
  values = parse(argv, WORKDIR, dry, config="required")
  from skymath_jax import pipeline
  from skymath_jax.stages import context, data

  if values.dry_run:
    pipeline.perform(pipeline.recipe(values.config)[:1], values.config, values.workdir)
    run = context.Run(values.config, pipeline.open_workdir(values.workdir, values.config))
    print(json.dumps(data.synthesis_plan(run), indent=2))
    return 0
  return _stages([a for a in argv if "dry_run" not in a], ("seeds", "synthesis/stage1", "synthesis/stage2"))


def curate(argv: Sequence[str]) -> int:
  """`skymath curate`: what synthesis left in the workdir, or the files of `curation.inputs`."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax import pipeline

  if values.config.curation.inputs:
    from skymath_jax.stages import data

    workdir = pipeline.open_workdir(values.workdir, values.config)
    print(json.dumps(data.curate_files(values.config, workdir), indent=2))
    return 0
  return _stages(argv, ("sft/stage1", "sft/stage2"))


def train(argv: Sequence[str]) -> int:
  """`skymath train`: the SFT stages of the recipe, or one stage over `training.data`."""
  values = parse(argv, WORKDIR, config="required")
  from skymath_jax import pipeline

  if values.config.training.data:
    from skymath_jax.stages import model

    stage = pipeline.Stage("train", "checkpoints/stage1", model.train(1))
    pipeline.perform([stage], values.config, values.workdir)
    return 0
  return _stages(argv, ("checkpoints/stage1", "checkpoints/stage2"))


def evaluate(argv: Sequence[str]) -> int:
  """`skymath evaluate`: the models of a run, or `--model` on `--benchmark`."""
  model = Flag("model", None, "HF folder, checkpoint folder or asset:NAME to evaluate on its own")
  benchmark = Flag("benchmark", None, "catalog name (such as micro_gsm:test) or JSONL file")
  values = parse(argv, WORKDIR, model, benchmark, config="optional")
  if values.model is None:
    if values.config is None:
      raise UsageError("give --config (the models of a run) or --model and --benchmark. See skymath evaluate --help.")
    return _stages(argv, tuple(f"evaluation/{name}" for name in values.config.evaluation.models))
  if values.benchmark is None:
    raise UsageError("--benchmark is missing: a catalog name such as micro_gsm:test, or a JSONL file.")
  from skymath_jax.stages import model as model_stages

  config = values.config if values.config is not None else config_lib.base()
  folder = epath.Path(values.workdir) / "evaluation" / Path(values.benchmark).stem.replace(":", "_")
  summary = model_stages.evaluate_model(config, folder, values.model, (values.benchmark,))
  print(json.dumps(summary, indent=2))
  return 0


def export(argv: Sequence[str]) -> int:
  """`skymath export`."""
  checkpoint = Flag("checkpoint", None, "checkpoint folder, such as WORKDIR/checkpoints/stage2", required=True)
  out = Flag("out", None, "Hugging Face folder to write", required=True)
  dtype = Flag("dtype", "bfloat16", "float32 | bfloat16")
  values = parse(argv, checkpoint, out, dtype)
  if values.dtype not in config_lib.CHOICES["export.dtype"]:
    raise UsageError(f"--dtype={values.dtype} is not known; use float32 or bfloat16.")
  from skymath_jax.stages import tools

  print(json.dumps(tools.export_checkpoint(values.checkpoint, values.out, dtype=values.dtype), indent=2))
  return 0


def import_(argv: Sequence[str]) -> int:
  """`skymath import`."""
  hf = Flag("hf", None, "Hugging Face folder (safetensors)")
  out = Flag("out", None, "checkpoint folder to write")
  families = Flag("list", False, "list the model families that can be imported and exported")
  values = parse(argv, hf, out, families)
  from skymath_jax.stages import tools

  if values.list:
    print("\n".join(tools.families()))
    return 0
  if values.hf is None or values.out is None:
    raise UsageError("give --hf=FOLDER and --out=FOLDER. See skymath import --help.")
  print(json.dumps(tools.import_folder(values.hf, values.out), indent=2))
  return 0


def serve(argv: Sequence[str]) -> int:
  """`skymath serve`."""
  wanted = (
    Flag("model", None, "HF folder, checkpoint folder or asset:NAME", required=True),
    Flag("host", "127.0.0.1", "address to listen on"),
    Flag("port", 9000, "gRPC port; 0 = any free one"),
    Flag("http_port", 0, "port of the HTTP front (OpenAI-compatible, /health, /metrics); 0 = any free one"),
    Flag("slots", 64, "sequences decoded at once"),
    Flag("max_length", 2048, "prompt + response tokens a slot can hold"),
    Flag("steps_per_call", 8, "decode steps per host call"),
    Flag("queue_size", 4096, "requests that may wait; more are refused with RESOURCE_EXHAUSTED"),
    Flag("dtype", "", "float32 | bfloat16; empty = as stored"),
    Flag("exit_with_parent", False, "stop when standard input closes"),
  )
  values = parse(argv, *wanted)
  from skymath_jax.stages import tools

  tools.serve(**{flag.name: getattr(values, flag.name) for flag in wanted})
  return 0


def grade(argv: Sequence[str]) -> int:
  """`skymath grade`."""
  wanted = (
    Flag("input", None, 'JSONL of {"gold", "pred"} or {"gold", "response"} rows', required=True),
    Flag("output", None, 'JSONL to write: the same rows with "extracted" and "correct"', required=True),
    Flag("mode", "symbolic", "strict (the paper's string grader) | symbolic"),
  )
  values = parse(argv, *wanted)
  if values.mode not in config_lib.CHOICES["evaluation.mode"]:
    raise UsageError(f"--mode={values.mode} is not known; use strict or symbolic.")
  from skymath_jax import grading

  print(json.dumps(grading.grade_file(values.input, values.output, mode=values.mode), indent=2))
  return 0


def config(argv: Sequence[str]) -> int:
  """`skymath config`: every key, its value (in `--config=FILE`, else the default) and its meaning."""
  values = parse(argv, config="optional")
  experiment: ConfigDict = values.config if values.config is not None else config_lib.base()
  documentation = config_lib.documentation()
  for key, value in config_lib.flatten(experiment).items():
    print(f"config.{key} = {value!r}  # {documentation[key]}")
  print(f"# config_hash {config_lib.config_hash(experiment)}")
  return 0
