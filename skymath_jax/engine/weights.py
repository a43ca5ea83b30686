"""How an engine keeps a decoder's weights: as they come, in 8 bits, or turned for a CPU.

In 8 bits they are half the memory and, in decode, half the reading of bfloat16. Each matrix is rounded symmetrically
with one float32 scale per output channel (for embedding and head: per token). Norms and biases stay as they are. The
compute dtype does not change; what it costs in quality is measured by `benchmarks/serving_quality.py`.

A CPU multiplies up to some hundred rows with a bfloat16 matrix `[out in]` in half the time that `[in out]` takes, which
it has to turn for each product (`benchmarks/cpu_products.py`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from flax import nnx
from jax import numpy as jnp

from skymath_jax.models import Decoder
from skymath_jax.models.product import OutIn

# name of a weight → axes that a product with it sums over
CONTRACTED = {
  "q": (0,), "k": (0,), "v": (0,), "o": (0, 1), "gate": (0,), "up": (0,), "down": (0,), "embedding": (1,), "head": (1,),
  "expert_gate": (1,), "expert_up": (1,), "expert_down": (1,),
}  # fmt: skip
IN_OUT = tuple(name for name, axes in CONTRACTED.items() if axes[0] == 0)  # those of a layer


class Quantized(NamedTuple):
  """Parameters whose matrices are int8, and a tree of the same form with their scales."""

  values: Any
  scales: Any


class Turned(NamedTuple):
  """Parameters whose matrices are `[out in]`, as the embedding and the head are anyway."""

  values: Any


Params: TypeAlias = nnx.State[Any, Any] | Quantized | Turned


def _contracted(path: Any) -> tuple[int, ...]:
  """The axes that a product with the weight at `path` sums over; none for what is no matrix."""
  names = [key.key for key in path if hasattr(key, "key")]
  return next((CONTRACTED[name] for name in names if name in CONTRACTED), ())


def _each(function: Callable[..., jax.Array], params: Any, *more: Any, give_up: bool) -> Any:
  """`function(path, weight, …)` of every weight, with what trees of the same form hold for it; `give_up` frees each
  weight as soon as it has another form."""

  def one(path: Any, w: jax.Array, *others: Any) -> jax.Array:
    new = function(path, w, *others)
    if give_up and new is not w:
      jax.block_until_ready(new)
      w.delete()
    return new

  return jax.tree_util.tree_map_with_path(one, params, *more)


def quantize(params: Any, *, give_up: bool = False) -> Quantized:
  """Unstacked parameters of a decoder, the matrices rounded to 8 bits; see `_each` for `give_up`."""

  def scale_of(path: Any, w: jax.Array) -> jax.Array:
    axes = _contracted(path)
    return _scale(w, axes=axes) if axes else jnp.ones((), jnp.float32)

  def to_int8(_: Any, w: jax.Array, scale: jax.Array) -> jax.Array:
    return _rounded(w, scale) if scale.ndim else w

  scales = jax.tree_util.tree_map_with_path(scale_of, params)
  return Quantized(_each(to_int8, params, scales, give_up=give_up), scales)


# compiled, that no float32 copy of a whole embedding is made
@functools.partial(jax.jit, static_argnames="axes")
def _scale(w: jax.Array, *, axes: tuple[int, ...]) -> jax.Array:
  return jnp.maximum(jnp.abs(w.astype(jnp.float32)).max(axis=axes, keepdims=True), 1e-12) / 127


@jax.jit
def _rounded(w: jax.Array, scale: jax.Array) -> jax.Array:
  return jnp.round(w.astype(jnp.float32) / scale).astype(jnp.int8)


def turn(params: Any, *, give_up: bool = False) -> Turned:
  """Unstacked parameters of a decoder, the matrices of its layers as `[out in]`; see `_each` for `give_up`."""

  def turned(path: Any, w: jax.Array) -> jax.Array:
    axes = _contracted(path)
    return jnp.moveaxis(w, axes, range(-len(axes), 0)) if axes[:1] == (0,) else w

  return Turned(_each(turned, params, give_up=give_up))


class _OutIn:
  """Stands where a layer has a parameter, for its value `[out in]`."""

  def __init__(self, w: jax.Array):
    self._w = w

  def __getitem__(self, _: object) -> OutIn:
    return OutIn(self._w)


def decoder(graph: nnx.GraphDef[Decoder], params: Params, dtype: str) -> Decoder:
  """The model, whatever form its weights are kept in: inside the program that uses it, where XLA fuses what is done."""
  if isinstance(params, Quantized):
    return nnx.merge(graph, _to_float(params, dtype))
  if not isinstance(params, Turned):
    return nnx.merge(graph, params)
  model = nnx.merge(graph, params.values)
  layers: Any = model.layers  # one by one, as they are served
  for block in layers:
    for name in IN_OUT:
      if hasattr(block, name):  # a layer of experts has no gate, up and down
        setattr(block, name, _OutIn(getattr(block, name)[...]))
  return model


def _to_float(params: Quantized, dtype: str) -> Any:
  def one(w: jax.Array, scale: jax.Array) -> jax.Array:
    return w if w.dtype != jnp.int8 else (w.astype(jnp.float32) * scale).astype(dtype)

  return jax.tree.map(one, params.values, params.scales)


def pinned(params: Params, tokens: jax.Array) -> tuple[Params, jax.Array]:
  """Both arguments, tied so that XLA cannot dequantize weights once before a loop that changes `tokens` `[slots]`."""
  return jax.lax.optimization_barrier((params, tokens)) if isinstance(params, Quantized) else (params, tokens)
