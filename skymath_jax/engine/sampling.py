"""From logits to tokens, each row by its own settings and its own random number.

The random number of a row depends on its key and on how many tokens it has so far, never on its slot or neighbours.
A token is drawn by inverting the cumulative distribution, which takes one random number a row (Gumbel noise takes one a
token: 20 times the time on a CPU); top_k and top_p find their threshold by bisection. Nothing is sorted.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from skymath_jax import sharding

EXACT = jax.lax.Precision.HIGHEST  # sums by matrix product must not be rounded to bfloat16


def sample(
  logits: jax.Array,
  keys: jax.Array,
  index: jax.Array,
  temperature: jax.Array,
  top_p: jax.Array,
  top_k: jax.Array,
  mode: jax.Array,
) -> jax.Array:
  """Token ids int32 `[slots]`.

  Args:
    logits: float32 `[slots vocab]`.
    keys: uint32 `[slots 2]`, one threefry key per row.
    index: int32 `[slots]`, number of tokens the row has generated so far.
    temperature, top_p, top_k: `[slots]`; see `generation.Sampling`.
    mode: int32 scalar, the dearest `types.SamplingMode` that a live row needs.
  """

  slots = (logits, keys, index, temperature, top_p, top_k)
  if sharding.platform() != "cpu" or not jax.sharding.get_abstract_mesh().empty:
    return _sample(slots, mode)
  # Slot by slot: how sums of float32 round there depends on how many rows they have, and no slot may draw otherwise in
  # other company
  return jax.lax.map(lambda slot: _sample(jax.tree.map(lambda x: x[None], slot), mode)[0], slots)


def _sample(slots: tuple[jax.Array, ...], mode: jax.Array) -> jax.Array:
  """`sample` of all slots at once."""
  logits, keys, index, temperature, top_p, top_k = slots

  def greedy() -> jax.Array:
    return largest(logits)

  def drawn(choose: Callable[[jax.Array], jax.Array]) -> jax.Array:
    scale = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    probabilities = choose(jax.nn.softmax(logits / scale, axis=-1))
    tokens = draw(probabilities, jax.vmap(_uniform)(keys, index))
    return jax.lax.cond(jnp.all(temperature > 0), lambda: tokens, lambda: jnp.where(temperature > 0, tokens, greedy()))

  # in the order of `SamplingMode`
  branches = (greedy, lambda: drawn(lambda p: p), lambda: drawn(lambda p: filtered(p, top_p, top_k)))
  return jax.lax.switch(mode, branches)


def _uniform(key: jax.Array, index: jax.Array) -> jax.Array:
  key = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), index)
  return jax.random.uniform(key)


def draw(weights: jax.Array, uniform: jax.Array) -> jax.Array:
  """The token int32 `[slots]` at `uniform` `[slots]` in [0, 1) of the cumulated `weights` `[slots vocab]`.

  Sums are made in levels, of blocks, of blocks of blocks and so on, as products with a triangle of ones. Where rounding
  leads to a token of weight 0 (one draw in some millions) the heaviest is taken instead.
  """
  S, V = weights.shape
  size = 32 if V < 4096 else 128
  levels = [_cumulated(weights, size)]
  while levels[-1].shape[1] > 1:
    levels.append(_cumulated(levels[-1][:, :, -1], size))
  target = uniform * levels[-1][:, 0, -1]
  at = jnp.zeros((S,), jnp.int32)  # the block of a level, then what it is of the next one
  for sums in reversed(levels):
    sums = jnp.take_along_axis(sums, at[:, None, None], axis=1)[:, 0]
    target = jnp.minimum(target, sums[:, -1] * (1 - 2.0**-20))  # rounding must not lead past the block
    inside = jnp.minimum(jnp.sum(sums <= target[:, None], axis=1), size - 1)
    before = jnp.take_along_axis(sums, jnp.maximum(inside - 1, 0)[:, None], axis=1)[:, 0]
    target = target - jnp.where(inside > 0, before, 0.0)
    at = at * size + inside
  token = jnp.minimum(at, V - 1)
  hit = jnp.take_along_axis(weights, token[:, None], axis=1)[:, 0] > 0
  token = token.astype(jnp.int32)
  return jax.lax.cond(jnp.all(hit), lambda: token, lambda: jnp.where(hit, token, largest(weights)))


def _cumulated(x: jax.Array, size: int) -> jax.Array:
  """x `[slots n]` in blocks, `[slots blocks size]`, cumulated inside each; the last one is filled with zeros."""
  blocks = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size))).reshape(x.shape[0], -1, size)
  return jnp.einsum("snb,cb->snc", blocks, jnp.tri(size), precision=EXACT)


def largest(x: jax.Array) -> jax.Array:
  """Index int32 `[slots]` of the first of the largest numbers of each row of x `[slots vocab]`."""
  S, V = x.shape
  if sharding.platform() != "cpu" or V < 4096 or not jax.sharding.get_abstract_mesh().empty:
    return jnp.argmax(x, axis=-1).astype(jnp.int32)
  # XLA's argmax on a CPU goes number by number: ten times slower than the maxima of blocks, and those of one block
  blocks = jnp.pad(x, ((0, 0), (0, -V % 128)), constant_values=-jnp.inf).reshape(S, -1, 128)
  block = jnp.argmax(blocks.max(axis=-1), axis=-1)
  inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  return (block * 128 + jnp.argmax(inside, axis=-1)).astype(jnp.int32)


def filtered(probabilities: jax.Array, top_p: jax.Array, top_k: jax.Array) -> jax.Array:
  """`probabilities` `[slots vocab]` with 0 for what top_k, then top_p over the rest, rule out; ties stay."""
  rows, vocab = probabilities.shape
  count = jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab)

  def of_k() -> jax.Array:
    threshold = _largest_threshold(lambda t: jnp.sum(probabilities >= t, axis=-1) >= count, rows)
    return jnp.where(probabilities >= threshold, probabilities, 0.0)

  probabilities = jax.lax.cond(jnp.any(top_k > 0), of_k, lambda: probabilities)  # half the cost, rarely asked for
  # less than everything: rounding must not make the whole mass miss the mark
  mass = jnp.minimum(top_p, 1 - 1e-6) * jnp.sum(probabilities, axis=-1)

  def enough(threshold: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(probabilities >= threshold, probabilities, 0.0), axis=-1) >= mass

  threshold = jnp.where((top_p < 1)[:, None], _largest_threshold(enough, rows), 0.0)
  return jnp.where(probabilities >= threshold, probabilities, 0.0)


def _largest_threshold(holds: Callable[[jax.Array], jax.Array], rows: int) -> jax.Array:
  """The largest float in [0, 1] for which `holds` (true at 0, then false from somewhere on), per row, `[rows 1]`.

  Floats that are not negative are ordered as their bits are: 30 halvings of the range of bits find it exactly.
  """

  def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    low, high = bounds  # holds at low, not at high
    middle = (low + high) // 2
    good = holds(jax.lax.bitcast_convert_type(middle, jnp.float32)[:, None])
    return jnp.where(good, middle, low), jnp.where(good, high, middle)

  one_and_a_bit = jax.lax.bitcast_convert_type(jnp.float32(1.001), jnp.int32)
  low = jnp.zeros((rows,), jnp.int32)
  low, _ = jax.lax.fori_loop(0, 31, halve, (low, jnp.full((rows,), one_and_a_bit)))
  return jax.lax.bitcast_convert_type(low, jnp.float32)[:, None]
