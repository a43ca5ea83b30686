"""Small stand-ins: a vocabulary of characters, a data set in memory, a decoder of two narrow layers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from skymath_jax import files
from skymath_jax.models import Decoder, DecoderConfig
from skymath_jax.training.examples import select
from skymath_jax.training.tokens import make

CONFIG = DecoderConfig(vocab_size=64, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48, max_positions=64)


class Characters:
  """One id a character, from 3 on; EOS is also padding, the trap that masks made from ids fall into."""

  bos_id, eos_id, pad_id, vocab_size = 1, 0, 0, 64
  hash = "characters"

  def encode(self, text: str, *, bos: bool = False) -> list[int]:
    return [*([self.bos_id] if bos else []), *(3 + ord(c) % 61 for c in text)]

  def token(self, token_id: int) -> str:
    return f"<{token_id}>"

  def save(self, folder: Any) -> None:
    files.write_text(folder / "characters", "")


@dataclasses.dataclass(frozen=True)
class Rows:
  """A data set in memory."""

  rows: tuple[tuple[str, str], ...]
  fingerprint: str = "rows"

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: int) -> Mapping[str, str]:
    return dict(zip(("query", "response"), self.rows[index], strict=True))


def text(rng: np.random.Generator, low: int, high: int) -> str:
  return "".join(chr(c) for c in rng.integers(97, 123, rng.integers(low, high)))


def some_rows(count: int, *, rng_seed: int = 0, longest: int = 25) -> Rows:
  """`count` examples whose prompts and responses differ much in length."""
  rng = np.random.default_rng(rng_seed)
  return Rows(tuple((text(rng, 1, longest), text(rng, 1, longest)) for _ in range(count)))


def decoder(**changes: Any) -> Decoder:
  """The same weights every time."""
  return Decoder(dataclasses.replace(CONFIG, **changes), rngs=nnx.Rngs(7))


def tokenize(source, tokenizer, *, template, **bounds):
  """The examples of a source, made in memory."""
  return select(make(source, tokenizer, template), **bounds)
