"""One optimizer step as one pure function: sums over all micro-batches, one division, clip, update, finite check::

optimizer = make(settings)
graph, state = init(decoder, optimizer)
state, metrics = train_step(state, batch, learning_rate, graph=graph, optimizer=optimizer, loss_chunk=2048)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from skymath_jax import sharding
from skymath_jax.models import lora
from skymath_jax.training import loss as loss_lib

NOTHING: Any = nnx.State({})


class TrainState(NamedTuple):
  """`params` and `frozen` are `nnx.State`s: what is trained, and what is not, which is nothing without adapters.

  `step` (int32) counts the batches that were read.
  """

  params: Any
  opt_state: Any
  step: jax.Array
  frozen: Any


class Metrics(NamedTuple):
  """Float32 scalars of one step. `finite` is False where loss or gradient was not, and then nothing was updated."""

  loss: jax.Array
  grad_norm: jax.Array
  finite: jax.Array


def init(decoder: Any, optimizer: optax.GradientTransformation) -> tuple[nnx.GraphDef[Any], TrainState]:
  """The decoder's structure, and a state that shares its arrays; `placed` puts them on devices, too."""
  graph, params, frozen = lora.split(decoder)
  return graph, TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), frozen)


def placed(
  decoder: Any, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh | None
) -> tuple[nnx.GraphDef[Any], TrainState, TrainState]:
  """`init` with everything where `sharding.RULES` say: (structure, state, its shardings).

  A decoder of abstract arrays (`nnx.eval_shape`) gives an abstract state, which compiles to the same program.
  """
  graph, params, frozen = lora.split(decoder)
  like = jax.eval_shape(lambda p, f: TrainState(p, optimizer.init(p), jnp.zeros((), jnp.int32), f), params, frozen)
  if mesh is None:  # said explicitly, too: a resumed state, whose place is explicit, would compile a second program
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = jax.tree.map(lambda _: here, like)
  else:
    places = sharding.shardings_of(like, mesh)
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
    state = jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, places)
    return graph, state, places
  params, frozen = sharding.place((params, frozen), (places.params, places.frozen))
  rest = jax.jit(lambda p: (optimizer.init(p), jnp.zeros((), jnp.int32)), out_shardings=(places.opt_state, places.step))
  opt_state, count = rest(params)
  return graph, TrainState(params, opt_state, count, frozen), places


def to_devices(batch: dict[str, np.ndarray], *, mesh: jax.sharding.Mesh | None) -> dict[str, Any]:
  """Arrays `[micro_batches rows length]`, their rows spread over the mesh; without one they are left to `jax.jit`."""
  if mesh is None:
    return batch
  where = sharding.named(mesh, None, "batch", "length", shape=batch["tokens"].shape)
  return {k: jax.make_array_from_callback(v.shape, where, v.__getitem__) for k, v in batch.items()}


def loss_and_gradient(
  params: Any, batch: Mapping[str, jax.Array], frozen: Any = NOTHING, *, graph: nnx.GraphDef[Any], loss_chunk: int
) -> tuple[jax.Array, Any]:
  """Σ weight · nll / Σ weight over ALL micro-batches, and its gradient; both 0 where no token has weight.

  The denominator is known before the first backward pass, so each micro-batch contributes its exact share whatever
  its number of trained tokens. Micro-batches' gradients are summed in float32.

  Differentiating the scan over micro-batches as a whole would not save the second gradient tree (its transpose adds one
  tree to another, too), but would run every forward pass twice.

  Args:
    params: `nnx.State`.
    batch: arrays `[micro_batches rows length]`.
    frozen: `nnx.State` of what has no gradient.
    graph: from `lora.split`.
    loss_chunk: see `loss.weighted_sum`.
  """
  weight = jnp.sum(loss_lib.target_weights(batch))
  share = jnp.where(weight > 0, 1.0 / jnp.maximum(weight, np.finfo(np.float32).tiny), 0.0)

  def part(params: Any, micro: Mapping[str, jax.Array]) -> jax.Array:
    return share * loss_lib.weighted_sum(nnx.merge(graph, params, frozen), micro, loss_chunk=loss_chunk)

  gradient = jax.value_and_grad(part)
  if batch["tokens"].shape[0] == 1:
    return gradient(params, jax.tree.map(lambda x: x[0], batch))

  def add(total: Any, micro: Mapping[str, jax.Array]) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, gradient(params, micro)), None

  zero = (jnp.zeros((), jnp.float32), jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))
  return jax.lax.scan(add, zero, dict(batch))[0]


def step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  learning_rate: jax.Array | float,
  *,
  graph: nnx.GraphDef[Any],
  optimizer: optax.GradientTransformation,
  loss_chunk: int,
) -> tuple[TrainState, Metrics]:
  """`train_step` before `jax.jit`, for callers that compile it with shardings of their own.

  Args:
    state: from `init`; `train_step` donates it.
    batch: `tokens`, `positions`, `segment_ids`, `loss_weights`, each `[micro_batches rows length]`.
    learning_rate: float32 scalar.
    graph: from `init`.
    optimizer: from `optimizer.make`.
    loss_chunk: see `loss.weighted_sum`.
  """
  loss, gradient = loss_and_gradient(state.params, batch, state.frozen, graph=graph, loss_chunk=loss_chunk)
  norm = optax.global_norm(gradient)
  gradient, opt_state, params = jax.tree.map(_to_float32, (gradient, state.opt_state, state.params))
  direction, opt_state = optimizer.update(gradient, opt_state, params)
  params = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)
  finite = jnp.isfinite(loss) & jnp.isfinite(norm)
  old, tree = jax.tree.flatten((state.params, state.opt_state))
  new = jax.tree.leaves((params, opt_state))
  stored = [
    jnp.where(finite, stochastic_round(value, before.dtype, state.step, salt), before)
    for salt, (value, before) in enumerate(zip(new, old, strict=True))
  ]
  params, opt_state = jax.tree.unflatten(tree, stored)
  return TrainState(params, opt_state, state.step + 1, state.frozen), Metrics(loss, norm, finite)


def _to_float32(x: jax.Array) -> jax.Array:
  return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def stochastic_round(x: jax.Array, dtype: Any, step: jax.Array, salt: int) -> jax.Array:
  """`x`, of any shape, in `dtype`; from float32 to bfloat16 by chance, in proportion to the distance: means agree.

  Rounding to the nearest would lose most updates: at 2e-5 a step is smaller than half a bfloat16 digit of a weight of
  0.02, and so is a 1e-3 share of a second moment. The chance is a hash of (step, array, place in it): the same after a
  resume and on every mesh.
  """
  if x.dtype != jnp.float32 or jnp.dtype(dtype) != jnp.bfloat16:
    return x.astype(dtype)
  h = step.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.uint32(salt * 0x85EBCA6B % 2**32)
  for axis, size in enumerate(x.shape):
    h = h * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # MurmurHash3's last mixing
    h = (h ^ (h >> shift)) * jnp.uint32(factor)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + ((h ^ (h >> 16)) & jnp.uint32(0xFFFF))
  return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32).astype(dtype)


_STATIC = ("graph", "optimizer", "loss_chunk")
train_step = jax.jit(step, static_argnames=_STATIC, donate_argnames="state")


def sharded(shardings: TrainState) -> Any:
  """`train_step` whose new state lies where the old one did (`shardings`: a tree like the state)."""
  return jax.jit(step, out_shardings=(shardings, None), static_argnames=_STATIC, donate_argnames="state")
