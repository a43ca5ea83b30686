"""What lives on the device while a model is served: the slots' state, keys and values of prompts, and their places."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from skymath_jax.models import DecoderConfig, attention, cache
from skymath_jax.models.cache import KVCache
from skymath_jax.sharding import Axes, constrain, named

KV_AXES = (None, None, "kv_heads", None)  # of prefilled keys and values


class State(NamedTuple):
  """What lives on the device. Arrays are `[slots]` but for `cache` and `keys` `[slots 2]`; `remaining` 0 is idle."""

  cache: KVCache
  tokens: jax.Array
  positions: jax.Array
  remaining: jax.Array
  generated: jax.Array
  keys: jax.Array
  temperature: jax.Array
  top_p: jax.Array
  top_k: jax.Array


def idle_state(config: DecoderConfig, slots: int, length: int, kv_dtype: str) -> State:
  """A state with idle slots of `length` positions."""
  held = cache.init(config, slots, length, kv_dtype, flat=attention.uses_flat_cache(config))
  counts = [jnp.zeros((slots,), jnp.int32) for _ in range(4)]
  keys, temperature = jnp.zeros((slots, 2), jnp.uint32), jnp.zeros((slots,), jnp.float32)
  ones = jnp.ones((slots,), jnp.float32)
  return placed(State(held, *counts, keys, temperature, ones, jnp.zeros((slots,), jnp.int32)))


def placed(state: State) -> State:
  """Where the state lives on a mesh, said once, so that each program finds it where the one before has left it."""
  return _by_axes(lambda x, axes: constrain(x, *axes), state)


def places_of(state: State, mesh: jax.sharding.Mesh) -> State:
  """What `placed` says, as shardings, for a state of shapes."""
  return _by_axes(lambda x, axes: named(mesh, *axes, shape=x.shape), state)


def with_places(shapes: Any, places: Any) -> Any:
  """Shapes that know where their arrays live."""
  return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, places)


def kv_placed(kv: KVCache) -> KVCache:
  """Where keys and values of prompts live."""
  return jax.tree.map(lambda x: constrain(x, *KV_AXES), kv)


def _by_axes(function: Callable[[Any, Axes], Any], state: State) -> State:
  """`function(array, its logical axes)` for each array: the cache is cut, the rest is small and copied."""
  held = jax.tree.map(lambda x: function(x, cache.axes_of(x)), state.cache)
  rest = jax.tree.map(lambda x: function(x, (None,) * x.ndim), state._replace(cache=()))
  return rest._replace(cache=held)
