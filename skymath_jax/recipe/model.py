"""Training, evaluation and export: everything that holds a model."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

import skymath_jax
from skymath_jax import config as config_lib
from skymath_jax import (
  distributed,
  evaluation,
  files,
  models,
  prompts,
  records,
  sft,
  sharding,
  training,
)
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.convert import tools
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.evaluation import lm_eval
from skymath_jax.generation import Sampling
from skymath_jax.models import orbax_folder
from skymath_jax.problems import catalog
from skymath_jax.recipe.context import Run
from skymath_jax.records import Facts, Problem
from skymath_jax.sft import texts

ANSWER_SECONDS = 7 * 86400.0  # how long the fastest process of an evaluation waits for the slowest


def training_settings(config: ConfigDict, number: int) -> training.Settings:
  """What SFT stage `number` of the recipe does."""
  t, stage = config.training, config.training[f"stage{number}"]
  same = {field.name for field in dataclasses.fields(training.Settings)} & set(t.keys())
  return training.Settings(
    **{key: t[key] for key in sorted(same)}, learning_rate=stage.learning_rate, epochs=stage.epochs
  )


def step_of(config: ConfigDict, number: int) -> tuple[models.DecoderConfig, training.Settings]:
  """What the compiled step of a stage depends on, without weights or data."""
  m = config.model
  shape = models.config_of(m.path) if m.path else _scratch_config(config, m.scratch.vocab_size)
  changes = {"dtype": m.dtype, "param_dtype": m.param_dtype, "remat": m.remat, "scan_layers": m.scan_layers}
  return dataclasses.replace(shape, **changes), training_settings(config, number)


def train(number: int) -> Callable[[Run], Facts]:
  """SFT stage `number`: from the base model, or (stage 2) from the stage-1 model with a fresh optimizer."""

  def stage(run: Run) -> Facts:
    config, folder = run.config, run.checkpoints / f"stage{number}"
    source = _training_source(run, number)
    mesh = sharding.make_mesh(**config.mesh.to_dict()) if jax.device_count() > 1 else None
    decoder, tokenizer = _start_model(run, number, source, mesh)
    facts = training.train(
      decoder,
      tokenizer,
      source,
      folder,
      training_settings(config, number),
      mesh=mesh,
      rng_seed=config.rng_seed + number,
      provenance={"config_hash": config_lib.config_hash(config), "skymath_jax": skymath_jax.__version__},
    )
    return {"output": models.weights_hash(folder), **facts}

  return stage


def _training_source(run: Run, number: int) -> Any:
  t = run.config.training
  if not t.data:
    return sft.open(run.workdir / "sft" / f"stage{number}")
  return texts.generate(t.data, t.examples, rng_seed=run.config.rng_seed)


def _start_model(run: Run, number: int, source: Any, mesh: Any) -> tuple[models.Decoder, Any]:
  config = run.config.model
  if number == 2:
    decoder, tokenizer = models.load_any(run.checkpoints / "stage1", mesh=mesh, dtype=config.param_dtype)
  elif config.path:
    decoder, tokenizer = models.load_any(config.path, mesh=mesh, dtype=config.param_dtype)
  else:
    decoder, tokenizer = _from_scratch(run, source)
  return as_trained(decoder, config), tokenizer


def as_trained(decoder: models.Decoder, config: ConfigDict) -> models.Decoder:
  """The decoder with the compute dtype, rematerialisation and layer layout of the group `config.model`."""
  decoder = decoder.replace(dtype=config.dtype, remat=config.remat)
  return decoder if config.scan_layers else decoder.unstacked()


def _from_scratch(run: Run, source: Any) -> tuple[models.Decoder, Any]:
  """A new decoder, and a vocabulary made from the training text with the prompts' fixed lines as single tokens."""
  scratch, folder = run.config.model.scratch, run.workdir / "tokenizer"
  if scratch.tokenizer:
    folder = models.resolve(scratch.tokenizer)
  elif not folder.exists() and distributed.is_writer():
    with files.new_folder(folder) as temporary:
      tokenizer_lib.train_sentencepiece(
        (source[i]["query"] + source[i]["response"] for i in range(min(len(source), 20_000))),
        temporary,
        vocab_size=scratch.vocab_size,
        fixed=_fixed_pieces(),
      )
    run.mirror.push("tokenizer")
  distributed.barrier("the tokenizer is there", seconds=3600)
  run.mirror.pull("tokenizer")
  tokenizer = tokenizer_lib.load(folder)
  decoder_config = _scratch_config(run.config, tokenizer.vocab_size)
  return models.Decoder(decoder_config, rngs=nnx.Rngs(run.config.rng_seed)), tokenizer


def _scratch_config(config: ConfigDict, vocab_size: int) -> models.DecoderConfig:
  scratch = config.model.scratch
  return models.DecoderConfig(
    vocab_size=vocab_size,
    embed=scratch.embed,
    layers=scratch.layers,
    heads=scratch.heads,
    kv_heads=scratch.kv_heads,
    head_dim=scratch.embed // scratch.heads,
    mlp=scratch.mlp,
    max_positions=config.training.max_length,
    param_dtype=config.model.param_dtype,
  )


def _fixed_pieces() -> list[str]:
  """What is one token each: the fixed text of every prompt, and a blank with a digit (numbers stay digit by digit)."""
  literals = dict.fromkeys(piece for name in prompts.names() for piece in prompts.load(name).literals)
  return [piece for piece in literals if len(piece.split()) > 1 or "\n" in piece] + [f" {digit}" for digit in range(10)]


