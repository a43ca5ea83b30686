"""Examples → the packed arrays of every optimizer step.

Examples share rows; `segment_ids` (1.., 0 = padding) and restarting `positions` keep them apart::

  steps = Steps(examples, Packing(max_length=2048, rows=8, epochs=3, rng_seed=0))
  steps[17]["tokens"]  # int32 [micro_batches rows length], a pure function of (rng_seed, 17)

Why the packing is ours and the rest is Grain's: Grain's packers know their length only by running through, which the
learning-rate schedule cannot wait for, and replay from the last parent index on resume. With all lengths known the
plan is 30 lines of pure function; Grain then reads `Steps` ahead in a thread and keeps the iterator's state.
"""

import bisect
import dataclasses
import functools
import itertools

import grain
import numpy as np

from skymath_jax.config import Training
from skymath_jax.errors import UserError
from skymath_jax.training.examples import Examples

PACKING_WINDOW = 4096  # examples packed together; TRL's and Grain's best-fit fill is reached from a few hundred on


def pack(lengths: np.ndarray, capacity: int) -> list[list[int]]:
  """Best-fit-decreasing: indices of `lengths` `[examples]` in groups within `capacity`; each index once."""
  groups: list[list[int]] = []
  room: list[tuple[int, int]] = []  # (free tokens, group), sorted
  for index in np.argsort(-lengths, kind="stable").tolist():
    length = int(lengths[index])
    place = bisect.bisect_left(room, (length, -1))
    if place < len(room):
      free, group = room.pop(place)
      groups[group].append(index)
    else:
      free, group = capacity, len(groups)
      groups.append([index])
    if free > length:
      bisect.insort(room, (free - length, group))
  return groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
  """Shape and order of the steps. `rows` is of one optimizer step, over all micro-batches and devices.

  `packed=False` gives each example a row of its own, with the same examples in each step: slow, for comparison.
  """

  max_length: int
  rows: int
  epochs: int
  rng_seed: int = 0
  micro_batches: int = Training.micro_batches
  packed: bool = Training.packed

  def plan(self, lengths: np.ndarray, epoch: int) -> list[list[list[int]]]:
    """[step][row] → example indices of one epoch, each exactly once; a pure function of (rng_seed, epoch).

    The examples are shuffled, packed window by window, and the rows of a window shuffled again (packing sorts by
    length). Rows are dealt so that all steps of the epoch have the same number, give or take one.
    """
    rng = np.random.default_rng([self.rng_seed, epoch])
    order, rows = rng.permutation(len(lengths)), []
    for begin in range(0, len(order), PACKING_WINDOW):
      window = order[begin : begin + PACKING_WINDOW]
      groups = pack(lengths[window], self.max_length)
      rows += [window[groups[i]].tolist() for i in rng.permutation(len(groups))]
    steps = -(-len(rows) // self.rows)
    bounds = [len(rows) * s // steps for s in range(steps + 1)]
    return [rows[a:b] for a, b in itertools.pairwise(bounds)]


class Steps:
  """Random access over the batches of all optimizer steps of a run; `steps[i]` depends on nothing but `i`.

  A batch holds `tokens`, `positions`, `segment_ids` (int32) and `loss_weights` (float32), each
  `[micro_batches rows length]`. `loss_weights[..., t]` is the weight of predicting token t from those before it.

  Raises:
    UserError: the rows do not split into the micro-batches.
  """

  def __init__(self, examples: Examples, packing: Packing):
    if packing.rows % packing.micro_batches:
      raise UserError(
        f"{packing.rows} rows do not split into {packing.micro_batches} micro-batches",
        where="config.training.micro_batches",
        remedy="choose a divisor of config.training.rows",
      )
    self.examples = examples
    self.packing = packing
    self.plan = [step for epoch in range(packing.epochs) for step in packing.plan(examples.lengths, epoch)]

  def __len__(self) -> int:
    return len(self.plan)

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    p, e = self.packing, self.examples
    shape = (self.rows, p.max_length)
    tokens, positions, segment_ids = (np.zeros(shape, np.int32) for _ in range(3))
    loss_weights = np.zeros(shape, np.float32)
    for row, indices in enumerate(self._rows_of(step)):
      at = 0
      for segment, index in enumerate(indices, start=1):
        here = slice(at, at + int(e.lengths[index]))
        tokens[row, here] = e.tokens[e.place(index)]
        positions[row, here] = np.arange(e.lengths[index])
        segment_ids[row, here] = segment
        # The first token of a segment has nothing of its own before it: never trained, even without prompt and BOS.
        loss_weights[row, here] = e.trained[e.place(index)] * e.token_weights[index]
        loss_weights[row, at] = 0
        at = here.stop
    batch = {"tokens": tokens, "positions": positions, "segment_ids": segment_ids, "loss_weights": loss_weights}
    split = (p.micro_batches, self.rows // p.micro_batches, p.max_length)
    return {key: value.reshape(split) for key, value in batch.items()}

  def _rows_of(self, step: int) -> list[list[int]]:
    return self.plan[step] if self.packing.packed else [[i] for row in self.plan[step] for i in row]

  @functools.cached_property
  def rows(self) -> int:
    """Of every batch: as packed, or as many as the step with the most examples needs, in whole multiples of that."""
    if self.packing.packed:
      return self.packing.rows
    most = max(sum(map(len, step)) for step in self.plan)
    return -(-most // self.packing.rows) * self.packing.rows

  @property
  def fill(self) -> float:
    """Share of row positions that hold a token, over the rows that are not empty."""
    rows = sum(len(self._rows_of(step)) for step in range(len(self)))
    return self.packing.epochs * int(self.examples.lengths.sum()) / (rows * self.packing.max_length)

  def facts(self) -> dict[str, int | float]:
    """How much there is to train on, over all epochs, and how full the rows are."""
    e, epochs = self.examples, self.packing.epochs
    return {
      "steps": len(self),
      "examples": len(e),
      "over_long": e.over_long,
      "untrained": e.untrained,
      "tokens": int(e.lengths.sum()) * epochs,
      "loss_tokens": int(e.targets.sum()) * epochs,
      "fill": round(self.fill, 4),
    }


def iterate(steps: Steps) -> grain.DatasetIterator[dict[str, np.ndarray]]:
  """A Grain iterator over `steps` with `get_state` and `set_state` (a JSON dict); a thread builds two batches ahead.

  A batch maps each of its keys to an array `[micro_batches rows length]`.
  """
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
  return iter(grain.MapDataset.source(steps).to_iter_dataset(options))


def abstract_batch(settings: Packing) -> dict[str, np.ndarray]:
  """Shapes and dtypes of one batch, for compilation without data: key → numpy array of stride zero."""
  shape = (settings.micro_batches, settings.rows // settings.micro_batches, settings.max_length)
  kinds = {"tokens": np.int32, "positions": np.int32, "segment_ids": np.int32, "loss_weights": np.float32}
  return {key: np.broadcast_to(np.zeros((), kind), shape) for key, kind in kinds.items()}
