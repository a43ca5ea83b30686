"""Keys and values of past tokens, by slot: one pair of arrays `[slots kv_heads max_length head_dim]` for each layer.

Layers are separate arrays, not one stack: a stack would be sliced, that is copied, at each layer of each step.
"""

from typing import TypeAlias

import jax
from jax import numpy as jnp

from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import constrain

KVCache: TypeAlias = tuple[tuple[jax.Array, jax.Array], ...]  # per layer (keys, values)
AXES = ("slots", "kv_heads", None, None)


def init(config: DecoderConfig, slots: int, max_length: int, dtype: str | None = None) -> KVCache:
  """An empty cache; `dtype` defaults to the compute dtype."""
  shape = (slots, config.kv_heads, max_length, config.head_dim)

  def zeros() -> jax.Array:
    return constrain(jnp.zeros(shape, dtype or config.dtype), *AXES)

  return tuple((zeros(), zeros()) for _ in range(config.layers))


def insert(cache: KVCache, kv: KVCache, slot: jax.Array | int, *, row: jax.Array | int = 0) -> KVCache:
  """Copies row `row` of prefilled `kv` (arrays `[batch length kv_heads head_dim]`) to the start of slot `slot`.

  All `length` positions are copied, padding at the end too: decode overwrites each position before it can see it.
  """

  def put(held: jax.Array, new: jax.Array) -> jax.Array:
    one = jax.lax.dynamic_index_in_dim(new, row, 0, keepdims=True).swapaxes(1, 2)
    return jax.lax.dynamic_update_slice(held, one.astype(held.dtype), (slot, 0, 0, 0))

  return jax.tree.map(put, cache, kv)


def scatter(cache: KVCache, kv: KVCache, slots: jax.Array, positions: jax.Array) -> KVCache:
  """Copies prefilled tokens to (slot, position), both int `[batch length]`; a slot out of range drops the token.

  This takes prompts that were packed end to end: give padding the slot number `slots`, one past the last.
  """

  def put(held: jax.Array, new: jax.Array) -> jax.Array:
    return held.at[slots, :, positions].set(new.astype(held.dtype), mode="drop")

  return jax.tree.map(put, cache, kv)


def write(held: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
  """Puts one token's `new` `[slots kv_heads head_dim]` into a layer's keys or values at `positions` `[slots]`."""
  return held.at[jnp.arange(held.shape[0]), :, positions].set(new.astype(held.dtype), mode="drop")
