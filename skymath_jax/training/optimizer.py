"""AdamW with warm-up, a schedule, global-norm clipping and no decay of norms, biases and embeddings (Optax)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from skymath_jax.config import Training


def learning_rate(settings: Training, peak: float, steps: int) -> optax.Schedule:
  """Linear from near 0 to the peak over the warm-up, then down to 0 at `steps` (or constant)."""
  warmup = round(settings.warmup_ratio * steps)
  left = max(1, steps - warmup)
  after = {
    "cosine": optax.cosine_decay_schedule(peak, left),
    "linear": optax.linear_schedule(peak, 0.0, left),
    "constant": optax.constant_schedule(peak),
  }[settings.schedule]
  if not warmup:
    return after
  # One step ahead of zero: with a rate of exactly 0 the first batch would be read for nothing.
  rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
  return optax.join_schedules([rise, after], [warmup])


def learning_rates(settings: Training, peak: float, steps: int) -> np.ndarray:
  """The rate of every step, float32 `[steps]`."""
  rates = learning_rate(settings, peak, steps)(np.arange(steps))
  return np.broadcast_to(np.asarray(rates, np.float32), steps)


def decayed(params: Any) -> Any:
  """Tree of booleans: True for matrices; False for norms, biases and the embedding table, by their path."""

  def matrix(path: tuple[Any, ...], _: jax.Array) -> bool:
    name = jax.tree_util.keystr(path).lower()
    return not any(word in name for word in ("norm", "bias", "embedding"))

  return jax.tree_util.tree_map_with_path(matrix, params)


def make(settings: Training) -> optax.GradientTransformation:
  """From gradients to a direction, of which the step takes −learning rate.

  The rate is left to the step's caller: it is not part of the compiled program, so two stages share one, and a skipped
  step does not shift its curve. Equal settings give the same object, which is what `jax.jit` compares.
  """
  beta1, beta2 = settings.betas
  return _adamw(settings.clip, beta1, beta2, settings.epsilon, settings.mu_dtype, settings.weight_decay)


@functools.cache
def _adamw(
  clip: float, beta1: float, beta2: float, epsilon: float, mu_dtype: str, weight_decay: float
) -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon, mu_dtype=jnp.dtype(mu_dtype)),
    optax.add_decayed_weights(weight_decay, mask=decayed) if weight_decay else optax.identity(),
  )
