"""Stages `evaluate`: what the base, stage-1 and stage-2 model score on the benchmarks; or any model on its own."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from skymath_jax import chat, distributed, evaluation, files, models, records
from skymath_jax import config as config_lib
from skymath_jax.config import Experiment
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.errors import UserError
from skymath_jax.evaluation import lm_eval
from skymath_jax.evaluation import template as template_lib
from skymath_jax.evaluation.template import Template
from skymath_jax.generation import Generator, Sampling
from skymath_jax.models import orbax_folder
from skymath_jax.problems import catalog
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.records import Facts, Problem
from skymath_jax.tokenizer import Tokenizer

READS = ("rng_seed", "model", "training", "evaluation")
ANSWER_SECONDS = 7 * 86400.0  # how long the fastest process of an evaluation waits for the slowest


def stages(config: Experiment) -> list[Stage]:
  """One stage for each model of `evaluation.models`."""

  def stage(name: str) -> Stage:
    needs = () if name == "base" else (f"checkpoints/{name}",)
    work = functools.partial(evaluate, name=name)
    return Stage(f"evaluate {name}", f"evaluation/{name}", work, needs, READS, everywhere=True)

  return [stage(name) for name in config.evaluation.models]


def evaluate(run: Run, name: str) -> Facts:
  """Zero-shot evaluation of the run's model `name` on every benchmark of the config; the first is the headline.

  In a job of several processes each asks for its share of the problems, on its own devices; one grades them all.

  Raises:
    UserError: no such model, or a benchmark that is not at hand.
  """
  folder, summaries = f"evaluation/{name}", []
  ask = _evaluator(run.config, model_path(run, name))
  for benchmark, problems, target in _benchmarks(run.config, folder, run.config.evaluation.benchmarks):
    if distributed.process_count() > 1:
      _ask_shares(run, ask, benchmark, problems, target)
    if distributed.is_writer():
      summaries.append(ask(problems, run.workdir / target, name=benchmark))
  if not distributed.is_writer():
    return {}
  return {"output": files.fingerprint(run.workdir / folder), "accuracy": summaries[0]["accuracy"]["all"]}


def model_path(run: Run, name: str) -> epath.PathLike:
  """Where the run's `base`, `stage1` or `stage2` model lies."""
  return run.config.model.path if name == "base" else run.workdir.checkpoints / name


def _ask_shares(run: Run, ask: Callable[..., Facts], name: str, problems: Sequence[Problem], target: str) -> None:
  """All answers of all processes into the predictions of `target`, where the evaluation of all problems finds them."""
  index, count = distributed.process_index(), distributed.process_count()
  mine = f"{target}/processes/{index}-of-{count}"
  if share := problems[index::count]:
    ask(share, run.workdir / mine, name=name)
  run.workdir.push(mine)
  distributed.barrier(f"{target}: {name} is answered", seconds=ANSWER_SECONDS)
  if distributed.is_writer():
    run.workdir.pull(target)
    folder = run.workdir / target
    found = [records.read_lines(path) for path in sorted(folder.glob(f"processes/*/{evaluation.PREDICTIONS}"))]
    rows = {(row["id"], row["sample"]): row for lines in found for _, row in lines}
    records.write_lines(folder / evaluation.PREDICTIONS, rows.values())


def evaluate_model(
  config: Experiment, folder: epath.PathLike, path: epath.PathLike, benchmarks: Sequence[str]
) -> dict[str, Facts]:
  """Evaluates the model at `path`; the first benchmark's files go to `folder`, further ones to `folder/NAME`.

  Raises:
    UserError: no such model, or a benchmark that is not at hand.
  """
  ask = _evaluator(config, path)
  return {
    name: ask(problems, epath.Path(target), name=name)
    for name, problems, target in _benchmarks(config, str(folder), benchmarks)
  }


def _benchmarks(config: Experiment, folder: str, names: Sequence[str]) -> Iterator[tuple[str, Sequence[Problem], str]]:
  """(name, problems, folder) of each benchmark."""
  for index, name in enumerate(names):
    problems, limit = problems_of(config, name), config.evaluation.limit
    target = folder if index == 0 else f"{folder}/{evaluation.folder_name(name)}"
    yield name, problems[:limit] if limit else problems, target


def _evaluator(config: Experiment, path: epath.PathLike) -> Callable[..., Facts]:
  """`evaluation.evaluate` of the model at `path`, on this process's first device."""
  trained = trained_with(path)
  decoder, tokenizer = models.load_any(path, dtype=config.model.dtype)
  serving = EngineSettings(**dataclasses.asdict(config.serving))
  how = template_of(config, tokenizer, trained=bool(trained))
  encode = chat.question_encoder(tokenizer, "template" if how.chat else "raw")
  generator = LocalGenerator(decoder, tokenizer, models.model_id(path), serving, encode=encode)
  return _asker(config, generator, how, trained)


def template_of(config: Experiment, tokenizer: Tokenizer, *, trained: bool) -> Template:
  """How a model with this tokenizer is asked: one that we trained as it was trained, others by `evaluation.template`.

  Raises:
    UserError: there is no such frame, or no chat template.
  """
  text = config.training.template if trained else config.evaluation.template or config.training.template
  if not template_lib.is_chat(text):
    return template_lib.template(text)
  if tokenizer.chat_template is None:
    remedy = "name a frame, such as raw or sft/alpaca"
    raise UserError("the model's tokenizer has no chat template", where="config.evaluation.template", remedy=remedy)
  return template_lib.template(text, chat=template_lib.chat_hash(tokenizer.chat_template), frame=_frame(config))


def _frame(config: Experiment) -> str:
  """The frame of `chat` alone."""
  return template_lib.MARKED if config.evaluation.mode == "strict" else template_lib.BOXED


def _asker(config: Experiment, generator: Generator, how: Template, known: Facts) -> Callable[..., Facts]:
  """`evaluation.evaluate` with the settings of the config; `known` adds to the provenance."""
  settings = config.evaluation
  return functools.partial(
    evaluation.evaluate,
    generator,
    template=how,
    mode=settings.mode,
    sampling=Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens, seed=config.rng_seed),
    samples=settings.samples,
    provenance={"config_hash": config_lib.config_hash(config), **known},
  )


def problems_of(config: Experiment, name: str) -> list[Problem]:
  """The problems of one benchmark (see `evaluation.benchmarks`).

  Raises:
    UserError: no such benchmark, or its files are not at hand.
  """
  load = functools.partial(catalog.load, data_dir=config.seeds.data_dir)
  return evaluation.load_benchmark(name, load, rng_seed=config.rng_seed)


def trained_with(path: epath.PathLike) -> Facts:
  """`template_hash` of the prompt that the model at `path` was trained with, where that is known.

  Raises:
    UserError: there is no model.
  """
  folder = models.resolve(path)
  exported = folder / lm_eval.FOLDER / lm_eval.PROMPT
  if exported.exists():
    return {"template_hash": files.read_json(exported)["hash"]}
  steps = orbax_folder.committed(folder)
  run = orbax_folder.read_meta(folder, steps[0])["run"] if steps else {}  # empty where a model was imported
  return {"template_hash": run["template"]} if run else {}
