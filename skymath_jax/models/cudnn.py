"""Attention on NVIDIA GPUs: cuDNN's fused kernel over the segments of packed rows, with or without a window.

The public `jax.nn.dot_product_attention` knows neither segments nor offsets; the function below it does. It wants a
table of where each segment starts and how long it is, of a fixed number of entries, unused ones -1. Here every run of
equal segment ids is a segment, padding too, so that no output is undefined. Scores are never held.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import per_device, same_place

DTYPES = ("bfloat16", "float16")
MAX_HEAD_DIM, MAX_HEAD_DIM_OF_HOPPER = 128, 256  # as JAX checks; 256 (Gemma) was not run on a card by us
MIN_PACKING_CAPABILITY = (9, 0)  # compute capability (Hopper) from which the kernel takes offsets
MIN_MEAN_SEGMENT = 32  # tokens: rows whose segments have this many on average never run out of table entries
MIN_ENTRIES = 32  # of a table, so that short rows may hold short segments
# Before 0.11.2 JAX computed the offsets of keys with the number of query heads, wrong where they share key heads
GROUPED = jax.__version_info__ >= (0, 11, 2)


def unfit(config: DecoderConfig) -> str | None:
  """Why this kernel cannot serve the config on this machine; None if it can."""
  if config.dtype not in DTYPES:
    return f"it computes in {' or '.join(DTYPES)}, not in {config.dtype}"
  most = MAX_HEAD_DIM_OF_HOPPER if capability() >= MIN_PACKING_CAPABILITY else MAX_HEAD_DIM
  if config.head_dim % 8 or config.head_dim > most:
    return f"its heads have a multiple of 8 and at most {most} dimensions, not {config.head_dim}"
  if config.attention_cap is not None:
    return "it does not cap scores"
  if not capability():
    return "there is no NVIDIA GPU here"
  return None


def capability() -> tuple[int, ...]:
  """Compute capability of this process' GPUs, such as (9, 0); empty where they are not NVIDIA's."""
  device = jax.local_devices()[0]
  if device.platform != "gpu" or "cuda" not in device.client.platform_version:
    return ()
  return tuple(int(part) for part in device.compute_capability.split("."))


def entries(length: int) -> int:
  """How many segments the table of a row of `length` tokens can hold."""
  return min(length, max(MIN_ENTRIES, length // MIN_MEAN_SEGMENT) + 1)


def segment_table(segment_ids: jax.Array, limit: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Where the runs of equal ids in rows `[batch length]` start and how long they are, unused entries -1.

  Returns:
    Starts `[batch limit + 1]` (cuDNN wants one more, which stays -1), lengths `[batch limit]`, and the number of runs
    `[batch]`, which may exceed `limit`: then the last ones are not in the table.
  """
  length = segment_ids.shape[1]
  begins = jnp.concatenate([jnp.ones_like(segment_ids[:, :1], bool), segment_ids[:, 1:] != segment_ids[:, :-1]], axis=1)
  starts = jax.vmap(lambda row: jnp.nonzero(row, size=limit + 1, fill_value=length)[0])(begins).astype(jnp.int32)
  used = starts[:, :-1] < length
  lengths = jnp.where(used, starts[:, 1:] - starts[:, :-1], -1)
  starts = jnp.pad(jnp.where(used, starts[:, :-1], -1), ((0, 0), (0, 1)), constant_values=-1)
  return starts, lengths, begins.sum(axis=1)


def attention(config: DecoderConfig, segment_ids: jax.Array) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
  """The back-end of `attention.BACKENDS` for `segment_ids` `[batch length]`.

  A row with more segments than `entries` becomes NaN rather than wrong.
  """
  from jax._src.cudnn import fused_attention_stablehlo as library  # offsets are not in the public interface

  packs = capability() >= MIN_PACKING_CAPABILITY
  limit = entries(segment_ids.shape[1])

  def packed(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
    starts, lengths, runs = segment_table(segments, limit)
    y = library.dot_product_attention(
      q, k, v,
      q_seqlen=lengths, kv_seqlen=lengths, q_offsets=starts, kv_offsets=starts,
      scale=config.score_scale,
      mask_type=library.MaskType.PADDING_CAUSAL,
      sliding_window_length=config.window,
    )  # fmt: skip
    return jnp.where((runs <= limit)[:, None, None, None], y, jnp.nan)

  def masked(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
    index = jnp.arange(segments.shape[1])
    distance = index[:, None] - index[None, :]
    visible = (distance >= 0) & (distance < (config.window or segments.shape[1]))
    visible = visible & (segments[:, :, None] == segments[:, None, :])
    return library.dot_product_attention(q, k, v, mask=visible[:, None], scale=config.score_scale)

  def call(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    heads, kv = (("batch", "length", axis, "head_dim") for axis in ("heads", "kv_heads"))
    if not same_place("heads", q.shape[2], "kv_heads", k.shape[2]) or (packs and not GROUPED):
      k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
      kv = heads
    rows = per_device(packed if packs else masked, (heads, kv, kv, ("batch", "length")), heads)
    return rows(q, k, v, segment_ids.astype(jnp.int32))

  return call
