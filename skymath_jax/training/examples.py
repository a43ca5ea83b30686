"""Rows as tokens → examples to train on: those that fit, how much each token counts, and which are held out.

An example is what `chat.frames` makes of a row: tokens, and which of them are trained, by a weight that travels beside
the tokens and never by a special id, so a vocabulary where padding equals EOS is no trap. Nothing is ever cut::

  examples = select(tokens.make(source, tokenizer, "sft/alpaca"), max_length=2048, loss_weighting="token")
"""

import dataclasses
import functools
import hashlib

import numpy as np

from skymath_jax.config import Training
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.training.tokens import Encoder, Tokens

MAX_UNTRAINED_SHARE = 0.01  # of the examples may have an empty response, before the data are taken for broken
MAX_OVER_LONG_SHARE = 0.5  # of the examples may be longer than a row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
  """The examples of a data set; the tokens of example i are `tokens[place(i)]`.

  Attributes:
    tokens: int32 `[all tokens]`, of more examples than these perhaps.
    trained: bool `[all tokens]`, whether a token is trained.
    starts: int64 `[examples]`, where each begins.
    lengths: int64 `[examples]`, tokens of each.
    targets: int64 `[examples]`, trained tokens of each.
    token_weights: float32 `[examples]`, the weight of each trained token: 1, or 1 / their number in that example.
    largest: the largest id.
    over_long: examples left out because they do not fit into a row.
    untrained: examples left out because their response is empty.
  """

  tokens: np.ndarray
  trained: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  targets: np.ndarray
  token_weights: np.ndarray
  largest: int
  over_long: int
  untrained: int

  def __len__(self) -> int:
    return len(self.starts)

  def place(self, index: int) -> slice:
    """Where the tokens of an example are."""
    return slice(int(self.starts[index]), int(self.starts[index] + self.lengths[index]))

  def take(self, indices: np.ndarray) -> "Examples":
    """The examples of these indices (int `[examples]`), in this order; the counts of what was left out stay."""
    of_each = ("starts", "lengths", "targets", "token_weights")
    return dataclasses.replace(self, **{name: getattr(self, name)[indices] for name in of_each})

  @functools.cached_property
  def fingerprint(self) -> str:
    """16 hex digits over everything that reaches the model."""
    digest = hashlib.sha256()
    for i in range(len(self)):
      for part in (self.tokens[self.place(i)], self.trained[self.place(i)], self.token_weights[i]):
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]


def select(
  made: Tokens,
  *,
  max_length: int,
  loss_weighting: str = Training.loss_weighting,
  max_untrained_share: float = MAX_UNTRAINED_SHARE,
  max_over_long_share: float = MAX_OVER_LONG_SHARE,
) -> Examples:
  """The rows that have an answer and fit into a row of `max_length`.

  Raises:
    UserError: too many would be left out.
  """
  lengths = made.lengths.astype(np.int64)
  untrained, over_long = int((lengths == 0).sum()), int((lengths > max_length).sum())
  _refuse_losses(len(lengths), over_long, untrained, max_length, max_over_long_share, max_untrained_share)
  if over_long or untrained:
    log(f"{over_long:,} over-long and {untrained:,} empty rows of {len(lengths):,} are left out")
  targets = made.targets.astype(np.int64)
  every = Examples(
    tokens=made.tokens,
    trained=made.trained,
    starts=np.cumsum(lengths) - lengths,
    lengths=lengths,
    targets=targets,
    token_weights=(1 / np.maximum(targets, 1) if loss_weighting == "example" else np.ones(len(lengths))).astype(
      np.float32
    ),
    largest=made.largest,
    over_long=over_long,
    untrained=untrained,
  )
  fits = (lengths > 0) & (lengths <= max_length)
  return every if fits.all() else every.take(np.flatnonzero(fits))


def _refuse_losses(
  total: int, over_long: int, untrained: int, max_length: int, max_over_long_share: float, max_untrained_share: float
) -> None:
  if total == 0:
    raise UserError("there is nothing to train on", where="training data", remedy="check the curation summary")
  if untrained > max_untrained_share * total:
    raise UserError(
      f"{untrained:,} of {total:,} examples have an empty response", where="training data", remedy="mend the data"
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
  largest = examples.largest
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
