"""The loss on examples that are never trained on: one number, the mean over all their trained tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from skymath_jax.training import loss as loss_lib
from skymath_jax.training.packing import Steps
from skymath_jax.training.step import TrainState


@jax.jit(static_argnames=("graph", "loss_chunk"))
def sums(
  params: Any, batch: Mapping[str, jax.Array], frozen: Any, *, graph: nnx.GraphDef[Any], loss_chunk: int
) -> tuple[jax.Array, jax.Array]:
  """(Σ weight · nll, Σ weight), float32 scalars, of one batch of arrays `[1 rows length]`."""
  rows = {key: value[0] for key, value in batch.items()}
  total = loss_lib.weighted_sum(nnx.merge(graph, params, frozen), rows, loss_chunk=loss_chunk)
  return total, jnp.sum(loss_lib.target_weights(rows))


def mean_loss(
  state: TrainState,
  steps: Steps,
  put: Callable[[dict[str, np.ndarray]], dict[str, Any]],
  *,
  graph: nnx.GraphDef[Any],
  loss_chunk: int,
) -> float:
  """The mean over all trained tokens of all examples: sums are divided once, at the end.

  Args:
    state: the model as it is now.
    steps: the held-out examples, each batch of arrays `[1 rows length]`.
    put: moves a batch to the devices.
    graph: from `lora.split`.
    loss_chunk: see `loss.weighted_sum`.
  """
  found = [
    sums(state.params, put(steps[i]), state.frozen, graph=graph, loss_chunk=loss_chunk) for i in range(len(steps))
  ]
  total, weight = map(sum, zip(*jax.device_get(found), strict=True))
  return float(total / weight)
