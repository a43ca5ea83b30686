"""Frozen weights in 8 or 4 bits: blocks of 64 numbers that share a scale (QLoRA, 2305.14314, section 3).

`int8` rounds evenly; `nf4` to the 16 numbers that hold equal shares of a normal distribution, two in a byte. Blocks lie
along the axis `embed`, which every matrix of a block has, so that a mesh cuts codes and scales alike. Scales are
bfloat16: 8.25 and 4.25 bits a weight. Nothing is trained in these types; products are those of the compute dtype.
"""

import functools
import itertools
import math
import statistics
from typing import Literal, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

Form: TypeAlias = Literal["int8", "nf4"]
BLOCK = 64
BITS: dict[Form, float] = {
  "int8": 8 + 16 / BLOCK,
  "nf4": 4 + 16 / BLOCK,
}  # of one weight, its share of a scale included


def _normal_levels() -> tuple[float, ...]:
  """NF4's 16 levels, ascending: 0, and quantiles of the normal distribution, 7 below and 8 above, scaled to ±1."""
  end = 1 - (1 / 30 + 1 / 32) / 2
  inverse = statistics.NormalDist().inv_cdf
  above = [inverse(p) for p in np.linspace(end, 0.5, 9)[:-1]]
  below = [-inverse(p) for p in np.linspace(end, 0.5, 8)[:-1]]
  return tuple(level / above[0] for level in sorted([*below, 0.0, *above]))


LEVELS = _normal_levels()


class Blockwise(nnx.Module):
  """What stands in a decoder for a weight that it replaces; `[...]` gives its values in float32.

  Args:
    weight: a parameter whose axes are named; one of them is `embed`.
    form: how it is rounded.
  """

  def __init__(self, weight: nnx.Param[jax.Array], form: Form):
    axes: tuple[str, ...] = weight.get_metadata()["out_sharding"]
    self.form = form
    self.axis = axes.index("embed") - len(axes)  # from the end: a scan takes the first one away
    one = functools.partial(_rounded, axis=self.axis, form=form)
    whole = jax.jit(functools.partial(jax.lax.map, one) if axes[0] == "layers" else one)  # a layer at a time
    codes, scales = whole(weight[...])
    self.codes = nnx.Param(codes, out_sharding=axes, eager_sharding=False)
    blocks = tuple("blocks" if axis == "embed" else axis for axis in axes)
    self.scales = nnx.Param(scales, out_sharding=blocks, eager_sharding=False)

  def __getitem__(self, _: object) -> jax.Array:
    codes, scales = self.codes[...], self.scales[...]
    place = codes.ndim + self.axis
    if self.form == "nf4":
      pairs = jnp.stack([codes & 15, codes >> 4], axis=place + 1)
      values = _level(pairs.reshape(*codes.shape[:place], -1, *codes.shape[place + 1 :]))
    else:
      values = codes.astype(jnp.float32)
    scales = jnp.expand_dims(scales.astype(jnp.float32), place + 1)
    return (_in_blocks(values, place, scales.shape[place]) * scales).reshape(values.shape)


def _in_blocks(x: jax.Array, place: int, blocks: int) -> jax.Array:
  """x `[... embed ...]` with that axis cut into `blocks`: `[... blocks block ...]`."""
  return x.reshape(*x.shape[:place], blocks, -1, *x.shape[place + 1 :])


def _rounded(weight: jax.Array, *, axis: int, form: Form) -> tuple[jax.Array, jax.Array]:
  """Codes, for nf4 `[... embed/2 ...]`, and scales `[... blocks ...]` of a weight `[... embed ...]`."""
  place, most = weight.ndim + axis, 127 if form == "int8" else 1
  size = weight.shape[place]
  blocks = _in_blocks(weight.astype(jnp.float32), place, size // math.gcd(size, BLOCK))
  largest = jnp.abs(blocks).max(place + 1, keepdims=True)
  scales = (jnp.maximum(largest, 1e-12) / most).astype(jnp.bfloat16)
  values = (blocks / scales.astype(jnp.float32)).reshape(weight.shape)
  scales = scales.squeeze(place + 1)
  if form == "int8":
    return jnp.clip(jnp.round(values), -most, most).astype(jnp.int8), scales
  between = [(low + high) / 2 for low, high in itertools.pairwise(LEVELS)]
  nearest = sum(((values > bound).astype(jnp.uint8) for bound in between), start=jnp.zeros(values.shape, jnp.uint8))
  pairs = _in_blocks(nearest, place, size // 2)
  even, odd = (jax.lax.index_in_dim(pairs, i, place + 1, keepdims=False) for i in range(2))
  return even | odd << 4, scales


def _level(codes: jax.Array) -> jax.Array:
  """The levels of 4-bit codes `[...]`, by choosing between two at each bit: a TPU looks up far slower."""
  chosen = [jnp.float32(level) for level in LEVELS]
  for bit in range(4):
    high = (codes >> bit & 1).astype(bool)
    chosen = [jnp.where(high, b, a) for a, b in zip(chosen[::2], chosen[1::2], strict=True)]
  return chosen[0]
