"""Scaled dot-product attention over packed rows (training, prefill) and over the cache (decode).

The decoder asks once per call for an `attend` closure; masks are thereby built once, outside the layer loop, and a
block knows neither kernel nor platform. Segment ids start at 1, 0 is padding; a query sees keys of its own segment, at
or before its index in the row, and within the window. Softmax is float32 in every back-end.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from skymath_jax.console import log_once
from skymath_jax.errors import UserError
from skymath_jax.models import cache as kv_cache
from skymath_jax.models import cudnn, product, ragged, ragged_tpu
from skymath_jax.models.cache import Held
from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import parts, per_device, same_place

# (queries [batch length heads head_dim], keys, values [batch length kv_heads head_dim]) -> the same shape as queries
Attention: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Attend: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]  # ... and what the caller keeps

MASKED = -1e30  # finite, so that a row without any visible key stays finite too
CPU_SLOTS = 16  # whose keys are multiplied at once: at 128 slots XLA's product of all is four times slower
MIN_QUERY_BLOCK = 128  # queries handled at once by `xla`
MAX_QUERY_BLOCKS = 8  # in a row, which bounds the size of the compiled program


def capped(scores: jax.Array, cap: float | None) -> jax.Array:
  """Scores `[...]` bounded softly to ±cap (Gemma 2); None leaves them."""
  return scores if cap is None else cap * jnp.tanh(scores / cap)


def xla(config: DecoderConfig, segment_ids: jax.Array) -> Attention:
  """Plain einsums in blocks of queries, each over the keys that causality and window leave it: the reference.

  `segment_ids` is `[batch length]`; the result takes q `[batch length heads head_dim]`, k and v with `kv_heads`.
  """
  B, T = segment_ids.shape
  size = max(MIN_QUERY_BLOCK, math.ceil(T / MAX_QUERY_BLOCKS))
  reach = T if config.window is None else config.window - 1
  blocks = [slice(start, min(start + size, T)) for start in range(0, T, size)]
  spans = [slice(max(0, block.start - reach), block.stop) for block in blocks]
  masks = []
  for block, span in zip(blocks, spans, strict=True):
    distance = np.arange(block.start, block.stop)[:, None] - np.arange(span.start, span.stop)[None, :]
    near = (distance >= 0) & (distance <= reach)
    masks.append(near & (segment_ids[:, block, None] == segment_ids[:, None, span]))

  def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    H, K, D = q.shape[2], k.shape[2], q.shape[3]
    # dividing by the sum after the product with v touches head_dim numbers a query instead of all its keys
    q = (q * config.score_scale).reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4)
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    parts = []
    for block, span, mask in zip(blocks, spans, masks, strict=True):
      scores = jnp.einsum("bkgtd,bksd->bkgts", q[:, :, :, block], k[:, :, span], preferred_element_type=jnp.float32)
      scores = jnp.where(mask[:, None, None], capped(scores, config.attention_cap), MASKED)
      weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
      total = weights.sum(axis=-1, keepdims=True)
      y = jnp.einsum("bkgts,bksd->bkgtd", weights.astype(v.dtype), v[:, :, span], preferred_element_type=jnp.float32)
      parts.append((y / total).astype(v.dtype))
    # The name is each back-end's to give, where its own gradient needs the value; given twice it is kept twice
    y = jnp.concatenate(parts, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)
    return checkpoint_name(y, "attended")

  return attention


SPLASH_BLOCK = 128  # rows must be a multiple of it: the lane width of a TPU core
MAX_SPLASH_BLOCK = 512  # queries and keys of one kernel step where the row allows
MAX_BACKWARD_KEYS = 2048  # keys of one block of the backward pass: 4,096 do not fit a v4 core's own 16 MB
QUERY_GRADIENTS = 16  # copies of the queries' gradient that the backward kernel may write; they are summed afterwards
INTERPRET = False  # tests run the kernel's arithmetic without a TPU


def backward_keys(length: int, size: int) -> int:
  """Keys of one block of splash's backward pass, a multiple of `size`, in a row of `length` tokens.

  The pass writes one gradient of all queries for each block of keys: with blocks of a fixed size their memory grows
  with the square of the length (64 copies, 17 GB of one row of 32k with 32 heads).
  """
  blocks = length // size
  several = [n for n in range(1, MAX_BACKWARD_KEYS // size + 1) if blocks % n == 0]
  return size * next((n for n in several if blocks // n <= QUERY_GRADIENTS), several[-1])


def splash(config: DecoderConfig, segment_ids: jax.Array) -> Attention:
  """JAX's Pallas kernel for TPU: never holds the scores, skips blocks that causality or window rule out.

  `segment_ids` is `[batch length]`.
  Rows that are no multiple of 128 tokens (short prefills) take the reference.
  """
  T = segment_ids.shape[1]
  if T % SPLASH_BLOCK:
    return xla(config, segment_ids)
  from jax.experimental.pallas.ops.tpu import splash_attention as library  # an optional extra: takes half a second

  size = next(n for n in range(min(T, MAX_SPLASH_BLOCK), 0, -SPLASH_BLOCK) if T % n == 0)
  blocks = library.BlockSizes(
    block_q=size, block_kv=size, block_kv_compute=size,
    block_q_dkv=size, block_kv_dkv=backward_keys(T, size), block_kv_dkv_compute=size, use_fused_bwd_kernel=True,
  )  # fmt: skip
  mask: Any = library.CausalMask((T, T))
  if config.window is not None:
    mask = library.LocalMask((T, T), (config.window - 1, 0), 0)

  def rows(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
    """One device's share, `[batch length heads head_dim]`."""
    kernel = library.make_splash_mha(
      library.MultiHeadMask([mask] * q.shape[2]),
      block_sizes=blocks,
      head_shards=1,
      q_seq_shards=1,
      attn_logits_soft_cap=config.attention_cap,
      residual_checkpoint_name="attended",  # so that remat `names` keeps the kernel's log-sum-exp too
      interpret=INTERPRET,
    )
    q, k, v = (x.swapaxes(1, 2) for x in (q * config.score_scale, k, v))
    ids = library.SegmentIds(q=segments, kv=segments)
    return jax.vmap(kernel)(q, k, v, ids).swapaxes(1, 2)

  def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    kv = ("batch", "length", "kv_heads", "head_dim")
    if not same_place("heads", q.shape[2], "kv_heads", k.shape[2]):  # each device needs the keys of its own heads
      k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
      kv = ("batch", "length", "heads", "head_dim")
    heads = ("batch", "length", "heads", "head_dim")
    return per_device(rows, (heads, kv, kv, ("batch", "length")), heads)(q, k, v, segment_ids.astype(jnp.int32))

  return attention