def model_path(run: Run, name: str) -> Any:
  """Where the run's `base`, `stage1` or `stage2` model lies."""
  return run.config.model.path if name == "base" else run.checkpoints / name


def evaluate(name: str) -> Callable[[Run], Facts]:
  """Zero-shot evaluation of the run's model `name` on every benchmark of the config; the first is the headline.

  In a job of several processes each asks for its share of the problems, on its own devices; one grades them all.
  """

  def stage(run: Run) -> Facts:
    folder, summaries = run.workdir / "evaluation" / name, []
    ask = _evaluator(run.config, model_path(run, name))
    for benchmark, problems, target in _benchmarks(run.config, folder, run.config.evaluation.benchmarks):
      if distributed.process_count() > 1:
        _ask_shares(run, ask, benchmark, problems, target)
      if distributed.is_writer():
        summaries.append(ask(problems, target, name=benchmark))
    if not distributed.is_writer():
      return {}
    return {"output": files.fingerprint(folder), "accuracy": summaries[0]["accuracy"]["all"]}

  return stage


def _ask_shares(
  run: Run, ask: Callable[..., Facts], name: str, problems: Sequence[Problem], target: epath.Path
) -> None:
  """All answers of all processes into the predictions of `target`, where the evaluation of all problems finds them."""
  index, count = distributed.process_index(), distributed.process_count()
  mine = target / "processes" / f"{index}-of-{count}"
  if share := problems[index::count]:
    ask(share, mine, name=name)
  run.mirror.push(os.path.relpath(mine, run.workdir))
  distributed.barrier(f"{target.name}: {name} is answered", seconds=ANSWER_SECONDS)
  if distributed.is_writer():
    run.mirror.pull(os.path.relpath(target, run.workdir))
    found = [records.read_lines(path) for path in sorted(target.glob(f"processes/*/{evaluation.PREDICTIONS}"))]
    records.write_lines(
      target / evaluation.PREDICTIONS, {(row["id"], row["sample"]): row for rows in found for _, row in rows}.values()
    )


def evaluate_model(config: Any, folder: Any, path: Any, benchmarks: tuple[str, ...]) -> dict[str, Facts]:
  """Evaluates the model at `path`; the first benchmark's files go to `folder`, further ones to `folder/NAME`."""
  ask = _evaluator(config, path)
  return {name: ask(problems, target, name=name) for name, problems, target in _benchmarks(config, folder, benchmarks)}


def _benchmarks(
  config: Any, folder: Any, names: tuple[str, ...]
) -> Iterator[tuple[str, Sequence[Problem], epath.Path]]:
  """(name, problems, folder) of each benchmark."""
  for index, name in enumerate(names):
    problems, limit = problems_of(config, name), config.evaluation.limit
    target = epath.Path(folder) if index == 0 else epath.Path(folder) / evaluation.folder_name(name)
    yield name, problems[:limit] if limit else problems, target


def _evaluator(config: Any, path: Any) -> Callable[..., Facts]:
  """`evaluation.evaluate` of the model at `path`, on this process's first device."""
  settings = config.evaluation
  decoder, tokenizer = models.load_any(path, dtype=config.model.dtype)
  generator = LocalGenerator(
    decoder,
    tokenizer,
    models.model_id(path),
    slots=settings.slots,
    max_length=settings.max_length,
    steps_per_call=settings.steps_per_call,
  )
  return functools.partial(
    evaluation.evaluate,
    generator,
    template=config.training.template,
    mode=settings.mode,
    sampling=Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens, seed=config.rng_seed),
    samples=settings.samples,
    provenance={"config_hash": config_lib.config_hash(config), **trained_with(path)},
  )


def problems_of(config: ConfigDict, name: str) -> list[Problem]:
  """The problems of one benchmark (see `evaluation.benchmarks`)."""
  load = functools.partial(catalog.load, data_dir=config.seeds.data_dir)
  return evaluation.load_benchmark(name, load, rng_seed=config.rng_seed)


def trained_with(path: Any) -> Facts:
  """`template_hash` of the prompt that the model at `path` was trained with, where that is known."""
  folder = models.resolve(path)
  exported = folder / lm_eval.FOLDER / lm_eval.PROMPT
  if exported.exists():
    return {"template_hash": files.read_json(exported)["hash"]}
  for step in orbax_folder.committed(folder):
    run = orbax_folder.read_meta(folder, step)["run"]  # empty where a model was imported, not trained
    return {"template_hash": run["template"]} if run else {}
  return {}


def export(name: str) -> Callable[[Run], Facts]:
  """The run's model `name` as a Hugging Face folder, read back and compared before it counts as done."""

  def stage(run: Run) -> Facts:
    config, folder = run.config.export, run.workdir / "export" / name
    frame = prompts.load(run.config.training.template)
    problems = records.read(Problem, run.workdir / "seeds" / "problems.jsonl")[: config.prompts]
    facts = tools.export_checkpoint(
      model_path(run, name),
      folder,
      dtype=config.dtype,
      prompts=[frame.render(query=problem.question) for problem in problems],
      new_tokens=32,
      tolerance=config.tolerance,
    )
    tasks = {task: problems_of(run.config, task) for task in run.config.evaluation.benchmarks}
    lm_eval.write(folder, tasks, frame, max_tokens=run.config.evaluation.max_tokens)
    return {"output": models.weights_hash(folder), **facts}

  return stage
