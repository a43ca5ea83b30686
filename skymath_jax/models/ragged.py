"""Decode attention whose cost follows each slot's own length, for GPUs: a Pallas (Triton) kernel, and cuDNN's.

One program handles one slot and one key-value head: it walks over the live part of the slot in blocks with a running
maximum and sum (flash attention with one query), so that a slot of 300 tokens costs 300 whatever the others hold, and
an idle one costs nothing. Keys and values may be 8-bit with a scale per token, or lie inside a sliding window.
"""

import functools
import math
from typing import Any

import jax
from jax import numpy as jnp
from jax.experimental import pallas as pl

from skymath_jax.models.cache import Int8

BLOCK, WARPS, STAGES = 32, 2, 4  # the best of seven tilings on an H200 (performance notes, section C)
MIN_ROWS = 16  # a Triton matrix product has no fewer rows; queries of one head group are padded to it
INTERPRET = False  # tests run the kernel's arithmetic without a GPU
MASKED = -1e30


def attention(q: jax.Array, keys: Any, values: Any, lengths: jax.Array, *, window: int | None = None) -> jax.Array:
  """`[slots kv_heads group head_dim]`, as `q`: each slot's queries over its first `lengths` `[slots]` positions.

  Args:
    q: already scaled by head_dim ** -0.5.
    keys, values: `[slots kv_heads max_length head_dim]`, or `Int8`; max_length is a multiple of BLOCK.
    window: only so many of the last positions count; None = all.
  """
  S, K, G, D = q.shape
  arrays = (*keys, *values) if isinstance(keys, Int8) else (keys, values)
  rows = max(MIN_ROWS, pl.next_power_of_2(G))
  padded = jnp.pad(q, ((0, 0), (0, 0), (0, rows - G), (0, 0)))

  def one(*shape: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, *shape), lambda s, h: (s, h, *(0 for _ in shape)))

  specs = [pl.BlockSpec((None,), lambda s, h: (s,)), one(rows, D), *(one(*x.shape[2:]) for x in arrays)]
  kernel = functools.partial(_kernel, window=window)
  out = pl.pallas_call(
    kernel,
    grid=(S, K),
    in_specs=specs,
    out_specs=one(rows, D),
    out_shape=jax.ShapeDtypeStruct(padded.shape, q.dtype),
    interpret=INTERPRET,
    name="ragged_decode",
    **_compiler_parameters(),
  )(lengths, padded, *arrays)
  return out[:, :, :G]


def _compiler_parameters() -> dict[str, Any]:
  if INTERPRET:
    return {}
  from jax.experimental.pallas import triton  # needs a GPU build

  return {"compiler_params": triton.CompilerParams(num_warps=WARPS, num_stages=STAGES)}


def _kernel(length_ref: Any, q_ref: Any, *refs: Any, window: int | None) -> None:
  """One slot and key-value head; `refs` are keys and values (with their scales behind them), then the result."""
  *parts, out_ref = refs
  q, n = q_ref[...], length_ref[...]
  rows, D = q.shape

  def load(which: int, at: Any) -> tuple[jax.Array, Any]:
    """A block of keys (0) or values (1) in the queries' type, and its scale per token."""
    if len(parts) == 2:
      return parts[which][at, :].astype(q.dtype), 1.0
    return parts[2 * which][at, :].astype(q.dtype), parts[2 * which + 1][at].reshape(1, BLOCK)

  def body(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    summed, highest, total = carry
    at = pl.ds(i * BLOCK, BLOCK)
    k, k_scale = load(0, at)
    v, v_scale = load(1, at)
    scores = jnp.dot(q, k.T, preferred_element_type=jnp.float32) * k_scale
    position = i * BLOCK + jnp.arange(BLOCK)
    seen = position < n if window is None else (position < n) & (position >= n - window)
    scores = jnp.where(seen[None, :], scores, MASKED)
    new = jnp.maximum(highest, scores.max(axis=1))
    weights = jnp.where(seen[None, :], jnp.exp(scores - new[:, None]), 0.0)
    shrink = jnp.exp(highest - new)
    add = jnp.dot((weights * v_scale).astype(v.dtype), v, preferred_element_type=jnp.float32)
    return summed * shrink[:, None] + add, new, total * shrink + weights.sum(axis=1)

  first = 0 if window is None else jnp.maximum(n - window, 0) // BLOCK
  start = (jnp.zeros((rows, D), jnp.float32), jnp.full((rows,), MASKED, jnp.float32), jnp.zeros((rows,), jnp.float32))
  summed, _, total = jax.lax.fori_loop(first, pl.cdiv(n, BLOCK), body, start)
  out_ref[...] = (summed / jnp.maximum(total, 1e-30)[:, None]).astype(out_ref.dtype)


def cudnn(q: jax.Array, keys: jax.Array, values: jax.Array, lengths: jax.Array) -> jax.Array:
  """The same shapes by cuDNN's kernel for one query per slot; bfloat16 or float16, no window, no 8 bits."""
  # private: the public entry point has no layout with heads before positions, and would copy the cache to get one
  from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention

  S, K, G, D = q.shape
  out = dot_product_attention(
    q.reshape(S, K * G, 1, D),
    keys,
    values,
    q_seqlen=jnp.ones((S,), jnp.int32),
    kv_seqlen=lengths,
    scale=1.0,
    mask_type=MaskType.PADDING,
    qkv_layout="BNTH",
  )
  return out.reshape(S, K, G, D)


def choose(q: jax.Array, keys: Any, window: int | None, cap: float | None = None) -> str:
  """`cudnn`, `pallas`, or `xla`: not on a GPU, on a mesh, for capped scores and for shapes that the kernels refuse."""
  mesh = jax.sharding.get_abstract_mesh()
  if cap is not None:
    return "xla"
  if INTERPRET:
    return "pallas"
  length = jax.tree.leaves(keys)[0].shape[2]
  if jax.default_backend() != "gpu" or (not mesh.empty and mesh.size > 1) or length % BLOCK:
    return "xla"
  plain = not isinstance(keys, Int8) and window is None and q.dtype in (jnp.bfloat16, jnp.float16)
  if plain and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0:
    return "cudnn"
  return "pallas" if math.log2(q.shape[-1]).is_integer() else "xla"
