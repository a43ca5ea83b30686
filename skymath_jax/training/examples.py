"""Rows of text → tokens: every example encoded once, with what is trained of it; and which examples are held out.

An example is `[bos] + encode(prompt) | encode(response) + [eos]`; only the part after the bar is trained, by a weight
that travels beside the tokens and never by a special id, so a vocabulary where padding equals EOS is no trap. Nothing
is ever cut::

  examples = tokenize(source, tokenizer, template="sft/alpaca", max_length=2048, loss_weighting="token")
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from skymath_jax import prompts
from skymath_jax.config import Training
from skymath_jax.console import bar
from skymath_jax.errors import UserError

ENCODE_TOGETHER = 2048  # examples between two moves of the progress bar
MAX_UNTRAINED_SHARE = 0.01  # of the examples may have an empty response, before the data are taken for broken
MAX_OVER_LONG_SHARE = 0.5  # of the examples may be longer than a row


class Encoder(Protocol):
  """What `tokenize` needs of a tokenizer."""

  @property
  def bos_id(self) -> int | None: ...

  @property
  def eos_id(self) -> int | None: ...

  def encode(self, text: str) -> list[int]: ...

  def token(self, token_id: int) -> str: ...


class Source(Protocol):
  """A data set of {"query", "response"} rows; `fingerprint` changes with its content."""

  @property
  def fingerprint(self) -> str: ...

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
    """Tokens of each example, int64 `[examples]`."""
    return np.diff(self.starts)

  def take(self, indices: np.ndarray) -> "Examples":
    """The examples of these indices (int `[examples]`), in this order; the counts of what was left out stay."""
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
  tokenizer: Encoder,
  *,
  template: str,
  max_length: int,
  loss_weighting: str = Training.loss_weighting,
  max_untrained_share: float = MAX_UNTRAINED_SHARE,
  max_over_long_share: float = MAX_OVER_LONG_SHARE,
) -> Examples:
  """Encodes every row once; prompt and response apart, as the server sees them.

  Raises:
    UserError: the tokenizer has no EOS, a key is missing, or too many examples would be left out.
  """
  if tokenizer.eos_id is None:
    raise UserError(
      "the tokenizer has no EOS token", where="tokenizer", remedy="set eos_token in tokenizer_config.json"
    )
  frame = framed(template)
  start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
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


def _encode_row(
  row: Mapping[str, Any], index: int, tokenizer: Encoder, frame: Callable[[str], str]
) -> tuple[list[int], list[int]]:
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
