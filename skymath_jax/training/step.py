"""One optimizer step as one pure function: sums over all micro-batches, one division, clip, update, finite check::

optimizer = make(settings)
graph, state = init(decoder, optimizer)
state, metrics = train_step(state, batch, learning_rate, graph=graph, optimizer=optimizer, loss_chunk=2048)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from skymath_jax.training import loss as loss_lib


class TrainState(NamedTuple):
  """`params` is an `nnx.State`; `step` (int32) counts the batches that were read."""

  params: Any
  opt_state: Any
  step: jax.Array


class Metrics(NamedTuple):
  """Float32 scalars of one step. `finite` is False where loss or gradient was not, and then nothing was updated."""

  loss: jax.Array
  grad_norm: jax.Array
  finite: jax.Array


def init(decoder: Any, optimizer: optax.GradientTransformation) -> tuple[nnx.GraphDef, TrainState]:
  """The decoder's structure, and a state that shares its arrays."""
  graph, params = nnx.split(decoder, nnx.Param)
  return graph, TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def loss_and_gradient(
  params: Any, batch: Mapping[str, jax.Array], *, graph: nnx.GraphDef, loss_chunk: int
) -> tuple[jax.Array, Any]:
  """Σ weight · nll / Σ weight over ALL micro-batches, and its gradient; both 0 where no token has weight.

  The denominator is known before the first backward pass, so each micro-batch contributes its exact share whatever
  its number of trained tokens. The gradient is summed in the parameters' dtype (float32).

  Args:
    params: `nnx.State`.
    batch: arrays `[micro_batches rows length]`.
    graph: from `nnx.split`.
    loss_chunk: see `loss.weighted_sum`.
  """
  weight = jnp.sum(loss_lib.target_weights(batch))
  share = jnp.where(weight > 0, 1.0 / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny), 0.0)

  def part(params: Any, micro: Mapping[str, jax.Array]) -> jax.Array:
    return share * loss_lib.weighted_sum(nnx.merge(graph, params), micro, loss_chunk=loss_chunk)

  gradient = jax.value_and_grad(part)
  if batch["tokens"].shape[0] == 1:
    return gradient(params, jax.tree.map(lambda x: x[0], batch))

  def add(total: Any, micro: Mapping[str, jax.Array]) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, gradient(params, micro)), None

  zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
  return jax.lax.scan(add, zero, dict(batch))[0]


def step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  learning_rate: jax.Array | float,
  *,
  graph: nnx.GraphDef,
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
  loss, gradient = loss_and_gradient(state.params, batch, graph=graph, loss_chunk=loss_chunk)
  norm = optax.global_norm(gradient)
  direction, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  finite = jnp.isfinite(loss) & jnp.isfinite(norm)

  def keep(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(finite, new, old)

  params = jax.tree.map(lambda p, d: keep((p - learning_rate * d).astype(p.dtype), p), state.params, direction)
  opt_state = jax.tree.map(keep, opt_state, state.opt_state)
  return TrainState(params, opt_state, state.step + 1), Metrics(loss, norm, finite)


_OPTIONS = {"static_argnames": ("graph", "optimizer", "loss_chunk"), "donate_argnames": "state"}
train_step = jax.jit(step, **_OPTIONS)


def sharded(shardings: TrainState) -> Any:
  """`train_step` whose new state lies where the old one did (`shardings`: a tree like the state)."""
  return jax.jit(step, out_shardings=(shardings, None), **_OPTIONS)
