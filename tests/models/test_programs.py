"""The programs of the families that came first, as StableHLO, are what they were before layers could differ.

Their digests are in golden_programs.txt, with the version of JAX that wrote them (another one lowers to other text, and
then there is nothing to compare); `python -m tests.models.test_programs` writes it anew, for a change that is meant.
"""

import dataclasses
import hashlib
from pathlib import Path

import jax
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax.models import Decoder, DecoderConfig, RopeScaling, cache

GOLDEN = Path(__file__).with_name("golden_programs.txt")
PLAIN = DecoderConfig(
  vocab_size=64, embed=16, layers=3, heads=4, kv_heads=2, head_dim=8, mlp=24, dtype="bfloat16", remat="names"
)
CONFIGS = {
  "llama": PLAIN,
  "llama3": dataclasses.replace(PLAIN, tie_embeddings=True, rope_scaling=RopeScaling(kind="llama3", factor=8.0)),
  "mistral": dataclasses.replace(PLAIN, window=5),
  "qwen2": dataclasses.replace(PLAIN, qkv_bias=True),
  "qwen3": dataclasses.replace(PLAIN, qk_norm=True, dtype="float32"),
}


def digests(config):
  """Program → digest of its text: a gradient, a decode step, and the second piece of a prompt."""
  abstract = jax.ShapeDtypeStruct
  graph, params = nnx.split(nnx.eval_shape(lambda: Decoder(config)), nnx.Param)
  alone, single = nnx.split(nnx.eval_shape(lambda: Decoder(dataclasses.replace(config, scan_layers=False))), nnx.Param)
  rows, slots = abstract((2, 12), jnp.int32), abstract((2,), jnp.int32)
  held = jax.eval_shape(lambda: cache.init(config, 2, 16))
  before = tuple((abstract((1, 8, 2, 8), config.dtype),) * 2 for _ in range(config.layers))

  def loss(params, tokens, positions, segment_ids):
    return nnx.merge(graph, params)(tokens, positions, segment_ids).sum()

  lowered = {
    "gradient": jax.jit(jax.grad(loss)).lower(params, rows, rows, rows),
    "decode": jax.jit(lambda p, *x: nnx.merge(alone, p).decode(*x, length=12)).lower(single, slots, held, slots),
    "extend": jax.jit(lambda p, *x: nnx.merge(alone, p).extend(*x)).lower(
      single, abstract((1, 4), jnp.int32), before, abstract((), jnp.int32)
    ),
  }
  return {name: hashlib.sha256(program.as_text().encode()).hexdigest()[:16] for name, program in lowered.items()}


def lines(name):
  return [f"{name} {program} {digest}" for program, digest in digests(CONFIGS[name]).items()]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_families_programs_are_unchanged(name):
  version, *golden = GOLDEN.read_text().splitlines()
  if version != f"jax {jax.__version__}":
    pytest.skip(f"the golden programs are of {version}")
  assert lines(name) == [line for line in golden if line.startswith(f"{name} ")]


if __name__ == "__main__":
  GOLDEN.write_text("\n".join([f"jax {jax.__version__}", *(line for name in CONFIGS for line in lines(name))]) + "\n")
