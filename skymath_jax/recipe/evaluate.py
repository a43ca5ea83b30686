"""Stages `evaluate`: what the base, stage-1 and stage-2 model score on the benchmarks; or any model on its own."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from etils import epath

from skymath_jax import chat, distributed, evaluation, files, models, records
from skymath_jax import config as config_lib
from skymath_jax.chat import thoughts
from skymath_jax.config import Experiment
from skymath_jax.engine import plan
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.errors import UserError
from skymath_jax.evaluation import template as template_lib
from skymath_jax.generation import Sampling
from skymath_jax.models import training_prompt
from skymath_jax.models.training_prompt import TrainingPrompt
from skymath_jax.problems import catalog, suites
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
  benchmarks = list(_benchmarks(run.config, folder, benchmarks_of(run.config)))
  ask = _evaluator(run.config, model_path(run, name), {name: problems for name, problems, _ in benchmarks})
  for benchmark, problems, target in benchmarks:
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
    found = [records.read_lines(path) for path in files.matching(folder, f"processes/*/{evaluation.PREDICTIONS}")]
    rows = {(row["id"], row["sample"]): row for lines in found for _, row in lines}
    records.write_lines(folder / evaluation.PREDICTIONS, rows.values())


def evaluate_model(
  config: Experiment, folder: epath.PathLike, path: epath.PathLike, benchmarks: Sequence[str]
) -> dict[str, Facts]:
  """Evaluates the model at `path`; the first benchmark's files go to `folder`, further ones to `folder/NAME`.

  Raises:
    UserError: no such model, or a benchmark that is not at hand.
  """
  found = list(_benchmarks(config, str(folder), benchmarks))
  ask = _evaluator(config, path, {name: problems for name, problems, _ in found})
  return {name: ask(problems, epath.Path(target), name=name) for name, problems, target in found}


def evaluate_apart(config: Experiment, root: epath.Path, path: epath.PathLike) -> dict[str, Facts]:
  """Evaluates the model at `path` on the benchmarks of the config, the files of each in `root/NAME`.

  Raises:
    UserError: no such model, or benchmarks that are not at hand.
  """
  found = at_hand(config, benchmarks_of(config))
  ask = _evaluator(config, path, found)
  return {name: ask(problems, root / evaluation.folder_name(name), name=name) for name, problems in found.items()}


def benchmarks_of(config: Experiment) -> tuple[str, ...]:
  """The benchmarks of the config, those of its suites among them."""
  return suites.expanded(config.evaluation.benchmarks)


def at_hand(config: Experiment, names: Sequence[str]) -> dict[str, Sequence[Problem]]:
  """The problems of each benchmark, as many as the config allows; all are looked for before any model is asked.

  Raises:
    UserError: some cannot be had; all of them are named.
  """
  found: dict[str, Sequence[Problem]] = {}
  missing: dict[str, UserError] = {}
  for name in names:
    try:
      found[name] = problems_of(config, name)[: config.evaluation.limit or None]
    except UserError as error:
      missing[name] = error
  if len(missing) == 1:
    raise next(iter(missing.values()))
  if missing:
    what = f"{len(missing)} of {len(names)} benchmarks are not at hand ({', '.join(missing)})"
    remedy = f"put their files there or name others; of the first: {next(iter(missing.values()))}"
    raise UserError(what, where="config.evaluation.benchmarks", remedy=remedy)
  return found


def _benchmarks(config: Experiment, folder: str, names: Sequence[str]) -> Iterator[tuple[str, Sequence[Problem], str]]:
  """(name, problems, folder) of each benchmark."""
  for index, (name, problems) in enumerate(at_hand(config, names).items()):
    yield name, problems, folder if index == 0 else f"{folder}/{evaluation.folder_name(name)}"


def _evaluator(
  config: Experiment, path: epath.PathLike, asked: Mapping[str, Sequence[Problem]]
) -> Callable[..., Facts]:
  """`evaluation.evaluate` of the model at `path`, with room for these benchmarks.

  One that we trained is asked as it was trained, others as `evaluation.template` says.
  """
  trained, tokenizer = training_prompt.read(models.resolve(path)), models.tokenizer_of(path)
  text = template_of(config, trained)
  identity = chat_identity(text, tokenizer)
  encode = chat.question_encoder(tokenizer, "template" if identity else "raw")
  known = {} if trained is None else {"template_hash": trained.hash}
  options = {name: options_of(config, text, identity, name, known=known) for name in asked}
  prompts = (options[name]["template"].render(p.question) for name, problems in asked.items() for p in problems)
  decoder, tokenizer, serving = plan.load(
    path,
    EngineSettings(**dataclasses.asdict(config.serving)),
    dtype=config.model.dtype,
    requests=config.evaluation.samples * max(map(len, asked.values()), default=0),
    tokens=config.evaluation.max_tokens + max((len(encode(prompt)) for prompt in prompts), default=0),
  )
  generator = LocalGenerator(decoder, tokenizer, models.model_id(path), serving, encode=encode)

  def ask(problems: Sequence[Problem], folder: epath.PathLike, *, name: str) -> Facts:
    return evaluation.evaluate(generator, problems, folder, name=name, **options[name])

  return ask


def template_of(config: Experiment, trained: TrainingPrompt | None) -> str:
  """How a model is asked: as it was trained, whatever the config says; others as `evaluation.template` says."""
  if trained is None and config.evaluation.template:
    return config.evaluation.template
  training = config.training.template if trained is None else trained.template
  training = training.removesuffix(thoughts.SUFFIX)  # a prompt is the same with or without them
  if training == template_lib.CHAT or training.endswith(".jinja"):
    return f"{template_lib.CHAT}:raw"  # a model that we train has the template, and the query is the message
  return training


def chat_identity(text: str, tokenizer: Tokenizer) -> str:
  """The hash of the tokenizer's chat template, where `text` asks for it; else nothing.

  Raises:
    UserError: there is none.
  """
  if not template_lib.is_chat(text):
    return ""
  if tokenizer.chat_template is None:
    remedy = "name a frame, such as raw or sft/alpaca"
    raise UserError("the model's tokenizer has no chat template", where="config.evaluation.template", remedy=remedy)
  return template_lib.chat_hash(tokenizer.chat_template)


def options_of(config: Experiment, text: str, identity: str, name: str, *, known: Facts) -> Facts:
  """The options of `evaluation.evaluate` for one benchmark.

  Args:
    config: says how to sample and grade.
    text: the template by name.
    identity: of the chat template.
    name: of the benchmark.
    known: of the model's training.

  Raises:
    UserError: there is no such frame.
  """
  settings = config.evaluation
  frame = template_lib.MARKED if settings.mode == "strict" else suites.frame_of(name)
  sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens, seed=config.rng_seed)
  return {
    "template": template_lib.template(text, chat=identity, frame=frame),
    "mode": settings.mode,
    "sampling": sampling,
    "samples": settings.samples,
    "provenance": {"config_hash": config_lib.config_hash(config), **known},
  }


def problems_of(config: Experiment, name: str) -> list[Problem]:
  """The problems of one benchmark (see `evaluation.benchmarks`).

  Raises:
    UserError: no such benchmark, or its files are not at hand.
  """
  load = functools.partial(catalog.load, data_dir=config.seeds.data_dir)
  return evaluation.load_benchmark(name, load, rng_seed=config.rng_seed)
