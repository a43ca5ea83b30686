"""Keys and values of past tokens, by slot: one pair of arrays for each layer.

Arrays are `[slots kv_heads max_length head_dim]`, whose heads the kernels of GPUs read one by one; or, on a TPU, with
the heads of a token side by side, `[slots max_length kv_heads × head_dim]` (`flat`). A TPU keeps the last two axes in
tiles, and only of this form do the write of a token and the attention want the same tiles: of the other, XLA makes
copies of the whole cache as a decode call begins and ends, and the attention takes three times as long.

Layers are separate arrays, not one stack: a stack would be sliced, that is copied, at each layer of each step. In place
of an array there may be an `Int8`: half the memory and half the reading of bfloat16.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import numpy as jnp

from skymath_jax.models import product
from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import Axes, constrain

AXES = ("slots", "kv_heads", None, None)
FLAT_AXES = ("slots", None, "kv_heads")
LANES = 128  # of a TPU's tiles


class Int8(NamedTuple):
  """Keys or values of a layer in 8 bits: `values` in either form, times float32 `scale`.

  Scales are `[slots kv_heads max_length]`, beside flat values cut into whole tiles, `[slots kv_heads tiles 128]`: a
  TPU would make eight numbers of each where a device has one head, and writes single ones of the last axis slowly.
  """

  values: jax.Array
  scale: jax.Array


Held: TypeAlias = Any  # keys or values of one layer: an array or an `Int8`, or the shape of one
KVCache: TypeAlias = tuple[tuple[Held, Held], ...]  # per layer (keys, values)


def quantize(x: jax.Array) -> Int8:
  """`x` `[... head_dim]` rounded to 8 bits with one float32 scale `[...]` for each vector of head_dim numbers."""
  wide = x.astype(jnp.float32)
  scale = jnp.maximum(jnp.abs(wide).max(axis=-1), 1e-12) / 127
  return Int8(jnp.round(wide / scale[..., None]).astype(jnp.int8), scale)


def init(
  config: DecoderConfig, slots: int, max_length: int, dtype: str | None = None, *, flat: bool = False
) -> KVCache:
  """An empty cache; `dtype` defaults to the compute dtype, `int8` makes `Int8` pairs."""
  K, D = config.kv_heads, config.head_dim
  shape = (slots, max_length, K * D) if flat else (slots, K, max_length, D)

  def held() -> Held:
    if dtype == "int8":
      lengths = (-(-max_length // LANES), LANES) if flat else (max_length,)
      return Int8(jnp.zeros(shape, jnp.int8), jnp.zeros((slots, K, *lengths), jnp.float32))
    return jnp.zeros(shape, dtype or config.dtype if flat else kept_as(dtype or config.dtype))

  return by_axes(lambda x, axes: constrain(x, *axes), tuple((held(), held()) for _ in range(config.layers)))


def kept_as(dtype: Any) -> Any:
  """What numbers of `dtype` are held as: a CPU writes bfloat16 only as whole numbers of 16 bits.

  Told to put a token's bfloat16 keys into a cache, XLA makes float32 of all of it, and bfloat16 again.
  """
  return jnp.dtype(jnp.uint16 if product.wide_sums(jnp.dtype(dtype)) else dtype)


def numbers(held: jax.Array, dtype: Any) -> jax.Array:
  """An array of keys or values of any shape `[...]` as numbers of `dtype`."""
  return (jax.lax.bitcast_convert_type(held, jnp.bfloat16) if held.dtype == jnp.uint16 else held).astype(dtype)


def is_flat(held: Held) -> bool:
  """Whether the heads of a token lie side by side in these keys or values: `[slots max_length kv_heads × head_dim]`."""
  return jax.tree.leaves(held)[0].ndim == len(FLAT_AXES)


def axes_of(held: Held) -> list[Axes]:
  """The logical axes of each array of keys or values, in either form of the module's first lines."""
  values = FLAT_AXES if is_flat(held) else AXES
  return [values, AXES[: held.scale.ndim]] if isinstance(held, Int8) else [values]


