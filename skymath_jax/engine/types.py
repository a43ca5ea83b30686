"""How a model is served (`EngineSettings`) and what it is given (`Prompt`). Nothing here loads JAX."""

import dataclasses
import enum
from collections.abc import Sequence

from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected, Sampling

MIN_PREFIX_TOKENS = 4096
NUMBER_FORMATS = {"weights": ("as stored", "int8"), "kv": ("as computed", "int8")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSettings:
  """How a model is served.

  Args:
    slots: sequences decoded at once.
    max_length: prompt and response tokens a slot can hold; cut to the positions that the model knows.
    steps_per_call: decode steps per host call.
    prefill_chunk: prompt tokens run at once; longer prompts go in pieces of this size, which the prefix cache keeps.
    prefix_tokens: prompt tokens whose keys and values the prefix cache keeps; None is `prefix_budget`, 0 none.
    weights: "as stored", or "int8" (matrices in 8 bits with a scale per output channel).
    kv: "as computed", or "int8" (keys and values in 8 bits with a scale per token and head).
    give_up: free the decoder's own weights where the engine keeps them in another form: it is of no use afterwards.

  Raises:
    UserError: a value with which nothing can be served.
  """

  slots: int
  max_length: int
  steps_per_call: int
  prefill_chunk: int = 256
  prefix_tokens: int | None = None
  weights: str = "as stored"
  kv: str = "as computed"
  give_up: bool = False

  def __post_init__(self) -> None:
    minimum = {"slots": 1, "max_length": 2, "steps_per_call": 1, "prefill_chunk": 1, "prefix_tokens": 0}
    for name, fewest in minimum.items():
      value = getattr(self, name)
      if value is not None and value < fewest:
        raise UserError(f"{value} is too small", where=name, remedy=f"give {fewest} or more")
    for name, known in NUMBER_FORMATS.items():
      if getattr(self, name) not in known:
        raise UserError(f"{getattr(self, name)!r} is not known", where=name, remedy=f"use one of: {', '.join(known)}")

  def kv_dtype(self, compute: str) -> str:
    """Number format of keys and values, where the model computes in `compute`."""
    return "int8" if self.kv == "int8" else compute


def prefix_budget(max_length: int) -> int:
  """Prompt tokens whose keys and values lie beside the slots: so many in the prefix cache, so many waiting for one."""
  return max(MIN_PREFIX_TOKENS, 2 * max_length)


class SamplingMode(enum.IntEnum):
  """The ways to choose tokens, cheapest first; the dearest that a live row needs serves all rows."""

  GREEDY = 0  # temperature 0
  PLAIN = 1  # from the whole distribution
  FILTERED = 2  # by top_k or top_p


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """One prompt and how to continue it; the fields after `tokens` are those of `generation.Sampling`."""

  tokens: tuple[int, ...]
  max_tokens: int
  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  seed: int = 0

  @property
  def mode(self) -> SamplingMode:
    """The cheapest way to sample it."""
    if self.temperature == 0:
      return SamplingMode.GREEDY
    return SamplingMode.PLAIN if self.top_p >= 1 and self.top_k == 0 else SamplingMode.FILTERED


# What to do about a prompt that does not fit
SHORTEN = "shorten it, or serve with a larger max_length, if the model knows so many positions"


def checked_prompt(tokens: Sequence[int], sampling: Sampling, *, max_length: int, vocab_size: int) -> Prompt:
  """A prompt that is safe to serve; `max_tokens` is cut to what a slot of `max_length` has room for.

  Raises:
    RequestRejected: no tokens, a token that the vocabulary does not have, or no room for even one new token.
  """
  if not tokens:
    raise RequestRejected("the prompt is empty", where="prompt", remedy="give at least one token")
  if len(tokens) >= max_length:
    raise RequestRejected(
      f"the prompt has {len(tokens)} tokens, but prompt and response share {max_length}",
      where="prompt",
      remedy=SHORTEN,
    )
  if not 0 <= min(tokens) <= max(tokens) < vocab_size:
    raise RequestRejected(
      "a token is outside the vocabulary", where="prompt", remedy=f"ids go from 0 to {vocab_size - 1}"
    )
  return Prompt(
    tokens=tuple(tokens),
    max_tokens=min(sampling.max_tokens, max_length - len(tokens)),
    temperature=sampling.temperature,
    top_p=sampling.top_p,
    top_k=sampling.top_k,
    seed=sampling.seed,
  )
