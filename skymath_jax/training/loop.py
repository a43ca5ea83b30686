"""The run: read, step, log, save. It can be killed at any time and goes on bit for bit from its last checkpoint."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx

from skymath_jax import distributed, prompts, sharding
from skymath_jax.console import Bar, bar, log
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, orbax_folder
from skymath_jax.tokenizer import Tokenizer
from skymath_jax.training import metrics, optimizer, step
from skymath_jax.training.checkpointing import STOPPED, Checkpointer, finished, stop_signal
from skymath_jax.training.examples import Examples, Source, hold_out, tokenize
from skymath_jax.training.held_out import HeldOut
from skymath_jax.training.packing import Packing, Steps, iterate

# What may change between the two halves of an interrupted run: it alters cadence or memory, not the arithmetic.
FREE_SETTINGS = {
  "checkpoint_every",
  "keep",
  "keep_best",
  "profile_step",
  "micro_batches",
  "packed",
  "loss_chunk",
  "stop_after_nonfinite",
  "max_untrained_share",
  "max_over_long_share",
}
FREE_MODEL = {"remat", "attention"}
PROFILED_STEPS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(optimizer.OptimizerSettings):
  """What one training stage does; the optimizer's part is inherited.

  `rows` of `max_length` tokens make an optimizer step, computed in `micro_batches` parts; `loss_chunk` is the number of
  tokens whose logits exist at one time; `held_out` examples are never trained on, and their loss is measured at every
  checkpoint; `profile_step` is the first of five steps that are profiled; `stop_after_nonfinite` steps in a row with a
  non-finite loss end the run, fewer are skipped.
  """

  template: str = "sft/alpaca"
  max_length: int = 2048
  rows: int = 8
  micro_batches: int = 1
  packed: bool = True
  epochs: int = 3
  loss_weighting: str = "token"
  loss_chunk: int = 2048
  checkpoint_every: int = 500
  keep: int = 2
  keep_best: bool = False
  held_out: int = 0
  profile_step: int = 0
  stop_after_nonfinite: int = 5
  max_untrained_share: float = 0.01
  max_over_long_share: float = 0.5


def train(
  decoder: Decoder,
  tokenizer: Tokenizer,
  source: Source,
  folder: epath.PathLike,
  settings: Settings,
  *,
  mesh: jax.sharding.Mesh | None = None,
  rng_seed: int = 0,
  provenance: dict[str, Any] | None = None,
  evaluate: Callable[[Decoder], dict[str, float]] | None = None,
) -> dict[str, Any]:
  """Trains `decoder` on `source`, or goes on with the run that `folder` holds, or returns at once if it is complete.

  Args:
    decoder: where training starts. Its arrays are donated; afterwards it holds those that the run arrived at.
    tokenizer: kept with the checkpoint.
    source: random access to {"query", "response"} rows, with a `fingerprint`.
    folder: `checkpoints/STAGE`; gets the checkpoint, `metrics.jsonl` and TensorBoard events.
    settings: what to do.
    mesh: devices to spread over; None = the first.
    rng_seed: of the data order.
    provenance: JSON object stored with the checkpoint.
    evaluate: called with the model after each checkpoint; its numbers go to TensorBoard.

  Returns:
    Facts of the run: steps, examples, over_long, untrained, tokens, loss_tokens, loss (mean of the last tenth), …

  Raises:
    UserError: bad data, a checkpoint of another run, or a loss that is not finite.
    SystemExit: 143 after SIGTERM, when the state is saved.
  """
  folder = epath.Path(folder)
  run = _identity(decoder, tokenizer, source, settings, rng_seed)
  if done := finished(folder, run):
    return done
  steps, held_out = _steps(source, tokenizer, settings, rng_seed)
  if distributed.is_writer():
    orbax_folder.describe(folder, decoder.config, tokenizer)
  distributed.barrier("the training folder is there", seconds=600)
  _warn(decoder, settings, mesh)
  place = jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext()
  best = settings.keep_best and held_out is not None
  with place, Checkpointer(folder, run=run, keep=settings.keep, keep_best=best) as saved, stop_signal() as stop:
    loop = _Loop(decoder, steps, settings, mesh)
    measure = loop.measure_of(held_out)
    try:
      loop.resume(saved)
      with metrics.Writer(folder, step=loop.done) as writer, bar("training", len(steps), done=loop.done) as progress:
        loop.log_to(writer, progress)
        for due in loop.run(stop.is_set, saved):
          facts = loop.save(saved, measure() | {"loss": writer.recent_loss(), "provenance": provenance or {}})
          if due == "stop" and loop.done < len(steps):
            saved.wait()
            log(f"stopped after step {loop.done} of {len(steps)}; the state is saved, run the same command to go on")
            raise SystemExit(STOPPED)
          writer.scalars(loop.done, evaluate(loop.model()) if evaluate else {})
    finally:
      nnx.update(decoder, loop.state.params)
  return facts


def _warn(decoder: Decoder, settings: Settings, mesh: jax.sharding.Mesh | None) -> None:
  """Says what is allowed but seldom meant."""
  if decoder.config.param_dtype != "float32":
    log(f"warning: weights and second moments are {decoder.config.param_dtype}, rounded by chance; float32 is the safe")
  if settings.keep_best and not settings.held_out:
    log("warning: training.keep_best does nothing while training.held_out is 0")
  rows, shards = settings.rows // settings.micro_batches, 1 if mesh is None else sharding.parts(mesh, "batch")
  if rows % shards:
    log(
      f"warning: a micro-batch of {rows} rows does not divide over {shards} devices, so each computes all of it; "
      f"make config.training.rows / micro_batches a multiple of {shards}, or raise config.mesh.tensor"
    )


def _identity(
  decoder: Decoder, tokenizer: Tokenizer, source: Source, settings: Settings, rng_seed: int
) -> dict[str, Any]:
  """What makes two runs the same run, as JSON; in the order in which differences are worth reporting."""
  model, chosen = dataclasses.asdict(decoder.config), dataclasses.asdict(settings)
  return {
    "data": source.fingerprint,
    "examples": len(source),
    "tokenizer": tokenizer.hash,
    "template": prompts.load(settings.template).hash,
    "rng_seed": rng_seed,
    "settings": {key: value for key, value in chosen.items() if key not in FREE_SETTINGS},
    "model": {key: value for key, value in model.items() if key not in FREE_MODEL},
    "initial_weights": orbax_folder.checksum(nnx.state(decoder, nnx.Param)),
  }


def _steps(source: Source, tokenizer: Tokenizer, settings: Settings, rng_seed: int) -> tuple[Steps, Examples | None]:
  """The training steps, and the examples held out of them."""
  examples = tokenize(
    source,
    tokenizer,
    template=settings.template,
    max_length=settings.max_length,
    loss_weighting=settings.loss_weighting,
    max_untrained_share=settings.max_untrained_share,
    max_over_long_share=settings.max_over_long_share,
  )
  held_out = None
  if settings.held_out:
    examples, held_out = hold_out(examples, settings.held_out, rng_seed)
  packing = Packing(
    max_length=settings.max_length,
    rows=settings.rows,
    epochs=settings.epochs,
    rng_seed=rng_seed,
    micro_batches=settings.micro_batches,
    packed=settings.packed,
  )
  return Steps(examples, packing), held_out


class _Loop:
  """The moving parts of one run: state, data iterator, and the metrics that the device still owes."""

  def __init__(self, decoder: Decoder, steps: Steps, settings: Settings, mesh: Any):
    self._steps, self._settings, self._config, self._mesh = steps, settings, decoder.config, mesh
    self._optimizer = optimizer.make(settings)
    rates = optimizer.learning_rate(settings, len(steps))(np.arange(len(steps)))
    self._rates = np.broadcast_to(np.asarray(rates, np.float32), len(steps))
    self._graph, self.state, places = step.placed(decoder, self._optimizer, mesh)
    self._train_step = step.train_step if mesh is None else step.sharded(places)
    self.data = iterate(steps)
    self._peak, self._nonfinite, self.done = metrics.peak_flops(), 0, 0

  def resume(self, saved: Checkpointer) -> None:
    """Goes to the newest good checkpoint, if there is one."""
    found = saved.restore(self.state)
    if found is not None:
      self.state, data_state, meta = found
      if meta["facts"]["steps"] != len(self._steps):
        raise UserError(
          f"the checkpoint's run has {meta['facts']['steps']} steps, the same data now make {len(self._steps)}",
          where="training",
          remedy="go on with the version of skymath_jax that started it, or train in another folder",
        )
      self.data.set_state(data_state)
      self.done = meta["step"]
      log(f"resuming after step {self.done} of {len(self._steps)}")

  def log_to(self, writer: metrics.Writer, progress: Bar) -> None:
    self._writer, self._progress = writer, progress
    self._profile = metrics.Profile(writer.folder, self._settings.profile_step, PROFILED_STEPS)

  def save(self, saved: Checkpointer, more: dict[str, Any]) -> dict[str, Any]:
    """Starts writing the state and returns the facts that go with it; it is never ahead of the rows on disk."""
    facts = self.facts() | more
    if "held_out_loss" in facts:
      self._writer.scalars(self.done, {"held_out_loss": facts["held_out_loss"]})
    self._writer.flush()
    saved.save(self.state, self.done, self.data.get_state(), facts)
    return facts

  def model(self) -> Decoder:
    return nnx.merge(self._graph, self.state.params)

  def measure_of(self, held_out: Examples | None) -> Callable[[], dict[str, float]]:
    """A function that gives the present loss on the held-out examples; nothing where there are none."""
    if held_out is None:
      return dict
    found = HeldOut(held_out, self._steps.packing, self._put)
    chunk = self._settings.loss_chunk
    return lambda: {"held_out_loss": found.loss(self.state.params, graph=self._graph, loss_chunk=chunk)}

  def run(self, stop: Callable[[], bool], saved: Checkpointer) -> Iterator[str]:
    """Steps to the end; yields "save" or "stop" when the state should be saved, with all metrics written.

    Raises:
      UserError: losses that are not finite, or a checkpoint that could not be written in the background.
    """
    owed, start, every = None, time.perf_counter(), self._settings.checkpoint_every
    for batch in itertools.islice(self.data, len(self._steps) - self.done):
      self._profile.before(self.done + 1)
      self.state, result = self._train_step(
        self.state,
        self._put(batch),
        self._rates[self.done],
        graph=self._graph,
        optimizer=self._optimizer,
        loss_chunk=self._settings.loss_chunk,
      )
      self.done += 1
      if owed is not None:  # one step late, so that the device never waits for the host
        start = self._report(*owed, start)
      owed = (self.done, result, batch)
      self._profile.after(self.done, result)
      saved.check()
      stopping = stop() or saved.preempted(self.done)
      if stopping or self.done % every == 0 or self.done == len(self._steps):
        self._report(*owed, start)
        owed = None
        yield "stop" if stopping else "save"
        start = time.perf_counter()

  def _put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    if self._mesh is None:
      return batch
    where = sharding.named(self._mesh, None, "batch", "length", shape=batch["tokens"].shape)
    return {k: jax.make_array_from_callback(v.shape, where, v.__getitem__) for k, v in batch.items()}

  def _report(self, number: int, result: step.Metrics, batch: dict[str, np.ndarray], start: float) -> float:
    loss, grad_norm, finite = (x.item() for x in jax.device_get(result))
    now = time.perf_counter()
    seconds = now - start
    tokens, loss_tokens = int((batch["segment_ids"] > 0).sum()), int((batch["loss_weights"] > 0).sum())
    flops = metrics.step_flops(self._config, tokens, loss_tokens, metrics.attention_pairs(batch["segment_ids"]))
    row = {
      "step": number,
      "loss": loss,
      "grad_norm": grad_norm,
      "learning_rate": self._rates[number - 1].item(),
      "tokens": tokens,
      "loss_tokens": loss_tokens,
      "seconds": round(seconds, 6),
      "mfu": flops / seconds / self._peak if self._peak else None,
    }
    self._stop_if_nonfinite(finite, row)
    self._writer.write(row)
    rates = {"tokens_per_second": tokens / seconds, "loss_tokens_per_second": loss_tokens / seconds}
    self._writer.scalars(number, rates | metrics.memory())
    mfu = f"  MFU {row['mfu']:.1%}" if row["mfu"] else ""
    self._progress.advance(
      1, f"loss {loss:.3f}  {tokens / seconds:,.0f} tokens/s ({loss_tokens / seconds:,.0f} trained){mfu}"
    )
    return now

  def _stop_if_nonfinite(self, finite: bool, row: dict[str, Any]) -> None:
    if finite:
      self._nonfinite = 0
      return
    self._nonfinite += 1
    log(f"step {row['step']}: the loss is {row['loss']}, the gradient norm {row['grad_norm']}; nothing was updated")
    if self._nonfinite >= self._settings.stop_after_nonfinite:
      raise UserError(
        f"step {row['step']}: {self._nonfinite} steps in a row had a loss or gradient that is not finite",
        where="training",
        remedy="lower the learning rate, or look at the rows of these steps",
      )

  def facts(self) -> dict[str, Any]:
    e, p = self._steps.examples, self._steps.packing
    return {
      "steps": len(self._steps),
      "examples": len(e),
      "over_long": e.over_long,
      "untrained": e.untrained,
      "tokens": len(e.tokens) * p.epochs,
      "loss_tokens": int((e.lengths - e.prompt_lengths).sum()) * p.epochs,
      "fill": round(self._steps.fill, 4),
    }