def by_axes(function: Callable[[jax.Array, Axes], Any], cache: KVCache) -> Any:
  """`function(array, its logical axes)` for each array `[slots ...]` of a cache, in a tree like it."""
  leaves, form = jax.tree.flatten(cache)
  axes = [axes for layer in cache for held in layer for axes in axes_of(held)]
  return jax.tree.unflatten(form, map(function, leaves, axes))


def room(cache: KVCache) -> int:
  """Positions of a slot: the size of max_length."""
  return jax.tree.leaves(cache)[0].shape[1 if is_flat(cache) else 2]


def _put(held: Held, new: jax.Array, update: Callable[[jax.Array, jax.Array, bool], jax.Array]) -> Held:
  """`update(array, numbers, flat)` on what is held, with `new` `[... kv_heads head_dim]` in its format and form."""
  flat = is_flat(held)

  def put(array: jax.Array, numbers: jax.Array) -> jax.Array:
    numbers = numbers.astype(array.dtype)
    return update(array, numbers.reshape(*numbers.shape[:-2], -1) if flat else numbers, flat)

  if isinstance(held, Int8):
    values, scale = quantize(new)
    return Int8(put(held.values, values), update(held.scale, scale, flat))
  if held.dtype == jnp.uint16:
    new = jax.lax.bitcast_convert_type(new.astype(jnp.bfloat16), jnp.uint16)
  return put(held, new)


def whole(tiles: jax.Array) -> jax.Array:
  """Scales `[slots kv_heads length]` of tiles `[slots kv_heads tiles 128]`, to the end of the last."""
  return tiles.reshape(*tiles.shape[:2], -1)


def row_of(kv: KVCache, row: jax.Array | int) -> KVCache:
  """One prompt's `[1 length kv_heads head_dim]` of prefilled `kv`, arrays `[batch length kv_heads head_dim]`."""
  return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=True), kv)


def insert(cache: KVCache, kv: KVCache, slot: jax.Array | int, *, start: jax.Array | int = 0) -> KVCache:
  """Copies one prompt's prefilled `kv` (arrays `[1 length kv_heads head_dim]`) to slot `slot` from `start` on.

  All `length` positions are copied, padding at the end too: decode overwrites each position before it can see it. They
  must fit: what would pass the end of the slot is shifted, and overwrites what lies before.
  """

  def update(array: jax.Array, part: jax.Array, flat: bool) -> jax.Array:
    if not flat:
      return jax.lax.dynamic_update_slice(array, part.swapaxes(1, 2), (slot, 0, start, 0)[: array.ndim])
    if array.ndim == len(FLAT_AXES):
      return jax.lax.dynamic_update_slice(array, part, (slot, start, 0))
    tiles = jax.lax.dynamic_index_in_dim(array, slot, 0, keepdims=True)
    scale = jax.lax.dynamic_update_slice(whole(tiles), part.swapaxes(1, 2), (0, 0, start))
    return jax.lax.dynamic_update_slice(array, scale.reshape(tiles.shape), (slot, 0, 0, 0))

  return jax.tree.map(lambda held, new: _put(held, new, update), cache, kv, is_leaf=lambda x: isinstance(x, Int8))


def write(held: Held, new: jax.Array, positions: jax.Array) -> Held:
  """Puts one token's `new` `[slots kv_heads head_dim]` into a layer's keys or values at `positions` `[slots]`."""
  slots = jnp.arange(positions.shape[0])

  def update(array: jax.Array, part: jax.Array, flat: bool) -> jax.Array:
    if not flat:
      return array.at[slots, :, positions].set(part, mode="drop")
    if array.ndim == len(FLAT_AXES):
      return array.at[slots, positions].set(part, mode="drop")
    tile, lane = positions // LANES, positions % LANES
    own = jnp.arange(LANES) == lane[:, None, None]
    return array.at[slots, :, tile].set(jnp.where(own, part[..., None], array[slots, :, tile]), mode="drop")

  return _put(held, new, update)
