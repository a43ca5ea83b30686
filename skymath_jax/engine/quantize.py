"""Weights in 8 bits: half the memory and, in decode, half the reading of bfloat16.

Each matrix is rounded symmetrically with one float32 scale per output channel (for the embedding: per token). Norms and
biases stay as they are. The compute dtype does not change; what it costs in quality is measured by
`benchmarks/serving_quality.py`.
"""

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

# name of a weight → axes that a product with it sums over (the embedding is looked up by row)
CONTRACTED = {
  "q": (0,), "k": (0,), "v": (0,), "o": (0, 1), "gate": (0,), "up": (0,), "down": (0,), "embedding": (1,), "head": (1,),
}  # fmt: skip


class Narrow(NamedTuple):
  """Parameters with int8 matrices, and a tree of the same form with their scales."""

  values: Any
  scales: Any


def narrowed(params: Any) -> Narrow:
  """Unstacked parameters of a decoder, rounded."""

  def scale_of(path: Any, w: jax.Array) -> jax.Array:
    names = [key.key for key in path if hasattr(key, "key")]
    axes = next((CONTRACTED[name] for name in names if name in CONTRACTED), None)
    if axes is None:
      return jnp.ones((), jnp.float32)
    return jnp.maximum(jnp.abs(w.astype(jnp.float32)).max(axis=axes, keepdims=True), 1e-12) / 127

  def rounded(w: jax.Array, scale: jax.Array) -> jax.Array:
    return w if scale.ndim == 0 else jnp.round(w.astype(jnp.float32) / scale).astype(jnp.int8)

  scales = jax.tree_util.tree_map_with_path(scale_of, params)
  return Narrow(jax.tree.map(rounded, params, scales), scales)


def widened(params: Any, dtype: str) -> Any:
  """Parameters as the decoder takes them; those that are not `Narrow` as they come."""
  if not isinstance(params, Narrow):
    return params

  def wide(w: jax.Array, scale: jax.Array) -> jax.Array:
    return w if w.dtype != jnp.int8 else (w.astype(jnp.float32) * scale).astype(dtype)

  return jax.tree.map(wide, params.values, params.scales)


def kept_narrow(params: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
  """Both arguments, tied together so that XLA cannot widen the weights once before a loop that changes `tokens`."""
  return jax.lax.optimization_barrier((params, tokens)) if isinstance(params, Narrow) else (params, tokens)
