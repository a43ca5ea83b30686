"""Rows of text → the packed arrays of every optimizer step.

An example is `[bos] + encode(prompt) | encode(response) + [eos]`; only the part after the bar is trained, by a weight
that travels beside the tokens and never by a special id, so a vocabulary where padding equals EOS is no trap. Examples
share rows; `segment_ids` (1.., 0 = padding) and restarting `positions` keep them apart. Nothing is ever cut.

    examples = tokenize(source, tokenizer, template="sft/alpaca", max_length=2048, loss_weighting="token")
    steps = Steps(examples, Packing(max_length=2048, rows=8, epochs=3, rng_seed=0))
    steps[17]["tokens"]  # int32 [micro_batches rows length], a pure function of (rng_seed, 17)

Why the packing is ours and the rest is Grain's: Grain's packers know their length only by running through, which the
learning-rate schedule cannot wait for, and replay from the last parent index on resume. With all lengths known the
plan is 30 lines of pure function; Grain then reads `Steps` ahead in a thread and keeps the iterator's state.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import grain
import numpy as np

from skymath_jax import prompts
from skymath_jax.console import bar
from skymath_jax.errors import UserError

Batch = Mapping[str, Any]
PACKING_WINDOW = 4096  # examples packed together; TRL's and Grain's best-fit fill is reached from a few hundred on
ENCODE_TOGETHER = 2048  # examples between two moves of the progress bar


class Source(Protocol):
  """A data set of {"query", "response"} rows; `fingerprint` changes with its content."""

  fingerprint: str

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
  """All examples of a data set, tokenised once: example i is `tokens[starts[i]:starts[i + 1]]`.

  Attributes:
    tokens: int32 `[all tokens]`.
    starts: int64 `[examples + 1]`.
    prompt_lengths: int32 `[examples]`, BOS included; tokens after them are trained.
    token_weights: float32 `[examples]`, the weight of each trained token: 1, or 1 / their number in that example.
    over_long: examples left out because they do not fit into a row.
    untrained: examples left out because their response is empty.
  """

  tokens: np.ndarray
  starts: np.ndarray
  prompt_lengths: np.ndarray
  token_weights: np.ndarray
  over_long: int
  untrained: int

  def __len__(self) -> int:
    return len(self.prompt_lengths)

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    return np.diff(self.starts)

  def take(self, indices: np.ndarray) -> "Examples":
    """The examples of these indices, in this order; the counts of what was left out stay."""
    pieces = [self.tokens[self.starts[i] : self.starts[i + 1]] for i in indices]
    return dataclasses.replace(
      self,
      tokens=np.concatenate([np.zeros(0, np.int32), *pieces]),
      starts=np.concatenate([[0], np.cumsum(self.lengths[indices])]),
      prompt_lengths=self.prompt_lengths[indices],
      token_weights=self.token_weights[indices],
    )

  @functools.cached_property
  def fingerprint(self) -> str:
    """16 hex digits over everything that reaches the model."""
    digest = hashlib.sha256()
    for array in (self.tokens, self.starts, self.prompt_lengths, self.token_weights):
      digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def framed(template: str) -> Callable[[str], str]:
  """query → prompt. Rendering a template costs 0.4 ms, so it is rendered once around a mark that no text contains."""
  mark = "\0query\0"
  before, *rest = prompts.load(template).render(query=mark).split(mark)
  if len(rest) != 1:
    return lambda query: prompts.load(template).render(query=query)
  return lambda query: f"{before}{query}{rest[0]}"


def tokenize(
  source: Source,
  tokenizer: Any,
  *,
  template: str,
  max_length: int,
  loss_weighting: str = "token",
  max_untrained_share: float = 0.01,
  max_over_long_share: float = 0.5,
) -> Examples:
  """Encodes every row once; prompt and response apart, as the server sees them.

  Raises:
    UserError: the tokenizer has no EOS, a key is missing, or too many examples would be left out.
  """
  if tokenizer.eos_id is None:
    raise UserError(
      "the tokenizer has no EOS token", where="tokenizer", remedy="set eos_token in tokenizer_config.json"
    )
  frame, start = framed(template), [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  pieces: list[np.ndarray] = []
  prompt_lengths: list[int] = []
  over_long = untrained = 0
  with bar("tokenizing", len(source)) as progress:
    for i in range(len(source)):
      prompt, response = _encode_row(source[i], i, tokenizer, frame)
      if not response:
        untrained += 1
      elif len(start) + len(prompt) + len(response) + 1 > max_length:
        over_long += 1
      else:
        pieces.append(np.array([*start, *prompt, *response, tokenizer.eos_id], np.int32))
        prompt_lengths.append(len(start) + len(prompt))
      if (i + 1) % ENCODE_TOGETHER == 0:
        progress.advance(ENCODE_TOGETHER)
    progress.advance(len(source) % ENCODE_TOGETHER, f"{over_long} over-long and {untrained} empty left out")
  _refuse_losses(len(source), over_long, untrained, max_length, max_over_long_share, max_untrained_share)
  lengths = np.array([len(piece) for piece in pieces], np.int64)
  prompts_ = np.array(prompt_lengths, np.int32)
  weights = 1.0 / (lengths - prompts_) if loss_weighting == "example" else np.ones(len(pieces))
  return Examples(
    tokens=np.concatenate(pieces),
    starts=np.concatenate([[0], np.cumsum(lengths)]),
    prompt_lengths=prompts_,
    token_weights=weights.astype(np.float32),
    over_long=over_long,
    untrained=untrained,
  )


def _encode_row(row: Mapping[str, Any], index: int, tokenizer: Any, frame: Callable[[str], str]) -> tuple[list, list]:
  try:
    query, response = row["query"], row["response"]
  except KeyError as error:
    raise UserError(f"the row has no key {error}", where=f"row {index}", remedy="give query and response") from None
  return tokenizer.encode(frame(query)), tokenizer.encode(response)


def _refuse_losses(
  total: int, over_long: int, untrained: int, max_length: int, max_over_long_share: float, max_untrained_share: float
) -> None:
  if total == 0:
    raise UserError("there is nothing to train on", where="training data", remedy="check the curation summary")
  if untrained > max_untrained_share * total:
    raise UserError(
      f"{untrained:,} of {total:,} examples have an empty response",
      where="training data",
      remedy="mend the data, or raise max_untrained_share",
    )
  if over_long > max_over_long_share * total or over_long + untrained == total:
    raise UserError(
      f"{over_long:,} of {total:,} examples are longer than a row of {max_length:,} tokens",
      where="config.training.max_length",
      remedy="raise it, or leave long examples out of the data",
    )


def held_out(examples: Examples, number: int, rng_seed: int) -> tuple[Examples, Examples]:
  """(the rest, `number` examples drawn by `rng_seed`), both in their old order.

  Raises:
    UserError: nothing would be left to train on.
  """
  if number >= len(examples):
    raise UserError(
      f"{number:,} of {len(examples):,} examples cannot be held out",
      where="config.training.held_out",
      remedy="hold out fewer",
    )
  chosen = np.zeros(len(examples), bool)
  chosen[np.random.default_rng([rng_seed, 1]).permutation(len(examples))[:number]] = True
  return examples.take(np.flatnonzero(~chosen)), examples.take(np.flatnonzero(chosen))


def pack(lengths: np.ndarray, capacity: int) -> list[list[int]]:
  """Best-fit-decreasing: indices of `lengths` grouped so that no group exceeds `capacity`; each index once."""
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
  micro_batches: int = 1
  packed: bool = True

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
  """

  def __init__(self, examples: Examples, packing: Packing):
    if packing.rows % packing.micro_batches:
      raise UserError(
        f"{packing.rows} rows do not split into {packing.micro_batches} micro-batches",
        where="config.training.micro_batches",
        remedy="choose a divisor of config.training.rows",
      )
    self.examples, self.packing = examples, packing
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
        tokens[row, here] = e.tokens[e.starts[index] : e.starts[index + 1]]
        positions[row, here] = np.arange(e.lengths[index])
        segment_ids[row, here] = segment
        # The first token of a segment has nothing of its own before it: never trained, even without prompt and BOS.
        loss_weights[row, at + max(1, int(e.prompt_lengths[index])) : here.stop] = e.token_weights[index]
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
    return self.packing.epochs * len(self.examples.tokens) / (rows * self.packing.max_length)


def iterate(steps: Steps, *, ahead: int = 2) -> Iterator[dict[str, np.ndarray]]:
  """A Grain iterator over `steps` with `get_state` and `set_state` (a JSON dict); a thread builds `ahead` batches."""
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead)
  return iter(grain.MapDataset.source(steps).to_iter_dataset(options))


def abstract(settings: Packing) -> dict[str, Any]:
  """Shapes and dtypes of one batch, for compilation without data: key → numpy array of stride zero."""
  shape = (settings.micro_batches, settings.rows // settings.micro_batches, settings.max_length)
  kinds = {"tokens": np.int32, "positions": np.int32, "segment_ids": np.int32, "loss_weights": np.float32}
  return {key: np.broadcast_to(np.zeros((), kind), shape) for key, kind in kinds.items()}


def attention_pairs(segment_ids: np.ndarray) -> int:
  """Σ length² over the segments of a batch: what causal attention really costs, for MFU."""
  rows = segment_ids.reshape(-1, segment_ids.shape[-1])
  total = 0
  for row in rows:
    total += int(np.square(np.bincount(row)[1:].astype(np.int64)).sum())
  return total
