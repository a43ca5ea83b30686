"""Keys and values of past tokens, by slot: one pair of arrays `[slots kv_heads max_length head_dim]` for each layer.

Layers are separate arrays, not one stack: a stack would be sliced, that is copied, at each layer of each step. In place
of an array there may be an `Int8`: half the memory and half the reading of bfloat16.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import numpy as jnp

from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import constrain

KVCache: TypeAlias = tuple[tuple[Any, Any], ...]  # per layer (keys, values), each an array or an `Int8`
AXES = ("slots", "kv_heads", None, None)


class Int8(NamedTuple):
  """Keys or values of a layer in 8 bits: `values` int8 `[slots kv_heads max_length head_dim]` times `scale` `[… 1]`."""

  values: jax.Array
  scale: jax.Array


def narrowed(x: jax.Array) -> Int8:
  """`x` `[... head_dim]` rounded to 8 bits with one float32 scale for each vector of head_dim numbers."""
  wide = x.astype(jnp.float32)
  scale = jnp.maximum(jnp.abs(wide).max(axis=-1, keepdims=True), 1e-12) / 127
  return Int8(jnp.round(wide / scale).astype(jnp.int8), scale)


def init(config: DecoderConfig, slots: int, max_length: int, dtype: str | None = None) -> KVCache:
  """An empty cache; `dtype` defaults to the compute dtype, `int8` makes `Int8` pairs."""
  shape = (slots, config.kv_heads, max_length, config.head_dim)

  def zeros(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return constrain(jnp.zeros(shape, dtype), *AXES)

  def held() -> jax.Array | Int8:
    if dtype == "int8":
      return Int8(zeros(shape, jnp.int8), zeros((*shape[:3], 1), jnp.float32))
    return zeros(shape, dtype or config.dtype)

  return tuple((held(), held()) for _ in range(config.layers))


def _put(held: Any, new: jax.Array, update: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
  """`update(array, numbers)` on what is held, with `new` in its number format."""
  if isinstance(held, Int8):
    return Int8(*map(update, held, narrowed(new)))
  return update(held, new.astype(held.dtype))


def insert(
  cache: KVCache, kv: KVCache, slot: jax.Array | int, *, row: jax.Array | int = 0, start: jax.Array | int = 0
) -> KVCache:
  """Copies row `row` of prefilled `kv` (arrays `[batch length kv_heads head_dim]`) to slot `slot` from `start` on.

  All `length` positions are copied, padding at the end too: decode overwrites each position before it can see it. They
  must fit: what would pass the end of the slot is shifted, and overwrites what lies before.
  """

  def put(held: Any, new: jax.Array) -> Any:
    one = jax.lax.dynamic_index_in_dim(new, row, 0, keepdims=True).swapaxes(1, 2)
    return _put(held, one, lambda array, part: jax.lax.dynamic_update_slice(array, part, (slot, 0, start, 0)))

  return jax.tree.map(put, cache, kv, is_leaf=lambda x: isinstance(x, Int8))


def scatter(cache: KVCache, kv: KVCache, slots: jax.Array, positions: jax.Array) -> KVCache:
  """Copies prefilled tokens to (slot, position), both int `[batch length]`; a slot out of range drops the token.

  This takes prompts that were packed end to end: give padding the slot number `slots`, one past the last.
  """

  def put(held: Any, new: jax.Array) -> Any:
    return _put(held, new, lambda array, part: array.at[slots, :, positions].set(part, mode="drop"))

  return jax.tree.map(put, cache, kv, is_leaf=lambda x: isinstance(x, Int8))


def write(held: Any, new: jax.Array, positions: jax.Array) -> Any:
  """Puts one token's `new` `[slots kv_heads head_dim]` into a layer's keys or values at `positions` `[slots]`."""
  slots = jnp.arange(positions.shape[0])
  return _put(held, new, lambda array, part: array.at[slots, :, positions].set(part, mode="drop"))
