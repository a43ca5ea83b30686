"""What lives on the device while a model is served, and the compiled programs that change it.

A slot holds one sequence: its keys and values, the token to be fed next, how many tokens it may still make, and its
sampling settings. `generate` runs several decode steps a call, for all slots at once. Prefill covers all prompt tokens
but the last; the last is fed by the first decode step, so that every new token is sampled in one place.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import sampling, weights
from skymath_jax.engine.weights import Params
from skymath_jax.models import Decoder, DecoderConfig, attention, cache, product
from skymath_jax.models.cache import KVCache
from skymath_jax.sharding import Axes, constrain, named

KV_AXES = (None, None, "kv_heads", None)  # of prefilled keys and values


class State(NamedTuple):
  """What lives on the device; `remaining` 0 is idle.

  Arrays are `[slots]` but for `cache` and `keys` `[slots 2]`; a compact state has only the rows that busy slots need.
  """

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
  return placed(
    State(
      cache=held,
      tokens=jnp.zeros((slots,), jnp.int32),
      positions=jnp.zeros((slots,), jnp.int32),
      remaining=jnp.zeros((slots,), jnp.int32),
      generated=jnp.zeros((slots,), jnp.int32),
      keys=jnp.zeros((slots, 2), jnp.uint32),
      temperature=jnp.zeros((slots,), jnp.float32),
      top_p=jnp.ones((slots,), jnp.float32),
      top_k=jnp.zeros((slots,), jnp.int32),
    )
  )


def placed(state: State) -> State:
  """Where the state lives on a mesh, said once, so that each program finds it where the one before has left it."""
  return _by_axes(lambda x, axes: constrain(x, *axes), state)


def kv_placed(kv: KVCache) -> KVCache:
  """Where keys and values of prompts live."""
  return jax.tree.map(lambda x: constrain(x, *KV_AXES), kv)


def _by_axes(function: Callable[[Any, Axes], Any], state: State) -> State:
  """`function(array, its logical axes)` for each array: the cache is cut, the rest is small and copied."""
  held = cache.by_axes(function, state.cache)
  rest = jax.tree.map(lambda x: function(x, (None,) * x.ndim), state._replace(cache=()))
  return rest._replace(cache=held)


def abstract_state(
  config: DecoderConfig, slots: int, length: int, kv_dtype: str, where: jax.sharding.Mesh | jax.sharding.Sharding
) -> State:
  """`idle_state` as shapes with places: on a mesh, or all on one device."""

  def put(x: jax.ShapeDtypeStruct, axes: Axes) -> jax.ShapeDtypeStruct:
    place = named(where, *axes, shape=x.shape) if isinstance(where, jax.sharding.Mesh) else where
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

  return _by_axes(put, jax.eval_shape(lambda: idle_state(config, slots, length, kv_dtype)))


def abstract_kv(config: DecoderConfig, rows: int, length: int, where: jax.sharding.Mesh | jax.sharding.Sharding) -> Any:
  """What prefill gives, arrays `[rows length kv_heads head_dim]`, as shapes with places."""
  shape = (rows, length, config.kv_heads, config.head_dim)
  place = named(where, *KV_AXES, shape=shape) if isinstance(where, jax.sharding.Mesh) else where
  one = jax.ShapeDtypeStruct(shape, config.dtype, sharding=place)
  return tuple((one, one) for _ in range(config.layers))


TOP = 20  # likeliest tokens that are told
SCORED_AT_ONCE = 64  # tokens whose logits exist at one time


class Programs:
  """The jitted functions of one model shape; parameters are arguments."""

  def __init__(self, config: DecoderConfig, steps: int):
    self.graph = nnx.split(nnx.eval_shape(lambda: Decoder(config)))[0]
    self.config = config
    self.steps = steps
    self.prefill = jax.jit(self._in_any_company(self._prefill))
    self.extend = jax.jit(self._in_any_company(self._extend))
    self.row_of = jax.jit(self._row_of)
    self.insert = jax.jit(self._insert, donate_argnums=0)
    self.context = jax.jit(self._context, static_argnames="length")
    self.gather = jax.jit(self._gather, donate_argnums=0)
    self.resize = jax.jit(self._resize, static_argnames="length")
    self.score = jax.jit(self._score)
    self.by_slot = jax.jit(lambda rows, row_of: rows[row_of])
    self.generate = jax.jit(self._in_any_company(self._generate), static_argnames="length", donate_argnums=1)

  def decoder(self, params: Params) -> Decoder:
    """The model, whatever form its weights are kept in."""
    return weights.decoder(self.graph, params, self.config.dtype)

  def _in_any_company(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced so that a row's numbers do not depend on how many there are, where that number varies."""

    @functools.wraps(function)
    def traced(*words: Any, **more: Any) -> Any:
      with product.fixed_order(product.wide_sums(jnp.dtype(self.config.dtype))):
        return function(*words, **more)

    return traced

  def _prefill(self, params: Params, tokens: jax.Array) -> KVCache:
    """Keys and values of `tokens` `[batch length]`; padding at the end is harmless under causal attention."""
    return kv_placed(self.decoder(params).prefill(tokens))

  def _score(self, params: Params, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What is predicted behind each of `tokens` `[length]`: log-probabilities `[length]` of the next of them, ids and
    log-probabilities `[length TOP]` of the likeliest."""
    decoder = self.decoder(params)

    def one(hidden: jax.Array, following: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
      logprobs = jax.nn.log_softmax(decoder.unembed(hidden))
      top, ids = jax.lax.top_k(logprobs, min(TOP, self.config.vocab_size))
      return logprobs[following], ids, top

    hidden = decoder.hidden(tokens[None])[0]
    return jax.lax.map(lambda x: one(*x), (hidden, jnp.roll(tokens, -1)), batch_size=SCORED_AT_ONCE)

  def _extend(self, params: Params, tokens: jax.Array, context: KVCache, start: jax.Array) -> KVCache:
    """Keys and values of `tokens` `[1 length]`, of which `start` come before: the first that many of `context`."""
    return kv_placed(self.decoder(params).extend(tokens, context, start))

  def _context(self, *, length: int) -> KVCache:
    """Room for the keys and values of `length` tokens of one prompt."""
    shape, config = (1, length, self.config.kv_heads, self.config.head_dim), self.config
    return kv_placed(
      tuple((jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in range(config.layers))
    )

  def _gather(self, context: KVCache, kv: KVCache, row: jax.Array, start: jax.Array) -> KVCache:
    """`context` `[1 length kv_heads head_dim]` with row `row` of `kv` at `start`."""

    def put(held: jax.Array, new: jax.Array) -> jax.Array:
      one = jax.lax.dynamic_index_in_dim(new, row, 0, keepdims=True)
      return jax.lax.dynamic_update_slice(held, one.astype(held.dtype), (0, start, 0, 0))

    return kv_placed(jax.tree.map(put, context, kv))

  def _row_of(self, kv: KVCache, row: jax.Array) -> KVCache:
    """One prompt of several, `[1 length kv_heads head_dim]`: `insert` is not compiled for each number of rows then."""
    return kv_placed(cache.row_of(kv, row))

  def _insert(
    self, state: State, kv: KVCache, slot: jax.Array, start: jax.Array, values: dict[str, jax.Array]
  ) -> State:
    """Fills `slot` from position `start`; `values` holds the new entries of the other fields of the state.

    `kv` is of one row, `[1 length kv_heads head_dim]`.
    """
    fields = {name: getattr(state, name).at[slot].set(value) for name, value in values.items()}
    return placed(state._replace(cache=cache.insert(state.cache, kv, slot, start=start), **fields))

  def _resize(self, state: State, rows: jax.Array | None, *, length: int) -> State:
    """The state with a cache of `length` positions a slot, and of its rows only `rows` `[new]` (-1: an idle one)."""

    def fit(x: jax.Array) -> jax.Array:
      more = max(0, length - x.shape[2])
      return jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0))[: x.ndim])[:, :, :length]

    if rows is not None:
      state = jax.tree.map(lambda x: x[jnp.maximum(rows, 0)], state)
      state = state._replace(remaining=jnp.where(rows < 0, 0, state.remaining))
    return placed(state._replace(cache=jax.tree.map(fit, state.cache)))

  def _generate(
    self, params: Params, state: State, mode: jax.Array, stop_ids: jax.Array, *, length: int
  ) -> tuple[State, jax.Array]:
    """`steps` tokens per slot: the new state and int32 `[slots 2 × steps + 1]`: tokens, validity, tokens so far.

    A stop id is not valid, nor is anything after it or past the slot's share of tokens; all live positions must stay
    below `length`.
    """

    def step(state: State, _: None) -> tuple[State, tuple[jax.Array, jax.Array]]:
      pinned, fed = weights.pinned(params, state.tokens)
      live = state.remaining > 0
      # an idle slot looks at one position and writes to its own start, which is rewritten
      positions = jnp.where(live, state.positions, 0)
      logits, kv = self.decoder(pinned).decode(fed, state.cache, positions, length=length)
      settings = (state.keys, state.generated, state.temperature, state.top_p, state.top_k)
      tokens = sampling.sample(logits, *settings, mode)
      valid = live & ~jnp.isin(tokens, stop_ids)
      state = state._replace(
        cache=kv,
        tokens=jnp.where(live, tokens, state.tokens),
        positions=positions + live,
        remaining=jnp.where(valid, state.remaining - 1, 0),
        generated=state.generated + valid,
      )
      return state, (tokens, valid)

    state, (tokens, valid) = jax.lax.scan(step, state, None, length=self.steps)
    rows = jnp.concatenate([tokens.T, valid.T.astype(jnp.int32), state.generated[:, None]], axis=1)
    return placed(state), rows


programs_of = functools.lru_cache(maxsize=16)(Programs)  # models of one shape share what is compiled