BACKENDS: dict[str, Callable[[DecoderConfig, jax.Array], Attention]] = {
  "xla": xla,
  "splash": splash,
  "cudnn": cudnn.attention,
}
AUTO = {"tpu": "splash", "gpu": "cudnn"}  # by platform; all others take the reference


def choose(config: DecoderConfig) -> str:
  """The name of the back-end that `config.attention` stands for on this machine.

  Raises:
    UserError: an unknown name, or a kernel that was asked for and cannot serve this config here.
  """
  if config.attention not in ("auto", *BACKENDS):
    raise UserError(
      f"{config.attention!r} is not known",
      where="DecoderConfig.attention",
      remedy=f"use auto or one of {', '.join(BACKENDS)}",
    )
  platform = jax.default_backend()
  name = config.attention if config.attention != "auto" else AUTO.get(platform, "xla")
  if name == "cudnn" and (reason := cudnn.unfit(config)):
    if config.attention == "cudnn":
      raise UserError(f"cudnn does not fit: {reason}", where="DecoderConfig.attention", remedy="use auto or xla")
    log_once(f"attention holds its scores in memory here, since cuDNN's kernel does not fit: {reason}")
    return "xla"
  return name


def packed(config: DecoderConfig, segment_ids: jax.Array, *, keep_kv: bool = False) -> Attend:
  """Attention within the rows of a batch, `segment_ids` `[batch length]`; `keep_kv` hands out keys and values."""
  attention = BACKENDS[choose(config)](config, segment_ids)

  def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
    return attention(q, k, v), (k, v) if keep_kv else None

  return attend


