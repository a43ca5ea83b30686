"""What a run leaves behind about itself: `metrics.jsonl` (one row a step), TensorBoard events, and MFU."""

import hashlib
import importlib.util
import json
import math
import os
import time
from collections.abc import Mapping
from typing import IO, Any

import jax
import numpy as np
from etils import epath

from skymath_jax import distributed, files, hardware, mirror, records
from skymath_jax.console import Bar, log
from skymath_jax.errors import UserError
from skymath_jax.models.config import DecoderConfig
from skymath_jax.training.board import Board
from skymath_jax.training.step import Metrics

FLUSH_SECONDS = 2
STOP_AFTER_NONFINITE = 5  # steps in a row without a finite loss; fewer are skipped and reported


def peak_flops() -> float | None:
  """Of all devices together; None where the device is not in the table (a CPU)."""
  peak = hardware.peak_flops(jax.devices()[0].device_kind)
  return peak and peak * jax.device_count()


def step_flops(
  config: DecoderConfig, tokens: int, loss_tokens: int, attention_pairs: int, *, adapted: bool = False
) -> float:
  """Useful FLOPs of forward and backward; remat and padding are not useful, nor is the head on untrained tokens.

  Args:
    config: sizes.
    tokens: real tokens of the step.
    loss_tokens: tokens whose logits are needed.
    attention_pairs: Σ length² over segments; a causal query sees half of them.
    adapted: whether adapters are trained, and the weights have no gradient.
  """
  head = config.vocab_size * config.embed
  body = config.matmul_parameters - head
  attention = config.layers * config.heads * config.head_dim * attention_pairs
  return (4.0 if adapted else 6.0) * (body * tokens + head * loss_tokens) + 6.0 * attention


def attention_pairs(segment_ids: np.ndarray) -> int:
  """Σ length² over the segments of `[... length]`: what causal attention really costs, for MFU."""
  rows = segment_ids.reshape(-1, segment_ids.shape[-1])
  total = 0
  for row in rows:
    total += int(np.square(np.bincount(row)[1:].astype(np.int64)).sum())
  return total


