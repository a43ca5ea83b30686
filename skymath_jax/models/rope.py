"""Rotary positions in the half-rotation order of Hugging Face checkpoints (Su et al., 2104.09864, section 3.4).

Angles, sines and cosines are float32 and are then cast to the compute dtype, as transformers does, so that bfloat16
logits agree.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp

from skymath_jax.models.config import DecoderConfig, RopeScaling


def linear(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
  """Position interpolation (Chen et al., 2306.15595): all angles, `[head_dim / 2]`, shrink by one factor."""
  return frequencies / scaling.factor


def llama3(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
  """Llama 3.1's rule for `[head_dim / 2]` angles: short wavelengths stay, long ones shrink, others are blended."""
  wavelengths = 2 * math.pi / frequencies
  low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
  keep = np.clip((scaling.original_positions / wavelengths - low) / (high - low), 0.0, 1.0)
  return (1 - keep) * frequencies / scaling.factor + keep * frequencies


SCALINGS = {"linear": linear, "llama3": llama3}


def frequencies(config: DecoderConfig) -> np.ndarray:
  """Radians per position of each pair of dimensions, float32 `[head_dim / 2]`."""
  exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim
  plain = 1.0 / config.rope_theta**exponents
  scaling = config.rope_scaling
  return (plain if scaling is None else SCALINGS[scaling.kind](plain, scaling)).astype(np.float32)


def rotation(config: DecoderConfig, positions: jax.Array) -> Callable[[jax.Array], jax.Array]:
  """A function that rotates queries or keys `[..., heads, head_dim]` by int `positions` `[...]`."""
  angles = positions[..., None].astype(jnp.float32) * frequencies(config)
  cosine = jnp.cos(angles).astype(config.dtype)[..., None, :]  # one axis for the heads
  sine = jnp.sin(angles).astype(config.dtype)[..., None, :]

  def rotate(x: jax.Array) -> jax.Array:
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)

  return rotate
