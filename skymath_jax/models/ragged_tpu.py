"""Decode attention whose cost follows each slot's own length, for TPUs: a Pallas kernel over the flat cache.

One step of the grid takes one block of one slot's positions, all heads of it: a block lies in memory as one piece. The
index of a block stops at the slot's last one, and a block that is there already is not fetched again: so a slot of 300
tokens costs the reading of 300, whatever the others hold. Keys and values may be 8-bit (`cache.Int8`): half of that.
"""

import functools
import math
from typing import Any

import jax
from jax import numpy as jnp
from jax.experimental import pallas as pl

from skymath_jax import sharding
from skymath_jax.models.cache import LANES, Int8

STEP = 0.24e-6  # seconds that a step of the grid costs by itself, whatever its block holds (bench tpu_decode_kernel)
MAX_BLOCK = 2048  # positions
INTERPRET = False  # tests run the kernel's arithmetic without a TPU
MASKED = -1e30


def fits(head_dim: int, keys: Any) -> bool:
  """Whether the kernel takes keys `[slots max_length kv_heads × head_dim]` of such heads on the platform at hand."""
  length = jax.tree.leaves(keys)[0].shape[1]
  return (INTERPRET or sharding.platform() == "tpu") and head_dim % LANES == 0 and length % LANES == 0


