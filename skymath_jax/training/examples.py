"""Rows of text → tokens: every example encoded once, with what is trained of it; and which examples are held out.

An example is what `chat.frames` makes of a row: tokens, and which of them are trained, by a weight that travels beside
the tokens and never by a special id, so a vocabulary where padding equals EOS is no trap. Nothing is ever cut::

  examples = tokenize(source, tokenizer, template="sft/alpaca", max_length=2048, loss_weighting="token")
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from skymath_jax.chat import frames
from skymath_jax.config import Training
from skymath_jax.console import bar
from skymath_jax.errors import UserError

ENCODE_TOGETHER = 2048  # examples between two moves of the progress bar
MAX_UNTRAINED_SHARE = 0.01  # of the examples may have an empty response, before the data are taken for broken
MAX_OVER_LONG_SHARE = 0.5  # of the examples may be longer than a row


class Encoder(Protocol):
  """What `tokenize` needs of a tokenizer; chat templates need all of it."""

  @property
  def eos_id(self) -> int | None: ...

  def encode(self, text: str, *, bos: bool = False) -> list[int]: ...

  def token(self, token_id: int) -> str: ...


class Source(Protocol):
  """A data set of {"query", "response"} or {"messages"} rows; `fingerprint` changes with its content."""

  @property
  def fingerprint(self) -> str: ...

  def __len__(self) -> int: ...

  def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
  """All examples of a data set, tokenised once: example i is `tokens[starts[i]:starts[i + 1]]`.

  Attributes:
    tokens: int32 `[all tokens]`.
    starts: int64 `[examples + 1]`.
    trained: bool `[all tokens]`, whether a token is trained.
    token_weights: float32 `[examples]`, the weight of each trained token: 1, or 1 / their number in that example.
    over_long: examples left out because they do not fit into a row.
    untrained: examples left out because their response is empty.
  """

  tokens: np.ndarray
  starts: np.ndarray
  trained: np.ndarray
  token_weights: np.ndarray
  over_long: int
  untrained: int

  def __len__(self) -> int:
    return len(self.token_weights)

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """Tokens of each example, int64 `[examples]`."""
    return np.diff(self.starts)

  def take(self, indices: np.ndarray) -> "Examples":
    """The examples of these indices (int `[examples]`), in this order; the counts of what was left out stay."""
    places = [slice(self.starts[i], self.starts[i + 1]) for i in indices]
    return dataclasses.replace(
      self,
      tokens=np.concatenate([np.zeros(0, np.int32), *(self.tokens[place] for place in places)]),
      starts=np.concatenate([[0], np.cumsum(self.lengths[indices])]),
      trained=np.concatenate([np.zeros(0, bool), *(self.trained[place] for place in places)]),
      token_weights=self.token_weights[indices],
    )

  @functools.cached_property
  def fingerprint(self) -> str:
    """16 hex digits over everything that reaches the model."""
    digest = hashlib.sha256()
    for array in (self.tokens, self.starts, self.trained, self.token_weights):
      digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def tokenize(
  source: Source,
  tokenizer: Encoder,
  *,
  template: str,
  max_length: int,
  loss_weighting: str = Training.loss_weighting,
  max_untrained_share: float = MAX_UNTRAINED_SHARE,
  max_over_long_share: float = MAX_OVER_LONG_SHARE,
) -> Examples:
  """Encodes every row once, in the frame `template` (`chat.frames`).

  Raises:
    UserError: the tokenizer has no EOS, a key is missing, or too many examples would be left out.
  """
  frame = frames.load(template, tokenizer)
  tokens: list[np.ndarray] = []
  trained: list[np.ndarray] = []
  over_long = untrained = 0
  with bar("tokenizing", len(source)) as progress:
    for i, row in enumerate(source):
      example = frame.example(row, f"row {i}")
      if example is None:
        untrained += 1
      elif len(example.tokens) > max_length:
        over_long += 1
      else:
        tokens.append(np.array(example.tokens, np.int32))
        trained.append(np.array(example.trained, bool))
      if (i + 1) % ENCODE_TOGETHER == 0:
        progress.advance(ENCODE_TOGETHER)
    progress.advance(len(source) % ENCODE_TOGETHER, f"{over_long} over-long and {untrained} empty left out")
  _refuse_losses(len(source), over_long, untrained, max_length, max_over_long_share, max_untrained_share)
  weights = [1 / piece.sum() if loss_weighting == "example" else 1 for piece in trained]
  return Examples(
    tokens=np.concatenate(tokens),
    starts=np.cumsum([0, *map(len, tokens)]),
    trained=np.concatenate(trained),
    token_weights=np.array(weights, np.float32),
    over_long=over_long,
    untrained=untrained,
  )


def _refuse_losses(
  total: int, over_long: int, untrained: int, max_length: int, max_over_long_share: float, max_untrained_share: float
) -> None:
  if total == 0:
    raise UserError("there is nothing to train on", where="training data", remedy="check the curation summary")
  if untrained > max_untrained_share * total:
    raise UserError(
      f"{untrained:,} of {total:,} examples have an empty response",
      where="training data",
      remedy="mend the data",
    )
  if over_long > max_over_long_share * total or over_long + untrained == total:
    raise UserError(
      f"{over_long:,} of {total:,} examples are longer than a row of {max_length:,} tokens",
      where="config.training.max_length",
      remedy="raise it, or leave long examples out of the data",
    )


def require_vocabulary(examples: Examples, rows: int, tokenizer: Encoder) -> None:
  """Compares the ids with the `rows` of the embedding: JAX would read past its end and give NaN, not an error.

  Raises:
    UserError: an id that has no row; it is named.
  """
  largest = int(examples.tokens.max())
  if largest >= rows:
    raise UserError(
      f"token {tokenizer.token(largest)!r} has id {largest:,}, the model's embedding only {rows:,} rows",
      where="tokenizer",
      remedy="take the tokenizer that the model came with, or enlarge the embedding before the import",
    )


def hold_out(examples: Examples, number: int, rng_seed: int) -> tuple[Examples, Examples]:
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
