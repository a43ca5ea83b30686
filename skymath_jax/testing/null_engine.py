"""An engine without a model: what a server does besides computing, for soak tests and for measuring the host's share.

The response to a prompt is known beforehand (`answer`), so that a test can tell a whole response from a broken one.
Example::

  engine = NullEngine(max_length=4096)
  server = start_engine(engine, NullSlots(64, steps_per_call=8), CodePointTokenizer(), "null@0", ServerSettings(port=0))
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from skymath_jax.config import Serving
from skymath_jax.engine.engine import Scores
from skymath_jax.engine.prefix import Prefix, PrefixCache
from skymath_jax.engine.types import Prompt
from skymath_jax.testing.tokenizers import CodePointTokenizer


def answer(tokens: Sequence[int], max_tokens: int) -> list[int]:
  """The tokens that a prompt is answered with."""
  first = sum(tokens)
  return [(first + i) % CodePointTokenizer.vocab_size for i in range(max_tokens)]


class NullEngine:
  """What `driver.Driver` needs of an engine; nothing is computed.

  Args:
    max_length: prompt and response tokens of a request.
  """

  vocab_size = CodePointTokenizer.vocab_size
  prefill_rows = 16

  def __init__(self, *, max_length: int = Serving.max_length):
    self.max_length = max_length
    self.prefixes = PrefixCache(0)

  def score(self, tokens: Sequence[int]) -> Scores:
    """Nothing is known of any token."""
    return Scores(np.zeros(len(tokens)), np.zeros((len(tokens), 0), int), np.zeros((len(tokens), 0)))

  def prefill_each(self, prompts: Sequence[Prompt]) -> list[Prefix]:
    """Prompts with nothing computed of them."""
    return [Prefix(prompt, []) for prompt in prompts]


class _Rows:
  """Numbers that are there at a given time: to read them is to wait."""

  def __init__(self, rows: np.ndarray, done: float):
    self._rows = rows
    self._done = done

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    time.sleep(max(0.0, self._done - time.monotonic()))
    return self._rows


class NullSlots:
  """What `batching.Loop` needs of slots, in numpy.

  Args:
    count: number of slots.
    steps_per_call: tokens a slot and call.
    step_seconds: how long a decode step pretends to take; the host is free meanwhile, as it is beside an accelerator.
  """

  lost = False

  def __init__(self, count: int, *, steps_per_call: int = Serving.steps_per_call, step_seconds: float = 0.0):
    self.count = count
    self._steps = steps_per_call
    self._seconds = step_seconds
    self._free_at = 0.0  # monotonic time at which the calls so far have been computed
    self.reset()

  def reset(self) -> None:
    """All slots idle."""
    self._next = np.zeros(self.count, np.int64)  # token of each slot
    self._left = np.zeros(self.count, np.int64)  # tokens of each slot

  def insert(self, prefix: Prefix, slot: int) -> None:
    """Starts a response."""
    self._next[slot] = sum(prefix.prompt.tokens)
    self._left[slot] = prefix.prompt.max_tokens

  def release(self, slot: int) -> None:
    """Ends one."""
    self._left[slot] = 0

  def generate(self) -> Any:
    """`steps_per_call` tokens a slot, in rows as `programs.Programs.generate` makes them; to read them is to wait."""
    self._free_at = max(time.monotonic(), self._free_at) + self._seconds * self._steps
    ahead = np.arange(self._steps)
    tokens = (self._next[:, None] + ahead) % CodePointTokenizer.vocab_size
    valid = ahead < self._left[:, None]
    self._next += self._steps
    self._left = np.maximum(self._left - self._steps, 0)
    rows = np.concatenate([tokens, valid, np.zeros((len(tokens), 1), np.int64)], axis=1)
    return _Rows(rows, self._free_at)