def continued(config: DecoderConfig, context: tuple[jax.Array, jax.Array], start: jax.Array, length: int) -> Attend:
  """Attention of one row's next `length` tokens over the first `start` of `context`, then over themselves.

  `context` holds keys and values `[1 room kv_heads head_dim]`, of which those from `start` on are ignored.
  """
  before = jnp.arange(context[0].shape[1])
  own = np.arange(length)
  distance = jnp.concatenate([start + own[:, None] - before, jnp.asarray(own[:, None] - own)], axis=1)
  exists = jnp.concatenate(
    [jnp.broadcast_to(before < start, (length, before.size)), jnp.asarray(own[:, None] >= own)], 1
  )
  visible = exists if config.window is None else exists & (distance < config.window)

  def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
    B, T, H, D = q.shape
    keys, values = (jnp.concatenate([old.astype(new.dtype), new], 1) for old, new in zip(context, (k, v), strict=True))
    q = q.reshape(B, T, keys.shape[2], -1, D) * config.score_scale
    scores = jnp.einsum("btkgd,bskd->bkgts", q, keys, preferred_element_type=jnp.float32)
    scores = capped(scores, config.attention_cap)
    weights = product.softmax(jnp.where(visible, scores, MASKED)).astype(q.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, values).reshape(B, T, H, D), (k, v)

  return attend


def uses_flat_cache(config: DecoderConfig) -> bool:
  """Whether the cache has the form for TPUs (see `cache`), in which the mesh of `jax.set_mesh` must not cut a head."""
  mesh = jax.sharding.get_abstract_mesh()
  return choose(config) == "splash" and (mesh.empty or config.kv_heads % parts(mesh, "kv_heads") == 0)


def cached(config: DecoderConfig, layer: tuple[Held, Held], positions: jax.Array, length: int | None) -> Attend:
  """Attention of one new token per slot: writes its key and value at `positions` `[slots]`, sees all at or before it.

  `layer` is one layer of a `KVCache`. `length` (static) bounds the keys read; positions lie below it. The kernels of
  `ragged` (GPU) and `ragged_tpu` read each slot up to its own position instead.
  """
  room = kv_cache.room((layer,))
  length = room if length is None else min(length, room)

  def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
    updated = kv_cache.write(layer[0], k, positions), kv_cache.write(layer[1], v, positions)
    S, H, D = q.shape
    if kv_cache.is_flat(updated[0]):
      return _flat(config, q, updated, positions, length), updated
    q = q.reshape(S, k.shape[1], -1, D) * config.score_scale
    way = ragged.choose(q, updated[0], config.window, config.attention_cap)
    if way != "xla":
      kernel = ragged.cudnn if way == "cudnn" else functools.partial(ragged.attention, window=config.window)
      return kernel(q, *updated, positions + 1).reshape(S, H, D), updated
    visible = _visible(positions, length, config.window)
    portions = product.wide_sums(q.dtype) and jax.sharding.get_abstract_mesh().empty
    look_up = _look_up_by_portions if portions else _look_up
    y = look_up(config.attention_cap, q, updated, visible)
    return y.reshape(S, H, D), updated

  return attend


def _look_up(cap: float | None, q: jax.Array, layer: tuple[Held, Held], visible: jax.Array) -> jax.Array:
  """What queries `[slots kv_heads group head_dim]` find at the positions `visible` `[slots length]` to them."""
  seen = jax.tree.map(lambda held: held[:, :, : visible.shape[1]], layer)
  (keys, key_scale), (values, value_scale) = (_read(held, q.dtype) for held in seen)
  scores = jnp.einsum("skgd,skld->skgl", q, keys, preferred_element_type=jnp.float32) * key_scale
  weights = product.softmax(jnp.where(visible[:, None, None], capped(scores, cap), MASKED))
  return product.summed("skgl,skld->skgd", (weights * value_scale).astype(q.dtype), values)


