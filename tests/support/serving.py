"""For engine and server: a tiny random model, a byte tokenizer, and a slow but obvious reference."""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import sampling as sampling_lib
from skymath_jax.generation import Request, Sampling
from skymath_jax.models import Decoder, DecoderConfig

MAX_LENGTH = 64
CONFIG = DecoderConfig(
  vocab_size=260, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64, max_positions=MAX_LENGTH
)


class ByteTokenizer:
  """Id 1 is bos, the character c is id 3 + ord(c); `eos_id` as given."""

  bos_id, pad_id, vocab_size, chat_template = 1, 0, CONFIG.vocab_size, None

  def __init__(self, eos_id: int | None = 2):
    self.eos_id = eos_id

  def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
    return ([1] if bos else []) + [3 + b for b in text.encode("latin-1")] + ([self.eos_id] if eos else [])

  def decode(self, ids: Iterable[int]) -> str:
    return bytes(i - 3 for i in ids if 3 <= i < 259).decode("latin-1")


@functools.partial(nnx.jit, static_argnums=0)  # eagerly it takes seconds
def make_decoder(seed: int) -> Decoder:
  """Random weights, large enough that greedy text is not one letter over and over."""
  decoder = Decoder(CONFIG, rngs=nnx.Rngs(seed))
  nnx.update(decoder, jax.tree.map(lambda w: w * 2.5 if w.ndim > 1 else w, nnx.state(decoder, nnx.Param)))
  return decoder


_forward = nnx.jit(lambda decoder, tokens: decoder(tokens))
_sample = jax.jit(sampling_lib.sample)


def reference_tokens(decoder: Decoder, prompt: list[int], s: Sampling, eos_id: int | None) -> list[int]:
  """One full forward pass for each token, no cache, no batch."""
  tokens, new = list(prompt), []
  key = np.array([[s.seed >> 32, s.seed & 0xFFFFFFFF]], np.uint32)
  mode = 0 if s.temperature == 0 else 1 if s.top_p == 1 and s.top_k == 0 else 2
  for index in range(min(s.max_tokens, MAX_LENGTH - len(prompt))):
    padded = np.zeros((1, MAX_LENGTH), np.int32)
    padded[0, : len(tokens)] = tokens
    logits = _forward(decoder, padded)[:, len(tokens) - 1]
    settings = (jnp.float32([s.temperature]), jnp.float32([s.top_p]), jnp.int32([s.top_k]), jnp.int32(mode))
    token = int(_sample(logits, key, jnp.int32([index]), *settings)[0])
    if token == eos_id:
      break
    tokens.append(token)
    new.append(token)
  return new


def requests(count: int, **sampling: object) -> list[Request]:
  """Ragged prompts and lengths, a third of them greedy unless told otherwise."""
  made = []
  for i in range(count):
    s = {
      "temperature": (0.0, 0.8, 1.3)[i % 3],
      "top_p": (1.0, 1.0, 0.8)[i % 3],
      "top_k": (0, 0, 20)[i % 3],
      "max_tokens": 1 + (7 * i) % 23,
      "seed": 1000 + i,
    }
    made.append(Request(id=str(i), prompt="abcdefgh"[: 1 + i % 8] * (1 + i % 5), sampling=Sampling(**(s | sampling))))
  return made


def by_id(responses: Iterable) -> dict[str, tuple]:
  """What must not differ between two ways of asking."""
  return {r.id: dataclasses.astuple(r) for r in responses}
