"""An engine without a model: what a server does besides computing, for soak tests and for measuring the host's share.

The response to a prompt is known beforehand (`answer`), so that a test can tell a whole response from a broken one.
Prompts are `core.Prompt`; nothing here loads JAX.
"""

import time
import types
from typing import Any

import numpy as np

VOCAB = 32_000


def answer(tokens: tuple[int, ...] | list[int], max_tokens: int) -> list[int]:
  """The tokens that a prompt is answered with."""
  first = sum(tokens)
  return [(first + i) % VOCAB for i in range(max_tokens)]


class _State:
  """Where each slot is: its next token and how many are left."""

  lost = False

  def __init__(self, slots: int):
    self.next, self.left = np.zeros(slots, np.int64), np.zeros(slots, np.int64)

  def release(self, slot: int) -> None:
    self.left[slot] = 0


class NullEngine:
  """What `driver.Driver` needs of an engine, in numpy.

  Args:
    slots, max_length, steps_per_call: as in `core.Settings`.
    step_seconds: how long a decode step pretends to take; the host is free meanwhile, as it is beside an accelerator.
  """

  samples_per_slot, max_prefill_length = 1, 16

  def __init__(self, *, slots: int, max_length: int = 4096, steps_per_call: int = 8, step_seconds: float = 0.0):
    self.max_concurrent_decodes, self.steps, self._seconds = slots, steps_per_call, step_seconds
    config = types.SimpleNamespace(vocab_size=VOCAB)
    self.core = types.SimpleNamespace(
      params=None,
      slots=slots,
      max_length=max_length,
      config=config,
      prefixes=types.SimpleNamespace(computed=0, reused=0),
      prefill_rows=16,
      prefill_each=lambda _, prompts: list(prompts),  # nothing to compute
    )
    self._free_at = 0.0  # monotonic time at which the calls so far have been computed

  def prefill(self, *, padded_tokens: Any, **_: Any) -> Any:
    """Nothing to compute."""
    return padded_tokens

  def insert(self, prefix: Any, decode_state: _State, slot: int) -> _State:
    """Starts a response."""
    decode_state.next[slot], decode_state.left[slot] = sum(prefix.tokens), prefix.max_tokens
    return decode_state

  def generate(self, _: Any, decode_state: _State) -> tuple[_State, Any]:
    """`steps_per_call` tokens a slot, in rows as `core.Programs.generate` makes them; to read them is to wait."""
    self._free_at = done = max(time.monotonic(), self._free_at) + self._seconds * self.steps
    ahead = np.arange(self.steps)
    tokens = (decode_state.next[:, None] + ahead) % VOCAB
    valid = ahead < decode_state.left[:, None]
    decode_state.next += self.steps
    decode_state.left = np.maximum(decode_state.left - self.steps, 0)
    rows = np.concatenate([tokens, valid, np.zeros((len(tokens), 1), np.int64)], axis=1)

    def read() -> Any:
      time.sleep(max(0.0, done - time.monotonic()))
      return types.SimpleNamespace(data=rows)

    return decode_state, types.SimpleNamespace(convert_to_numpy=read)

  def init_decode_state(self) -> _State:
    """All slots idle."""
    return _State(self.max_concurrent_decodes)

  def get_tokenizer(self) -> None:
    """Nothing: prompts come as tokens."""

  def build_tokenizer(self, _: Any) -> None:
    """Nothing: prompts come as tokens."""

  def warm_up(self) -> None:
    """Nothing to compile."""


class NoTokenizer:
  """For a server whose clients send token ids; a text is its code points."""

  bos_id = eos_id = pad_id = chat_template = None

  def encode(self, text: str, *, bos: bool = False) -> list[int]:
    """Code points, those outside the vocabulary folded into it."""
    return [ord(c) % VOCAB for c in text]

  def decode(self, ids: Any) -> str:
    """Letters that mean nothing, one a token."""
    return "".join(chr(97 + i % 26) for i in ids)
