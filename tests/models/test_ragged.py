"""The GPU kernel's arithmetic in interpret mode, and its lowering for a GPU that is not here."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from skymath_jax.models import cache, ragged
from tests.support.one_query import reference

S, K, G, M, D = 5, 2, 3, 96, 16


def inputs(dtype="float32"):
  rng = np.random.default_rng(0)
  q = jnp.asarray(rng.normal(size=(S, K, G, D)) * 0.7, dtype)
  keys, values = (jnp.asarray(rng.normal(size=(S, K, M, D)), dtype) for _ in range(2))
  return q, keys, values, jnp.asarray([1, 31, 32, 33, 96], jnp.int32)


@pytest.fixture
def interpreted(monkeypatch):
  monkeypatch.setattr(ragged, "INTERPRET", True)


@pytest.mark.parametrize("window", [None, 1, 7, 40])
def test_each_slot_sees_its_own_length(interpreted, window):
  given = inputs()
  np.testing.assert_allclose(ragged.attention(*given, window=window), reference(*given, window), atol=1e-5)


def test_what_lies_past_the_length_does_not_matter(interpreted):
  q, keys, values, lengths = inputs()
  dirty = jnp.arange(M)[None, None, :, None] >= lengths[:, None, None, None]
  keys, values = (jnp.where(dirty, jnp.nan if x is values else 1e9, x) for x in (keys, values))
  values = jnp.where(jnp.isnan(values), 1e9, values)
  clean = ragged.attention(*inputs())
  np.testing.assert_array_equal(ragged.attention(q, keys, values, lengths), clean)


def test_eight_bits_are_scaled_inside(interpreted):
  q, keys, values, lengths = inputs()
  narrow = cache.quantize(keys), cache.quantize(values)
  wide = [held.values * held.scale[..., None] for held in narrow]
  np.testing.assert_allclose(ragged.attention(q, *narrow, lengths), reference(q, *wide, lengths), atol=1e-5)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_the_kernel_lowers_for_a_gpu_that_is_not_here(kind):
  shape = jax.ShapeDtypeStruct((S, 8, 1024, 128), jnp.bfloat16)
  held = shape if kind == "bfloat16" else jax.eval_shape(cache.quantize, shape)
  q = jax.ShapeDtypeStruct((S, 8, 4, 128), jnp.bfloat16)
  device = jax.sharding.AbstractDevice("NVIDIA H200", 132, "cuda")
  mesh = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    traced = jax.jit(ragged.attention).trace(q, held, held, jax.ShapeDtypeStruct((S,), jnp.int32))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "ragged_decode" in text
