"""Weights in 8 bits: half the memory and, in decode, half the reading of bfloat16.

Each matrix is rounded symmetrically with one float32 scale per output channel (for the embedding: per token). Norms and
biases stay as they are. The compute dtype does not change; what it costs in quality is measured by
`benchmarks/serving_quality.py`.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
from flax import nnx
from jax import numpy as jnp

# name of a weight → axes that a product with it sums over (the embedding is looked up by row)
CONTRACTED = {
  "q": (0,), "k": (0,), "v": (0,), "o": (0, 1), "gate": (0,), "up": (0,), "down": (0,), "embedding": (1,), "head": (1,),
}  # fmt: skip


class Quantized(NamedTuple):
  """Parameters whose matrices are int8, and a tree of the same form with their scales."""

  values: Any
  scales: Any


Params: TypeAlias = nnx.State[Any, Any] | Quantized


def quantize(params: Any) -> Quantized:
  """Unstacked parameters of a decoder, the matrices rounded to 8 bits."""

  def scale_of(path: Any, w: jax.Array) -> jax.Array:
    names = [key.key for key in path if hasattr(key, "key")]
    axes = next((CONTRACTED[name] for name in names if name in CONTRACTED), None)
    if axes is None:
      return jnp.ones((), jnp.float32)
    return jnp.maximum(jnp.abs(w.astype(jnp.float32)).max(axis=axes, keepdims=True), 1e-12) / 127

  def to_int8(w: jax.Array, scale: jax.Array) -> jax.Array:
    return w if scale.ndim == 0 else jnp.round(w.astype(jnp.float32) / scale).astype(jnp.int8)

  scales = jax.tree_util.tree_map_with_path(scale_of, params)
  return Quantized(jax.tree.map(to_int8, params, scales), scales)


def dequantize(params: Params, dtype: str) -> Any:
  """Parameters as the decoder takes them; those that are not `Quantized` as they come."""
  if not isinstance(params, Quantized):
    return params

  def to_float(w: jax.Array, scale: jax.Array) -> jax.Array:
    return w if w.dtype != jnp.int8 else (w.astype(jnp.float32) * scale).astype(dtype)

  return jax.tree.map(to_float, params.values, params.scales)


def pin_quantized(params: Params, tokens: jax.Array) -> tuple[Params, jax.Array]:
  """Both arguments, tied so that XLA cannot dequantize weights once before a loop that changes `tokens` `[slots]`."""
  return jax.lax.optimization_barrier((params, tokens)) if isinstance(params, Quantized) else (params, tokens)
