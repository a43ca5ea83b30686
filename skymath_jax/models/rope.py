"""Rotary positions in the half-rotation order of Hugging Face checkpoints (Su et al., 2104.09864, section 3.4).

Angles, sines and cosines are float32 and are then cast to the compute dtype, as transformers does, so that bfloat16
logits agree. Where the angles depend on the length of a text (`dynamic`, `longrope`), each text of a packed row has its
own length; transformers takes the longest of a batch for all.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from skymath_jax.errors import UserError
from skymath_jax.models.config import DecoderConfig, RopeScaling


def linear(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
  """Position interpolation (Chen et al., 2306.15595): all angles, `[rotary_dims / 2]`, shrink by one factor."""
  return frequencies / factor_of(scaling)


def llama3(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
  """Llama 3.1's rule for `[rotary_dims / 2]` angles.

  Wavelengths below original_positions / high_frequency_factor stay, those above original_positions /
  low_frequency_factor are stretched by the factor, others are blended.
  """
  wavelengths = 2 * math.pi / frequencies
  low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
  keep = np.clip((scaling.original_positions / wavelengths - low) / (high - low), 0.0, 1.0)
  return (1 - keep) * frequencies / factor_of(scaling) + keep * frequencies


def yarn(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
  """YaRN (Peng et al., 2309.00071, section 3.2) for `[rotary_dims / 2]` angles.

  Pairs that turn more than `beta_fast` (32) times in original_positions stay, those that turn less than `beta_slow` (1)
  times are stretched by the factor; between the two, counted in pairs (whole ones if `truncate`), they are blended.
  """
  pairs = len(frequencies)
  if pairs == 1:
    return frequencies
  per_pair = -math.log(frequencies[1])  # angles fall by this much, as logarithms, from pair to pair
  low, high = (
    math.log(scaling.original_positions / (turns * 2 * math.pi)) / per_pair
    for turns in (scaling.beta_fast or 32, scaling.beta_slow or 1)
  )
  if scaling.truncate is not False:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, 2 * pairs - 1)
  stretched = np.clip((np.arange(pairs, dtype=np.float32) - low) / ((high - low) or 0.001), 0, 1)
  return stretched * frequencies / factor_of(scaling) + (1 - stretched) * frequencies


SCALINGS = {"linear": linear, "llama3": llama3, "yarn": yarn}


def factor_of(scaling: RopeScaling) -> float:
  """By how much the context is stretched."""
  assert scaling.factor is not None  # `RopeScaling` sees to it
  return scaling.factor


def frequencies(config: DecoderConfig) -> np.ndarray:
  """Radians per position of each pair of dimensions, float32 `[rotary_dims / 2]`, of a text of any length.

  Raises:
    UserError: a kind of scaling that is not known.
  """
  exponents = np.arange(0, config.rotary_dims, 2, dtype=np.float32) / config.rotary_dims
  plain = 1.0 / config.rope_theta**exponents
  scaling = config.rope_scaling
  if scaling is not None and scaling.kind not in SCALINGS:
    remedy = f"use one of {', '.join(SCALINGS)}, dynamic, longrope"
    raise UserError(f"{scaling.kind!r} is not known", where="RopeScaling.kind", remedy=remedy)
  return (plain if scaling is None else SCALINGS[scaling.kind](plain, scaling)).astype(np.float32)


def frequencies_by_length(config: DecoderConfig, lengths: jax.Array) -> jax.Array:
  """`frequencies` of each position, float32 `[... rotary_dims / 2]`, by the `lengths` `[...]` of the texts they are in.

  `dynamic` raises theta so that a text longer than max_positions has its slowest angles stretched as `linear` would;
  `longrope` (Ding et al., 2402.13753) divides by other factors in texts longer than original_positions.
  """
  scaling, dims = config.rope_scaling, config.rotary_dims
  assert scaling is not None
  exponents = np.arange(0, dims, 2, dtype=np.float32) / dims
  if scaling.kind == "longrope":
    short, long = (np.asarray(values, np.float32) for values in (scaling.short_factors, scaling.long_factors))
    factors = jnp.where((lengths > scaling.original_positions)[..., None], long, short)
    return 1.0 / (factors * np.float32(config.rope_theta) ** exponents)
  longer = jnp.maximum(lengths, config.max_positions) / config.max_positions
  factor = factor_of(scaling)
  theta = config.rope_theta * (factor * longer - (factor - 1)) ** (dims / (dims - 2))
  return 1.0 / theta[..., None] ** exponents


def lengths_of(positions: jax.Array) -> jax.Array:
  """Of each token of rows `[batch length]`, one more than the last position of its text, which counts up by ones.

  Of `[slots]`, each the newest token of its text, one more than each.
  """
  if positions.ndim == 1:
    return positions + 1

  def row(positions: jax.Array) -> jax.Array:
    size = positions.shape[0]
    text = jnp.clip(jnp.arange(size) - positions, 0, size - 1)  # where it begins
    return jnp.zeros_like(positions).at[text].max(positions)[text] + 1

  return jax.vmap(row)(positions)


def magnitude(config: DecoderConfig) -> float:
  """What sines and cosines are multiplied by: more than 1 in stretched contexts, which sharpens attention.

  Given as such, or YaRN's 0.1 ln factor + 1 (of `mscale` by that of `mscale_all_dim`), or longrope's
  √(1 + ln factor / ln original_positions), whose factor is by default max_positions / original_positions.
  """
  scaling = config.rope_scaling
  if scaling is None or scaling.kind not in ("yarn", "longrope"):
    return 1.0
  if scaling.magnitude is not None:
    return scaling.magnitude
  factor = scaling.factor or config.max_positions / scaling.original_positions
  if factor <= 1:
    return 1.0
  if scaling.kind == "longrope":
    return math.sqrt(1 + math.log(factor) / math.log(scaling.original_positions))
  if scaling.mscale and scaling.mscale_all_dim:
    return (0.1 * scaling.mscale * math.log(factor) + 1) / (0.1 * scaling.mscale_all_dim * math.log(factor) + 1)
  return 0.1 * math.log(factor) + 1


class Rotation(NamedTuple):
  """What turns queries and keys `[... heads head_dim]` of some tokens."""

  q: Callable[[jax.Array], jax.Array]
  k: Callable[[jax.Array], jax.Array]


def rotation(config: DecoderConfig, positions: jax.Array) -> Rotation:
  """What rotates queries and keys `[..., heads, head_dim]` by int `positions` `[...]`."""
  if config.rotary_dims == 0:
    return Rotation(lambda x: x, lambda x: x)
  scaling = config.rope_scaling
  if scaling is not None and scaling.follows_length:
    angles = positions[..., None].astype(jnp.float32) * frequencies_by_length(config, lengths_of(positions))
  else:
    angles = positions[..., None].astype(jnp.float32) * frequencies(config)
  larger = magnitude(config)

  def table(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    values = function(angles) if larger == 1 else function(angles) * larger
    return values.astype(config.dtype)[..., None, :]  # one axis for the heads

  cosine, sine = table(jnp.cos), table(jnp.sin)
  dims = 2 * angles.shape[-1]

  def rotate(x: jax.Array) -> jax.Array:
    turned, rest = (x, None) if dims == config.head_dim else (x[..., :dims], x[..., dims:])
    first, second = jnp.split(turned, 2, axis=-1)
    parts = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate(parts if rest is None else [*parts, rest], axis=-1)

  if scaling is None or scaling.query_growth is None:
    return Rotation(rotate, rotate)
  grown = 1 + scaling.query_growth * jnp.log1p(jnp.floor(positions / scaling.original_positions))
  grown = grown.astype(config.dtype)[..., None, None]
  return Rotation(lambda x: rotate(x) * grown, rotate)