def _look_up_by_portions(cap: float | None, q: jax.Array, layer: tuple[Held, Held], visible: jax.Array) -> jax.Array:
  """`_look_up`, a few slots at a time, read where they lie: a copy of what all see would cost as much again."""
  slots, length = visible.shape
  size = min(CPU_SLOTS, slots)

  def portion(start: jax.Array) -> jax.Array:
    def cut(x: jax.Array, *shape: int) -> jax.Array:
      return jax.lax.dynamic_slice(x, (start, *(0 for _ in shape)), (size, *shape))

    seen = jax.tree.map(lambda held: cut(held, held.shape[1], length, *held.shape[3:]), layer)
    return _look_up(cap, cut(q, *q.shape[1:]), seen, cut(visible, length))

  whole, rest = divmod(slots, size)
  y = jax.lax.map(portion, size * jnp.arange(whole)).reshape(whole * size, *q.shape[1:])
  return jnp.concatenate([y, portion(jnp.int32(slots - size))[size - rest :]]) if rest else y


def _visible(positions: jax.Array, length: int, window: int | None) -> jax.Array:
  """Which of the first `length` positions each slot's token sees: bool `[slots length]`."""
  index = jnp.arange(length)
  visible = index <= positions[:, None]
  return visible if window is None else visible & (index > positions[:, None] - window)


def _flat(
  config: DecoderConfig, q: jax.Array, layer: tuple[Held, Held], positions: jax.Array, length: int
) -> jax.Array:
  """Attention `[slots heads head_dim]` over a cache whose heads lie side by side.

  Where the kernel of `ragged_tpu` does not fit, a head's query stands at its own place of a row as wide as a token's
  keys, zeros at the others'. So one product takes the keys as they lie in memory; the zeros it multiplies cost less
  than reading does.
  """

  leaves, form = jax.tree.flatten(layer)

  def kernel(q: jax.Array, positions: jax.Array, *leaves: jax.Array) -> jax.Array:
    keys, values = jax.tree.unflatten(form, leaves)
    return ragged_tpu.attention(
      q, keys, values, positions + 1, longest=length, window=config.window, cap=config.attention_cap
    )

  def plain(q: jax.Array, positions: jax.Array, *leaves: jax.Array) -> jax.Array:
    S, H, D = q.shape
    (keys, key_scale), (values, value_scale) = (
      _read_flat(held, length, H, q.dtype) for held in jax.tree.unflatten(form, leaves)
    )
    K = keys.shape[2] // D
    own = jnp.eye(K, dtype=q.dtype)
    rows = (q.reshape(S, K, -1, 1, D) * own[:, None, :, None]).reshape(S, H, K * D)
    scores = jnp.einsum("shf,slf->shl", rows, keys, preferred_element_type=jnp.float32) * key_scale
    visible = _visible(positions, length, config.window)[:, None]
    weights = product.softmax(jnp.where(visible, capped(scores, config.attention_cap), MASKED))
    y = jnp.einsum("shl,slf->shf", (weights * value_scale).astype(q.dtype), values)
    return jnp.einsum("skgcd,kc->skgd", y.reshape(S, K, -1, K, D), own).reshape(S, H, D)

  heads, axes = ("slots", "heads", None), [axes for held in layer for axes in kv_cache.axes_of(held)]
  one_device = kernel if ragged_tpu.fits(q.shape[2], layer[0]) else plain
  return per_device(one_device, (heads, ("slots",), *axes), heads)(q * config.score_scale, positions, *leaves)


def _read_flat(held: Held, length: int, heads: int, dtype: Any) -> tuple[jax.Array, Any]:
  """`_read` of the first `length` positions of a flat cache; the scale is `[slots heads length]`."""
  if isinstance(held, kv_cache.Int8):
    scale = kv_cache.whole(held.scale)[:, :, :length]
    return held.values[:, :length].astype(dtype), jnp.repeat(scale, heads // scale.shape[1], axis=1)
  return held[:, :length], 1.0


def _read(held: Any, dtype: Any) -> tuple[jax.Array, Any]:
  """Keys or values as numbers of `dtype`, and by what `[slots kv_heads 1 length]` they are to be scaled.

  Scaling scores and weights instead of keys and values touches one number a token in place of head_dim.
  """
  if isinstance(held, kv_cache.Int8):
    return held.values.astype(dtype), held.scale[:, :, None]
  return kv_cache.numbers(held, dtype), 1.0
