"""The run, read from top to bottom: prepare, then step, log, save, evaluate.

It can be killed at any time and goes on bit for bit from its last checkpoint.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import grain
import jax
from etils import epath
from flax import nnx

from skymath_jax import distributed, sharding
from skymath_jax.chat import frames
from skymath_jax.config import Stage, Training
from skymath_jax.console import bar, log
from skymath_jax.errors import UserError
from skymath_jax.keys import bound_fields
from skymath_jax.models import Decoder, lora, orbax_folder
from skymath_jax.tokenizer import Tokenizer
from skymath_jax.training import held_out, metrics, optimizer, step
from skymath_jax.training.checkpointing import STOPPED, Checkpointer, finished, stop_signal
from skymath_jax.training.examples import hold_out, require_vocabulary, select
from skymath_jax.training.packing import Packing, Steps, iterate
from skymath_jax.training.tokens import Source, Tokens, make

FREE_MODEL = {"remat", "attention"}  # as `config.Free`: a run may go on with other values
PROFILED_STEPS = 5


def train(
  decoder: Decoder,
  tokenizer: Tokenizer,
  source: Source,
  folder: epath.PathLike,
  settings: Training,
  stage: Stage,
  *,
  mesh: jax.sharding.Mesh | None = None,
  rng_seed: int = 0,
  provenance: dict[str, Any] | None = None,
  adapter: dict[str, Any] | None = None,
  evaluate: Callable[[Decoder], dict[str, float]] | None = None,
  tokens: Tokens | None = None,
) -> dict[str, Any]:
  """Trains `decoder` on `source`, or goes on with the run that `folder` holds, or returns at once if it is complete.

  Args:
    decoder: where training starts; adapters, if it has them, are all that is trained. Its arrays are donated;
      afterwards it holds those that the run arrived at.
    tokenizer: kept with the checkpoint.
    source: random access to {"query", "response"} rows, with a `fingerprint`.
    folder: `checkpoints/STAGE`; gets the checkpoint, `metrics.jsonl` and TensorBoard events.
    settings: the config's section.
    stage: what differs in this stage.
    mesh: devices to spread over; None = the first.
    rng_seed: of the data order.
    provenance: JSON object stored with the checkpoint.
    adapter: JSON object that says what the adapters of `decoder` adapt.
    evaluate: called with the model after each checkpoint; its numbers go to TensorBoard.
    tokens: of `source`, where they are made already.

  Returns:
    Facts of the run: steps, examples, over_long, untrained, tokens, loss_tokens, loss (mean of the last tenth), …

  Raises:
    UserError: bad data, a checkpoint of another run, or a loss that is not finite.
    SystemExit: 143 after SIGTERM, when the state is saved.
  """
  folder = epath.Path(folder)
  run = _identity(decoder, tokenizer, source, settings, stage, rng_seed)
  if done := finished(folder, run):
    if distributed.is_writer():  # one of its files may have been removed
      orbax_folder.describe(folder, decoder.config, tokenizer, adapter)
    return done
  tokens = tokens or make(source, tokenizer, settings.template)
  steps, held_out_steps = _steps(tokens, tokenizer, settings, stage, rng_seed, vocabulary=decoder.config.vocab_size)
  if distributed.is_writer():
    orbax_folder.describe(folder, decoder.config, tokenizer, adapter)
  distributed.barrier("the training folder is there", seconds=600)
  _warn(decoder, settings, mesh)
  best = settings.keep_best and held_out_steps is not None
  facts = {**steps.facts(), "provenance": provenance or {}}
  on_mesh = jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext()
  with on_mesh, Checkpointer(folder, run=run, keep=settings.keep, keep_best=best) as checkpoints:
    return _loop(decoder, steps, held_out_steps, settings, stage, mesh, checkpoints, facts, evaluate)


def _loop(
  decoder: Decoder,
  steps: Steps,
  held_out_steps: Steps | None,
  settings: Training,
  stage: Stage,
  mesh: jax.sharding.Mesh | None,
  checkpoints: Checkpointer,
  facts: dict[str, Any],
  evaluate: Callable[[Decoder], dict[str, float]] | None,
) -> dict[str, Any]:
  """Goes on from the newest checkpoint, or begins, and ends with the last step; returns `facts` and the losses."""
  chain, rates = optimizer.make(settings), optimizer.learning_rates(settings, stage.learning_rate, len(steps))
  graph, state, places = step.placed(decoder, chain, mesh)
  compiled = step.train_step if mesh is None else step.sharded(places)
  train_step = functools.partial(compiled, graph=graph, optimizer=chain, loss_chunk=settings.loss_chunk)
  mean_loss = functools.partial(held_out.mean_loss, graph=graph, loss_chunk=settings.loss_chunk)
  put, data = functools.partial(step.to_devices, mesh=mesh), iterate(steps)
  try:
    state, done = _resume(checkpoints, state, data, len(steps))
    with (
      stop_signal() as stop,
      metrics.Writer(checkpoints.folder, step=done) as writer,
      metrics.Profile(writer.folder, settings.profile_step, PROFILED_STEPS) as profile,
      bar("training", len(steps), done=done) as progress,
    ):
      report = metrics.StepReport(writer, progress, decoder.config, adapted=lora.is_adapted(decoder))
      for number, batch in enumerate(data, start=done + 1):
        profile.before(number)
        state, result = train_step(state, put(batch), rates[number - 1])
        report.add(number, rates[number - 1], result, batch)
        profile.after(number, result)
        checkpoints.check()
        stopping = stop.is_set() or checkpoints.preempted(number)
        if not stopping and number % settings.checkpoint_every and number < len(steps):
          continue
        report.flush()
        if held_out_steps is not None:
          facts = facts | {"held_out_loss": mean_loss(state, held_out_steps, put)}
          writer.scalars(number, {"held_out_loss": facts["held_out_loss"]})
        facts = facts | {"loss": writer.recent_loss()}
        writer.flush()  # the state is never ahead of the rows on disk
        checkpoints.save(state, number, data.get_state(), facts)
        if stopping and number < len(steps):
          checkpoints.wait()
          log(f"stopped after step {number} of {len(steps)}; the state is saved, run the same command to go on")
          raise SystemExit(STOPPED)
        if evaluate is not None:
          writer.scalars(number, evaluate(nnx.merge(graph, state.params, state.frozen)))
        report.restart_clock()
  finally:
    nnx.update(decoder, state.params, state.frozen)
  return facts


def _resume(
  checkpoints: Checkpointer, state: step.TrainState, data: grain.DatasetIterator[Any], steps: int
) -> tuple[step.TrainState, int]:
  """The state of the newest good checkpoint and its step, with `data` set to go on from there; else as it was, and 0.

  Raises:
    UserError: the same data made another number of steps when the run began.
  """
  found = checkpoints.restore(state)
  if found is None:
    return state, 0
  state, data_state, meta = found
  if meta["facts"]["steps"] != steps:
    raise UserError(
      f"the checkpoint's run has {meta['facts']['steps']} steps, the same data now make {steps}",
      where="training",
      remedy="go on with the version of skymath_jax that started it, or train in another folder",
    )
  data.set_state(data_state)
  log(f"resuming after step {meta['step']} of {steps}")
  return state, meta["step"]


def _warn(decoder: Decoder, settings: Training, mesh: jax.sharding.Mesh | None) -> None:
  """Says what is allowed but seldom meant."""
  if decoder.config.param_dtype != "float32" and not lora.is_adapted(decoder):
    log(f"warning: weights and second moments are {decoder.config.param_dtype}; float32 is the safe choice")
  if settings.keep_best and not settings.held_out:
    log("warning: training.keep_best does nothing while training.held_out is 0")
  if settings.max_length > (positions := decoder.config.max_positions):
    log(
      f"warning: training.max_length is {settings.max_length:,}, the model was made for {positions:,} positions "
      "(max_position_embeddings): later ones are new to it"
    )
  rows, shards = settings.rows // settings.micro_batches, 1 if mesh is None else sharding.parts(mesh, "batch")
  if rows % shards:
    log(
      f"warning: a micro-batch of {rows} rows does not divide over {shards} devices, so each computes all of it; "
      f"make config.training.rows / micro_batches a multiple of {shards}, or raise config.mesh.tensor"
    )


def _identity(
  decoder: Decoder, tokenizer: Tokenizer, source: Source, settings: Training, stage: Stage, rng_seed: int
) -> dict[str, Any]:
  """What makes two runs the same run, as JSON; in the order in which differences are worth reporting."""
  model = json.loads(json.dumps(dataclasses.asdict(decoder.config)))  # tuples are lists when they are read back
  return {
    "data": source.fingerprint,
    "tokenizer": tokenizer.hash,
    "template": frames.load(settings.template, tokenizer).hash,
    "rng_seed": rng_seed,
    "settings": bound_fields(settings) | bound_fields(stage),
    "model": {key: value for key, value in model.items() if key not in FREE_MODEL},
    "initial_weights": orbax_folder.checksum(nnx.state(decoder, nnx.Param)),
  }


def _steps(
  tokens: Tokens, tokenizer: Tokenizer, settings: Training, stage: Stage, rng_seed: int, *, vocabulary: int
) -> tuple[Steps, Steps | None]:
  """The training steps, and those over the examples that are held out of them, each of one micro-batch.

  Raises:
    UserError: bad data, or settings that do not suit them.
  """
  examples = select(tokens, max_length=settings.max_length, loss_weighting=settings.loss_weighting)
  require_vocabulary(examples, vocabulary, tokenizer)
  packing = Packing(
    max_length=settings.max_length,
    rows=settings.rows,
    epochs=stage.epochs,
    rng_seed=rng_seed,
    micro_batches=settings.micro_batches,
    packed=settings.packed,
  )
  if not settings.held_out:
    return Steps(examples, packing), None
  examples, held = hold_out(examples, settings.held_out, rng_seed)
  one_pass = Packing(
    max_length=packing.max_length, rows=packing.rows // packing.micro_batches, epochs=1, rng_seed=rng_seed
  )
  return Steps(examples, packing), Steps(held, one_pass)
