"""How products with weights are summed: in float32 everywhere, and said so where a processor has to be told.

A CPU multiplies bfloat16 matrices with its own instructions only where the result is asked for in float32 (twice to
eight times the speed); one row alone it does not. TPUs and GPUs sum in float32 whatever the type of the result, and a
float32 result would cost them memory traffic, so their programs do not say it.

Sums of float32 over a row are here, too, for the engine wants them in one order (`fixed_order`).
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import jax
from jax import numpy as jnp

from skymath_jax import sharding

FEW_ROWS = 64  # that a CPU packs sooner than a weight; of 128 the result costs more to turn than that saves
_FIXED_ORDER = contextvars.ContextVar("whether sums over rows are made in an order of their own", default=False)


@contextlib.contextmanager
def fixed_order(fixed: bool) -> Iterator[None]:
  """Functions traced in the block sum each row in the same order, however many rows there are.

  XLA's sums on a CPU are not like that: a row's last bit depends on its company, and once in some hundred answers a
  drawn token with it.
  """
  token = _FIXED_ORDER.set(fixed)
  try:
    yield
  finally:
    _FIXED_ORDER.reset(token)


def row_sums(x: jax.Array) -> jax.Array:
  """Sums over the last axis of float32 x `[... n]`, which stays as 1."""
  if not _FIXED_ORDER.get():
    return jnp.sum(x, axis=-1, keepdims=True)
  length = 1 << (x.shape[-1] - 1).bit_length()
  x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])])
  while length > 1:
    length //= 2
    x = jax.lax.optimization_barrier(x[..., :length] + x[..., length:])  # fused, they would be one huge expression
  return x


def mean_square(x: jax.Array, axes: int) -> jax.Array:
  """Of float32 x `[... n]` over its last `axes`, which stay as 1."""
  if not _FIXED_ORDER.get():
    return jnp.mean(jnp.square(x), axis=tuple(range(-axes, 0)), keepdims=True)
  flat = jnp.square(x).reshape(*x.shape[: x.ndim - axes], -1)
  return (row_sums(flat) / flat.shape[-1]).reshape(*x.shape[: x.ndim - axes], *(1,) * axes)


def softmax(x: jax.Array) -> jax.Array:
  """Over the last axis of float32 x `[... n]`."""
  if not _FIXED_ORDER.get():
    return jax.nn.softmax(x, axis=-1)
  x = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
  return x / row_sums(x)


class LowRank(NamedTuple):
  """The weight w + scale · a·b, never added up: w is `[in out]`, a `[in rank]`, b `[rank out]`."""

  w: jax.Array
  a: jax.Array
  b: jax.Array
  scale: float


class OutIn(NamedTuple):
  """A weight w `[out in]`, which a CPU need not turn for the product; only for inference."""

  w: jax.Array


Weight: TypeAlias = jax.Array | LowRank | OutIn


def product(equation: str, x: jax.Array, w: Weight) -> jax.Array:
  """`einsum(equation, x, w)` of activations x `[... in]` and weights w `[in out]`, in the dtype of `x`."""
  if isinstance(w, LowRank):
    down, up = _factors(equation)
    return product(equation, x, w.w) + w.scale * product(up, product(down, x, w.a), w.b)
  if isinstance(w, OutIn):
    inputs = len(equation.split(",")[0].removeprefix("..."))
    matrix = w.w.reshape(-1, math.prod(w.w.shape[-inputs:]))  # of more axes XLA would turn them itself
    y = of_out_in(x.reshape(*x.shape[:-inputs], -1), matrix).astype(x.dtype)
    return y.reshape(*x.shape[:-inputs], *w.w.shape[:-inputs])
  if wide_sums(x.dtype):
    return _wide(equation, x, w)
  return jnp.einsum(equation, x, w.astype(x.dtype))


def of_out_in(x: jax.Array, w: jax.Array) -> jax.Array:
  """Float32 `[... out]` of x `[... in]` and w `[out in]`, multiplied in the dtype of `x`.

  A CPU packs the right one of two bfloat16 matrices for each product. Few rows are packed sooner than a weight, so they
  come right (`benchmarks/cpu_products.py`).
  """
  rows, w = math.prod(x.shape[:-1]), w.astype(x.dtype)
  if wide_sums(x.dtype) and rows <= FEW_ROWS:
    y = jnp.einsum("oi,ri->or", w, x.reshape(rows, x.shape[-1]), preferred_element_type=jnp.float32)
    y = jax.lax.optimization_barrier(y).T  # without it XLA would swap them again
    return y.reshape(*x.shape[:-1], w.shape[0])
  return jnp.einsum("...i,oi->...o", x, w, preferred_element_type=jnp.float32)


def _factors(equation: str) -> tuple[str, str]:
  """One product with two factors as two: "...d,dhk->...hk" → "...d,dr->...r" and "...r,rhk->...hk"."""
  terms, result = equation.split("->")
  left, right = terms.split(",")
  outputs = result.removeprefix("...")
  inputs = "".join(axis for axis in right if axis not in outputs)
  return f"{left},{inputs}r->...r", f"...r,r{outputs}->{result}"


def wide_sums(dtype: jnp.dtype) -> bool:
  """Whether a product of this dtype is to be asked for in float32, where the program at hand will run."""
  return dtype == jnp.bfloat16 and sharding.platform() == "cpu"


def summed(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """`einsum` of x `[... in]` and y `[in out]` of one dtype, in that dtype; not for differentiation."""
  if wide_sums(x.dtype):
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32).astype(x.dtype)
  return jnp.einsum(equation, x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wide(equation: str, x: jax.Array, w: jax.Array) -> jax.Array:
  return summed(equation, x, w.astype(x.dtype))


def _forward(equation: str, x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _wide(equation, x, w), (x, w)


def _backward(
  equation: str, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """JAX's own rule would ask for bfloat16 results again."""
  x, w = residuals
  terms, result = equation.split("->")
  left, right = terms.split(",")
  to_x = summed(f"{result},{right}->{left}", cotangent, w.astype(x.dtype))
  to_w = jnp.einsum(f"{left},{result}->{right}", x, cotangent, preferred_element_type=jnp.float32)
  return to_x, to_w.astype(w.dtype)


_wide.defvjp(_forward, _backward)
