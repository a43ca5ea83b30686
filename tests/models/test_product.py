import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from skymath_jax.models import DecoderConfig, cache
from skymath_jax.models.product import OutIn, product

EQUATION = "...d,dhk->...hk"


def arrays(dtype):
  rng = np.random.default_rng(0)
  return (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((3, 5, 16), (16, 4, 8)))


def program(dtype):
  def loss(x, w):
    return product(EQUATION, x, w).astype(jnp.float32).sum()

  return str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arrays(dtype)))


def test_a_cpu_is_asked_for_float32_sums_of_bfloat16_and_no_other_platform_is():
  asked = "preferred_element_type=float32"
  assert program("bfloat16").count(asked) == 3  # forward, and both gradients
  for platform in ("tpu", "cuda"):
    device = AbstractDevice(device_kind="some", num_cores=None, platform=platform)
    with use_abstract_mesh(AbstractMesh((1,), ("data",), abstract_device=device)):
      text = program("bfloat16")
    assert asked not in text and "custom_vjp" not in text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradients_are_those_of_float32_up_to_one_rounding(dtype):
  x, w = arrays(dtype)
  weights = jnp.arange(3 * 5 * 4 * 8, dtype=jnp.float32).reshape(3, 5, 4, 8) / 480

  def loss(product, x, w):
    return (product(EQUATION, x, w).astype(jnp.float32) * weights).sum()

  wide = [a.astype("float32") for a in (x, w)]
  found = product(EQUATION, x, w), *jax.grad(lambda x, w: loss(product, x, w), argnums=(0, 1))(x, w)
  exact = jnp.einsum(EQUATION, *wide), *jax.grad(lambda x, w: loss(jnp.einsum, x, w), argnums=(0, 1))(*wide)
  for mine, right in zip(found, exact, strict=True):
    assert mine.dtype == x.dtype
    np.testing.assert_allclose(np.float32(mine), right, atol=2 * 2**-8 * np.abs(right).max())


@pytest.mark.parametrize(
  ("equation", "inputs", "outputs"),
  [("...d,df->...f", (48,), (80,)), ("...d,dhk->...hk", (48,), (4, 8)), ("...hk,hkd->...d", (4, 8), (48,))],
)
@pytest.mark.parametrize("rows", [(5,), (2, 3)])
def test_a_weight_that_lies_the_other_way_gives_the_same(equation, inputs, outputs, rows):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(*rows, *inputs)), jnp.bfloat16)
  w = jnp.asarray(rng.normal(size=(*inputs, *outputs)), jnp.bfloat16)
  turned = OutIn(jnp.moveaxis(w, range(len(inputs)), range(-len(inputs), 0)))
  found, expected = product(equation, x, turned), product(equation, x, w)
  assert found.shape == (*rows, *outputs) and found.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(found), np.float32(expected), rtol=0.01, atol=0.05)


@pytest.mark.parametrize("rows", [16, 160])
@pytest.mark.parametrize(("equation", "shape"), [("...d,df->...f", (80, 48)), ("...d,dhk->...hk", (4, 8, 48))])
def test_a_cpu_multiplies_such_a_weight_as_it_lies_and_in_bfloat16(equation, shape, rows):
  x, w = jnp.ones((rows, 48)), OutIn(jnp.ones(shape, jnp.bfloat16))
  compiled = jax.jit(lambda x, w: product(equation, x.astype(jnp.bfloat16), w)).lower(x, w).compile().as_text()
  few = r"bf16\[\d+,48\], param_1[.\d]*: bf16\[16,48\]\) -> f32\[\d+,16\]"  # what is packed comes right
  many = r"bf16\[160,48\], param_1[.\d]*: bf16\[\d+,48\]\) -> f32\[160,"
  assert re.search(few if rows == 16 else many, compiled), compiled
  assert not re.search(r"\[48,\d+\]\S* (transpose|copy)\(", compiled)


@pytest.mark.parametrize("size", [(576, 1536), (130, 70)])
def test_a_row_of_such_a_product_is_the_same_bits_in_any_company(size):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(200, size[0])), jnp.bfloat16)
  w = OutIn(jnp.asarray(rng.normal(size=size[::-1]), jnp.bfloat16))
  multiply = jax.jit(lambda x, w: product("...d,df->...f", x, w))
  together = np.float32(multiply(x, w))
  for rows in (4, 7, 64, 65, 128):
    np.testing.assert_array_equal(np.float32(multiply(x[:rows], w)), together[:rows])


def test_a_bfloat16_cache_gives_back_what_was_written():
  config = DecoderConfig(
    vocab_size=8, embed=8, layers=1, heads=2, kv_heads=2, head_dim=4, mlp=8, dtype="bfloat16", param_dtype="bfloat16"
  )
  [(keys, _)] = cache.init(config, 5, 7)
  new = jnp.asarray(np.random.default_rng(0).integers(-8, 8, (5, 2, 4)), "bfloat16")
  positions = np.array([0, 6, 3, 3, 1])
  found = np.float32(cache.numbers(jax.jit(cache.write)(keys, new, positions), "bfloat16"))
  expected = np.zeros((5, 2, 7, 4), np.float32)
  expected[np.arange(5), :, positions] = np.float32(new)
  np.testing.assert_array_equal(found, expected)
