"""`DecoderEngine`: our engine behind JetStream's `Engine` interface (`jetstream.engine.engine_api`), interleaved.

It is for the stock orchestrator. Our own (`driver`), which adds sampling per request, cancellation and survival, calls
the engine itself. Importing this module imports JetStream, without TensorFlow (`compat`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from skymath_jax import config
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.prefix import Prefix
from skymath_jax.engine.sizes import MIN_PREFILL
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings, Prompt
from skymath_jax.engine.warm_up import warm_up
from skymath_jax.engine.weights import Params
from skymath_jax.models import Decoder
from skymath_jax.server import compat
from skymath_jax.tokenizer import Tokenizer

engine_api: Any = compat.load("engine.engine_api")
tokenizer_pb2 = compat.load("engine.tokenizer_pb2")
tokenizer_api: Any = compat.load("engine.tokenizer_api")


class _TokenizerAdapter(tokenizer_api.Tokenizer):
  """Our tokenizer in JetStream's interface."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer

  def encode(self, s: str, **kwargs: Any) -> tuple[np.ndarray, int]:
    tokens = self._tokenizer.encode(s, bos=kwargs.get("is_bos", True))
    return np.array(tokens, np.int32), len(tokens)

  def decode(self, token_ids: Sequence[int], **_: Any) -> str:
    return self._tokenizer.decode(token_ids)

  @property
  def pad_id(self) -> int:
    return 0 if self._tokenizer.pad_id is None else self._tokenizer.pad_id

  @property
  def eos_id(self) -> int | None:
    return self._tokenizer.eos_id

  @property
  def bos_id(self) -> int | None:
    return self._tokenizer.bos_id

  @property
  def stop_tokens(self) -> set[int]:
    return set(self._tokenizer.end_ids)


class DecoderEngine(engine_api.Engine):
  """A decoder in slots.

  `prefill` takes token ids with `true_length`, for which it decodes greedily up to the end of the slot, or a
  `types.Prompt`, which carries its own sampling and number of tokens. `generate` returns `steps_per_call` tokens a
  slot. The decode state is a `Slots`, which `insert` and `generate` change in place and return.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    **settings: of `EngineSettings`; slots and lengths that are not given are those of `config.Serving`.
  """

  def __init__(self, decoder: Decoder, tokenizer: Tokenizer, **settings: Any):
    shape = dataclasses.asdict(config.Serving()) | settings
    self.engine = Engine(decoder, EngineSettings(**shape), stop_ids=tokenizer.end_ids)
    self._tokenizer = tokenizer
    self._slots: Slots | None = None

  def load_params(self, *args: Any, **kwargs: Any) -> Params:
    """The decoder's parameters, one array per layer."""
    return self.engine.params

  def warm_up(self) -> None:
    """Compiles every size that can be asked for."""
    warm_up(self.engine)

  def prefill(
    self, *, params: Params, existing_prefix: Prefix | None = None, padded_tokens: Any, true_length: int
  ) -> Prefix:
    """Keys and values of one prompt; `existing_prefix` is put in front of it (the prefix cache knows its pieces).

    Raises:
      ValueError: the prompt is empty or does not fit, or `params` are not those of `load_params`.
    """
    self._check(params)
    if isinstance(padded_tokens, Prompt):
      prompt = padded_tokens
    else:
      tokens = tuple(np.asarray(padded_tokens).reshape(-1)[:true_length].tolist())
      before = existing_prefix.prompt.tokens if existing_prefix is not None else ()
      tokens = (*before, *tokens)
      if not 1 <= len(tokens) < self.engine.max_length or true_length > np.size(padded_tokens):
        raise ValueError(f"a prompt of {true_length} tokens does not fit {self.engine.max_length}")
      prompt = Prompt(tokens=tokens, max_tokens=self.engine.max_length - len(tokens))
    return self.engine.prefill([prompt])[0]

  def insert(self, prefix: Prefix, decode_state: Slots, slot: int) -> Slots:
    """Gives `slot` to a prefix; one prefix may be inserted several times."""
    decode_state.insert(prefix, slot)
    return decode_state

  def generate(self, params: Params, decode_state: Slots) -> tuple[Slots, Any]:
    """`steps_per_call` tokens for every slot, as `ResultTokens`.

    Raises:
      ValueError: `params` are not those of `load_params`.
    """
    self._check(params)
    steps = self.engine.sizes.steps
    result = engine_api.ResultTokens(
      data=decode_state.generate(),
      tokens_idx=(0, steps),
      valid_idx=(steps, 2 * steps),
      length_idx=(2 * steps, 2 * steps + 1),
      samples_per_slot=1,
    )
    return decode_state, result

  def _check(self, params: Params) -> None:
    if params is not self.engine.params:  # pieces of prompts that are kept would be another model's
      raise ValueError("the parameters must be those that load_params gives")

  def init_decode_state(self, *args: Any, **kwargs: Any) -> Slots:
    """Idle slots; the buffers of an earlier call are given up."""
    if self._slots is None:
      self._slots = Slots(self.engine)
    else:
      self._slots.reset()
    return self._slots

  def get_tokenizer(self) -> Any:
    """Nothing: `build_tokenizer` needs no parameters."""
    return tokenizer_pb2.TokenizerParameters()

  def build_tokenizer(self, metadata: Any) -> _TokenizerAdapter:
    """The tokenizer given at construction."""
    return _TokenizerAdapter(self._tokenizer)

  def get_prefix_destination_sharding(self) -> None:
    """Prefixes stay where they are made."""
    return None

  @property
  def max_concurrent_decodes(self) -> int:
    """Number of slots."""
    return self.engine.sizes.slots

  @property
  def samples_per_slot(self) -> int:
    """One."""
    return 1

  @property
  def max_prefill_length(self) -> int:
    """The longest power of two that fits; the stock orchestrator takes no other."""
    return max(MIN_PREFILL, 1 << (self.engine.max_length.bit_length() - 1))

  @property
  def mesh(self) -> jax.sharding.Mesh | None:
    """The mesh of the parameters."""
    return self.engine.mesh

  @property
  def colocated_cpus(self) -> None:
    """Not used."""
    return None