def memory() -> dict[str, float]:
  """{"memory_gib": the most that the first device has held}; empty where the platform does not say (a CPU)."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return {"memory_gib": stats["peak_bytes_in_use"] / 2**30} if "peak_bytes_in_use" in stats else {}


class Profile:
  """A window of `count` steps from step `first` on, traced into `folder/profile` for TensorBoard or Perfetto."""

  def __init__(self, folder: epath.PathLike, first: int, count: int):
    self._folder = epath.Path(folder) / "profile"
    self._first = first
    self._last = first + count - 1
    self._running = False

  def __enter__(self) -> "Profile":
    return self

  def __exit__(self, *_: object) -> None:
    self._stop()

  def before(self, step: int) -> None:
    """To be called before step `step` is dispatched."""
    if step == self._first:
      options = jax.profiler.ProfileOptions()
      # The steps are XLA's; hooks in every Python thread have ended a process (SIGSEGV).
      options.python_tracer_level = 0
      jax.profiler.start_trace(str(self._folder), profiler_options=options)
      self._running = True

  def after(self, step: int, result: Any) -> None:
    """To be called with what step `step` computes: the trace ends when it is there."""
    if self._running and step == self._last:
      jax.block_until_ready(result)
      self._stop()

  def _stop(self) -> None:
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
      log(f"profile of steps {self._first} to {self._last} at the latest: {self._folder}")


class Writer:
  """Appends rows to `metrics.jsonl` and TensorBoard; rows after `step` of an earlier attempt are taken out first.

  With several processes only the first writes. Where `wandb` is installed and WANDB_PROJECT is set, the numbers go
  there, too.
  """

  def __init__(self, folder: epath.PathLike, *, step: int):
    self._durable = epath.Path(folder)
    self.folder = mirror.scratch(folder, distributed.process_index())  # buckets know no appending
    path = self.folder / "metrics.jsonl"
    rows = [row for row in _whole_rows(path) if row["step"] <= step]
    self._losses = [row["loss"] for row in rows]
    self._file: IO[str] | None = None
    self._board: Board | None = None
    self._wandb: Any = None
    if distributed.is_writer():
      records.write_lines(path, rows)
      self._file = path.open("a")
      self._board = Board(self.folder, purge_step=step + 1 if step else None)
      self._wandb = _wandb(self.folder)
    self._flushed = time.monotonic()

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *_: object) -> None:
    if self._file is not None:
      self._file.close()
    if self._board is not None:
      self._board.close()
    if self._wandb is not None:
      self._wandb.finish()

  def write(self, row: dict[str, Any]) -> None:
    """One step; on disk within a few seconds. A number that is not finite becomes null."""
    row = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
    self._losses.append(row["loss"])
    if self._file is not None:
      self._file.write(json.dumps(row) + "\n")
      self.scalars(row["step"], {key: value for key, value in row.items() if key != "step" and value is not None})
      if time.monotonic() - self._flushed > FLUSH_SECONDS:
        self._to_disk()

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Further numbers, such as an evaluation's, to TensorBoard."""
    if self._board is not None:
      for key, value in values.items():
        self._board.add_scalar(key, value, step)
    if self._wandb is not None:
      self._wandb.log(dict(values), step=step)

  def flush(self) -> None:
    """Everything so far to disk; of a folder in a bucket, the rows to there."""
    self._to_disk()
    if self._file is not None and self.folder != self._durable:
      files.copy(self.folder / "metrics.jsonl", self._durable / "metrics.jsonl")

  def _to_disk(self) -> None:
    if self._file is not None:
      self._file.flush()
    if self._board is not None:
      self._board.flush()
    self._flushed = time.monotonic()

  def recent_loss(self) -> float:
    """Mean loss over the last tenth of the steps, earlier attempts included; NaN if none was finite."""
    recent = [loss for loss in self._losses[-max(1, len(self._losses) // 10) :] if loss is not None]
    return sum(recent) / len(recent) if recent else math.nan


def _wandb(folder: epath.Path) -> Any:
  """A Weights & Biases run that a resumed training goes on with, or None: the user installs and asks for it."""
  if "WANDB_PROJECT" not in os.environ or importlib.util.find_spec("wandb") is None:
    return None
  import wandb  # an optional extra

  return wandb.init(dir=str(folder), id=hashlib.sha256(str(folder).encode()).hexdigest()[:16], resume="allow")


def _whole_rows(path: epath.Path) -> list[dict[str, Any]]:
  """The rows of a file that may not exist, and whose last line a kill may have cut."""
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith("\n")]


class StepReport:
  """Writes each step's row one step late, so that the device never waits for the host.

  Args:
    writer: gets the rows.
    progress: gets the loss and the rates.
    config: of the decoder, for MFU.
    adapted: whether its adapters are trained, and not its weights.
  """

  def __init__(self, writer: Writer, progress: Bar, config: DecoderConfig, *, adapted: bool = False):
    self._writer = writer
    self._progress = progress
    self._config = config
    self._adapted = adapted
    self._nonfinite = 0
    self._peak = peak_flops()
    self._owed: tuple[int, np.float32, Metrics, Mapping[str, np.ndarray]] | None = None
    self.restart_clock()

  def restart_clock(self) -> None:
    """The next step's seconds count from now: what came between, such as a save, is not its own."""
    self._start = time.perf_counter()

  def add(self, number: int, rate: np.float32, result: Metrics, batch: Mapping[str, np.ndarray]) -> None:
    """Takes note of a step that was dispatched, and reports the one before.

    Args:
      number: of the step, from 1 on.
      rate: its learning rate.
      result: what it computes; waited for when it is reported.
      batch: arrays `[micro_batches rows length]` on the host.

    Raises:
      UserError: too many steps in a row whose loss or gradient is not finite.
    """
    self.flush()
    self._owed = (number, rate, result, batch)

  def flush(self) -> None:
    """Reports the step that is owed.

    Raises:
      UserError: too many steps in a row had a loss or gradient that is not finite.
    """
    if self._owed is None:
      return
    number, rate, result, batch = self._owed
    self._owed = None
    loss, grad_norm, finite = (x.item() for x in jax.device_get(result))
    now = time.perf_counter()
    seconds = now - self._start
    self._start = now
    tokens, loss_tokens = int((batch["segment_ids"] > 0).sum()), int((batch["loss_weights"] > 0).sum())
    pairs = attention_pairs(batch["segment_ids"])
    flops = step_flops(self._config, tokens, loss_tokens, pairs, adapted=self._adapted)
    row = {
      "step": number,
      "loss": loss,
      "grad_norm": grad_norm,
      "learning_rate": rate.item(),
      "tokens": tokens,
      "loss_tokens": loss_tokens,
      "seconds": round(seconds, 6),
      "mfu": flops / seconds / self._peak if self._peak else None,
    }
    self._stop_if_nonfinite(finite, row)
    self._writer.write(row)
    rates = {"tokens_per_second": tokens / seconds, "loss_tokens_per_second": loss_tokens / seconds}
    self._writer.scalars(number, rates | memory())
    mfu = f"  MFU {row['mfu']:.1%}" if row["mfu"] else ""
    note = f"loss {loss:.3f}  {tokens / seconds:,.0f} tokens/s ({loss_tokens / seconds:,.0f} trained){mfu}"
    self._progress.advance(1, note)

  def _stop_if_nonfinite(self, finite: bool, row: dict[str, Any]) -> None:
    if finite:
      self._nonfinite = 0
      return
    self._nonfinite += 1
    log(f"step {row['step']}: the loss is {row['loss']}, the gradient norm {row['grad_norm']}; nothing was updated")
    if self._nonfinite >= STOP_AFTER_NONFINITE:
      raise UserError(
        f"step {row['step']}: {self._nonfinite} steps in a row had a loss or gradient that is not finite",
        where="training",
        remedy="lower the learning rate, or look at the rows of these steps",
      )
