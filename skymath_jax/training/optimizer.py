"""AdamW with warm-up, a schedule, global-norm clipping and no decay of norms, biases and embeddings (Optax)."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from skymath_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
  """`learning_rate` is the peak after warm-up; `clip` 0 turns clipping off; `mu_dtype` is of the first moment only."""

  optimizer: str = "adamw"
  learning_rate: float = 2e-6
  warmup_ratio: float = 0.03
  schedule: str = "cosine"
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8
  weight_decay: float = 0.0
  clip: float = 1.0
  mu_dtype: str = "float32"


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
  """Linear from near 0 to the peak over the warm-up, then down to 0 at `steps` (or constant)."""
  warmup = round(settings.warmup_ratio * steps)
  left = max(1, steps - warmup)
  after = {
    "cosine": optax.cosine_decay_schedule(settings.learning_rate, left),
    "linear": optax.linear_schedule(settings.learning_rate, 0.0, left),
    "constant": optax.constant_schedule(settings.learning_rate),
  }
  if settings.schedule not in after:
    raise UserError(f"no schedule {settings.schedule!r}", where="config.training.schedule", remedy=f"one of {[*after]}")
  if not warmup:
    return after[settings.schedule]
  # One step ahead of zero: with a rate of exactly 0 the first batch would be read for nothing.
  rise = optax.linear_schedule(settings.learning_rate / warmup, settings.learning_rate, max(1, warmup - 1))
  return optax.join_schedules([rise, after[settings.schedule]], [warmup])


def learning_rates(settings: OptimizerSettings, steps: int) -> np.ndarray:
  """The rate of every step, float32 `[steps]`."""
  rates = learning_rate(settings, steps)(np.arange(steps))
  return np.broadcast_to(np.asarray(rates, np.float32), steps)


def decayed(params: Any) -> Any:
  """Tree of booleans: True for matrices; False for norms, biases and the embedding table, by their path."""

  def matrix(path: tuple[Any, ...], _: jax.Array) -> bool:
    name = jax.tree_util.keystr(path).lower()
    return not any(word in name for word in ("norm", "bias", "embedding"))

  return jax.tree_util.tree_map_with_path(matrix, params)


def make(settings: OptimizerSettings) -> optax.GradientTransformation:
  """From gradients to a direction, of which the step takes −learning rate.

  The rate is left to the step's caller: it is not part of the compiled program, so two stages share one, and a skipped
  step does not shift its curve. Equal settings give the same object, which is what `jax.jit` compares.
  """
  if settings.optimizer != "adamw":
    raise UserError(f"no optimizer {settings.optimizer!r}", where="config.training.optimizer", remedy="use adamw")
  s = settings
  return _adamw(s.clip, s.beta1, s.beta2, s.epsilon, s.mu_dtype, s.weight_decay)


@functools.cache
def _adamw(
  clip: float, beta1: float, beta2: float, epsilon: float, mu_dtype: str, weight_decay: float
) -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon, mu_dtype=jnp.dtype(mu_dtype)),
    optax.add_decayed_weights(weight_decay, mask=decayed) if weight_decay else optax.identity(),
  )