def attention(
  q: jax.Array, keys: Any, values: Any, lengths: jax.Array, *, longest: int, window: int | None = None, cap: Any = None
) -> jax.Array:
  """`[slots heads head_dim]`, as `q`: each slot's queries over its first `lengths` `[slots]` positions.

  Args:
    q: already scaled by head_dim ** -0.5.
    keys, values: `[slots max_length kv_heads × head_dim]`, or `Int8` of that.
    lengths: at least 1.
    longest: no length is greater (static).
    window: only so many of the last positions count; None = all.
    cap: bound of the scores (`attention.capped`); None = no bound.
  """
  from jax.experimental.pallas import tpu as pltpu  # an optional extra's: takes time to import

  S, H, D = q.shape
  arrays = (*keys, *values) if isinstance(keys, Int8) else (keys, values)
  room, wide = arrays[0].shape[1:]
  size = block_size(room, wide * arrays[0].dtype.itemsize)
  if not INTERPRET:  # XLA would bring what fits into faster memory before the kernel: all of it, not what is live
    arrays = tuple(pltpu.with_memory_space_constraint(x, pltpu.MemorySpace.HBM) for x in arrays)
  steps = pl.cdiv(longest, size)
  if window is not None:
    steps = min(steps, pl.cdiv(window - 1, size) + 1)

  def block(s: Any, b: Any, lengths: Any) -> Any:
    return jnp.minimum(_first(lengths[s], size, window) + b, (lengths[s] - 1) // size)

  numbers = pl.BlockSpec((None, size, wide), lambda s, b, n: (s, block(s, b, n), 0))
  scale = pl.BlockSpec((None, wide // D, pl.cdiv(room, LANES), LANES), lambda s, b, n: (s, 0, 0, 0))  # of the slot
  one_a_head = pltpu.VMEM((H, LANES), jnp.float32)  # in all lanes
  one = pl.BlockSpec((None, H, D), lambda s, b, n: (s, 0, 0))
  return pl.pallas_call(
    functools.partial(_kernel, kv_heads=wide // D, size=size, window=window, cap=cap),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(S, steps),
      in_specs=[one, *((numbers, scale) * 2 if isinstance(keys, Int8) else (numbers, numbers))],
      out_specs=one,
      scratch_shapes=[pltpu.VMEM((H, wide), q.dtype), pltpu.VMEM((H, wide), jnp.float32), one_a_head, one_a_head],
    ),
    out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
    interpret=INTERPRET,
    name="ragged_decode",
  )(lengths.astype(jnp.int32), q, *arrays)


def block_size(room: int, row_bytes: int) -> int:
  """Positions of a block: the most that divide the room, and whose keys have at most `block_bytes`."""
  most = max(LANES, min(MAX_BLOCK, block_bytes() // row_bytes))
  return next(n for n in range(most // LANES * LANES, 0, -LANES) if room % n == 0)


def block_bytes() -> int:
  """Bytes of a block's keys, and of its values, that one core reads in no less time than a step costs: a power of two.

  More would be read in vain: half a block of each slot is, on average.
  """
  from jax.experimental.pallas import tpu as pltpu

  return 2 ** math.ceil(math.log2(pltpu.get_tpu_info().mem_bw_bytes_per_second * STEP / 2))


def _first(length: Any, size: int, window: int | None) -> Any:
  """The first block with a position that counts."""
  return 0 if window is None else jnp.maximum(length - window, 0) // size


def _kernel(
  lengths_ref: Any, q_ref: Any, *refs: Any, kv_heads: int, size: int, window: int | None, cap: float | None
) -> None:
  """One block of one slot; `refs` are keys and values (with their scales behind them), the result, and what is kept.

  A head's query stands at its own place of a row as wide as a token's keys, zeros at the others': one product takes the
  keys as they lie, and costs what the heads' own would, for it is the keys that are loaded into the matrix unit.
  """
  *parts, out_ref, rows_ref, summed_ref, highest_ref, total_ref = refs
  heads, head_dim = q_ref.shape
  n, start = lengths_ref[pl.program_id(0)], pl.program_id(1) * size
  start += _first(n, size, window) * size

  def own(x: jax.Array) -> jax.Array:
    """`x` `[heads kv_heads × head_dim]` with zeros wherever it is not the head's own part."""
    head, place = (jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    return jnp.where(head // (heads // kv_heads) == place // head_dim, x, 0.0)

  def numbers(which: int) -> tuple[jax.Array, Any]:
    """Keys (0) or values (1) in the queries' type, and the scale of each head's `[heads size]`."""
    if len(parts) == 2:
      return parts[which][...].astype(rows_ref.dtype), 1.0
    tile, scales = start // LANES, parts[2 * which + 1]
    scale = jnp.concatenate([scales[:, tile + i, :] for i in range(size // LANES)], axis=1)  # [kv_heads size]
    each = [jnp.broadcast_to(scale[k : k + 1], (heads // kv_heads, size)) for k in range(kv_heads)]
    return parts[2 * which][...].astype(rows_ref.dtype), jnp.concatenate(each, axis=0)

  @pl.when(pl.program_id(1) == 0)
  def _() -> None:
    rows = jnp.concatenate([q_ref[...].astype(jnp.float32)] * kv_heads, axis=1)
    rows_ref[...] = own(rows).astype(rows_ref.dtype)
    summed_ref[...] = jnp.zeros_like(summed_ref)
    highest_ref[...] = jnp.full_like(highest_ref, MASKED)
    total_ref[...] = jnp.zeros_like(total_ref)

  @pl.when(start < n)
  def _() -> None:
    position = start + jax.lax.broadcasted_iota(jnp.int32, (heads, size), 1)
    seen = position < n if window is None else (position < n) & (position >= n - window)
    _add(numbers(0), numbers(1), seen, cap, rows_ref, summed_ref, highest_ref, total_ref)

  @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
  def _() -> None:
    found = own(summed_ref[...] / total_ref[:, :1])
    out = sum(found[:, k * head_dim : (k + 1) * head_dim] for k in range(kv_heads))
    out_ref[...] = jnp.asarray(out).astype(out_ref.dtype)


def _add(
  keys: tuple[jax.Array, Any], values: tuple[jax.Array, Any], seen: jax.Array, cap: float | None, *kept: Any
) -> None:
  """A block of `(numbers [size wide], scales [heads size])` to what is kept, by a running maximum and sum."""
  rows_ref, summed_ref, highest_ref, total_ref = kept
  over_embed = (((1,), (1,)), ((), ()))
  scores = jax.lax.dot_general(rows_ref[...], keys[0], over_embed, preferred_element_type=jnp.float32) * keys[1]
  scores = jnp.where(seen, scores if cap is None else cap * jnp.tanh(scores / cap), MASKED)
  before = highest_ref[...]
  highest = jnp.maximum(before, scores.max(axis=1, keepdims=True))
  weights = jnp.where(seen, jnp.exp(scores - highest[:, :1]), 0.0)
  shrink = jnp.exp(before - highest)
  highest_ref[...] = highest
  total_ref[...] = total_ref[...] * shrink + weights.sum(axis=1, keepdims=True)
  added = jnp.dot((weights * values[1]).astype(values[0].dtype), values[0], preferred_element_type=jnp.float32)
  summed_ref[...] = summed_ref[...] * shrink[:, :1] + added
