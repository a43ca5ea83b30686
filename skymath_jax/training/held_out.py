"""The loss on examples that are never trained on: one number, the mean over all their trained tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from skymath_jax.training import loss as loss_lib
from skymath_jax.training.examples import Examples
from skymath_jax.training.packing import Packing, Steps


@jax.jit(static_argnames=("graph", "loss_chunk"))
def sums(
  params: Any, batch: Mapping[str, jax.Array], *, graph: nnx.GraphDef, loss_chunk: int
) -> tuple[jax.Array, jax.Array]:
  """(Σ weight · nll, Σ weight) of one batch of arrays `[1 rows length]`."""
  rows = {key: value[0] for key, value in batch.items()}
  total = loss_lib.weighted_sum(nnx.merge(graph, params), rows, loss_chunk=loss_chunk)
  return total, jnp.sum(loss_lib.target_weights(rows))


class HeldOut:
  """The held-out examples, packed once in the shape of a micro-batch.

  Args:
    examples: never trained on.
    packing: of the training steps; its rows and length are taken over.
    put: moves a batch to the devices.
  """

  def __init__(self, examples: Examples, packing: Packing, put: Callable[[dict], dict]):
    rows = packing.rows // packing.micro_batches
    shape = Packing(max_length=packing.max_length, rows=rows, epochs=1, rng_seed=packing.rng_seed)
    self._steps, self._put = Steps(examples, shape), put

  def loss(self, params: Any, *, graph: nnx.GraphDef, loss_chunk: int) -> float:
    """The mean over all trained tokens of all examples: sums are divided once, at the end."""
    found = [
      sums(params, self._put(self._steps[i]), graph=graph, loss_chunk=loss_chunk) for i in range(len(self._steps))
    ]
    total, weight = map(sum, zip(*jax.device_get(found), strict=True))
    return float(total / weight)
