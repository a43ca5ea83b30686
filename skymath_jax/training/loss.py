"""The weighted cross entropy of a packed batch, with logits for the trained tokens only, a chunk at a time.

The function returns sums; the step divides once by the weight of the whole optimizer step. (A mean per micro-batch and
then a mean of means weights tokens up to six-fold differently; several public trainers do that.)

At 2,048 × 102k the float32 logits of one row are 0.8 GB, and a third of all tokens is prompt or padding. So the
trained tokens of each row are moved to its front, the rows are cut into chunks along the length, a chunk without any
trained token is skipped, and no chunk's logits outlive it. Sorting stays inside a row: rows are what devices share.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from skymath_jax import sharding


def weighted_sum(decoder: Any, batch: Mapping[str, jax.Array], *, loss_chunk: int) -> jax.Array:
  """Σ loss_weights · −log p(token | the tokens before it in its segment), float32 scalar.

  Args:
    decoder: has `hidden(tokens, positions, segment_ids) -> [batch length embed]`, `output_table` `[vocab embed]`, and
      `unembed(hidden, table) -> logits`.
    batch: `tokens`, `positions`, `segment_ids`, `loss_weights`, each `[batch length]`.
    loss_chunk: tokens of one device whose logits exist at one time. (Each chunk gathers the head and reduces its
      gradient once: a limit over all rows would give each of many devices little to do between.)
  """
  hidden = decoder.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])[:, :-1]
  weights = target_weights(batch)
  B, T, _ = hidden.shape
  rows_a_device = B if B % _parts("batch") else B // _parts("batch")  # what does not divide is computed by everyone
  length = max(1, min(T, loss_chunk // rows_a_device))
  chunks = -(-T // length)
  order = jnp.argsort(weights == 0, axis=1, stable=True)
  order = jnp.pad(order, ((0, 0), (0, chunks * length - T)))  # points at a real token; its weight is 0
  in_order = jnp.arange(chunks * length) < T
  targets = jnp.take_along_axis(batch["tokens"][:, 1:], order, axis=1)
  weights = jnp.where(in_order, jnp.take_along_axis(weights, order, axis=1), 0.0)

  table, rows, vocab = _placed(decoder.output_table, B * length)
  vocab_size = decoder.output_table.shape[0]

  def chunk_sum(start: jax.Array) -> jax.Array:
    index, target, weight = (jax.lax.dynamic_slice_in_dim(x, start, length, 1) for x in (order, targets, weights))

    def present() -> jax.Array:
      x = sharding.constrain(jnp.take_along_axis(hidden, index[..., None], axis=1), rows, "length", "act_embed")
      logits = sharding.constrain(_without_padding(decoder.unembed(x, table), vocab_size), rows, "length", vocab)
      return jnp.sum(weight * negative_log_likelihood(logits, target))

    return jax.lax.cond(jnp.any(weight > 0), present, lambda: jnp.zeros((), jnp.float32))

  if chunks == 1:
    return chunk_sum(jnp.zeros((), jnp.int32))
  add = jax.checkpoint(lambda total, start: total + chunk_sum(start))
  total, _ = jax.lax.scan(
    lambda total, start: (add(total, start), None), jnp.zeros((), jnp.float32), jnp.arange(chunks) * length
  )
  return total


def _parts(axis: str) -> int:
  """Into how many parts the mesh of `jax.set_mesh` cuts a logical axis."""
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty else sharding.parts(mesh, axis)


def shares_vocabulary(vocab_size: int, tokens: int, *, fsdp: int) -> bool:
  """Whether `fsdp` devices compute logits of a part of the vocabulary each, for all their `tokens`.

  Else each gathers the whole table for its own rows, and they sum up the whole table's gradient. What moves is two or
  three times two bytes a value, and four once, of a chunk's hidden states or of the table: the smaller of them.
  """
  return fsdp > 1 and tokens < vocab_size


def _placed(table: jax.Array, tokens: int) -> tuple[jax.Array, str, str]:
  """The table `[vocab embed]` where a chunk of so many tokens needs it; logical axes of the chunk's rows and logits."""
  if not shares_vocabulary(table.shape[0], tokens // _parts("shared_batch"), fsdp=_parts("embed")):
    return table, "batch", "vocab"
  # First where the weight lies: so its gradient is moved there, and not what the optimizer makes of it
  table = sharding.constrain(table, "vocab", "embed", weight="output_table")
  table = jnp.pad(table, ((0, -table.shape[0] % _parts("shared_vocab")), (0, 0)))
  return sharding.constrain(table, "shared_vocab", None), "shared_batch", "shared_vocab"


def _without_padding(logits: jax.Array, vocab_size: int) -> jax.Array:
  """Logits `[batch length vocab]` that no id beyond the vocabulary can have."""
  if logits.shape[-1] == vocab_size:
    return logits
  return jnp.where(jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) < vocab_size, logits, -jnp.inf)


def target_weights(batch: Mapping[str, jax.Array]) -> jax.Array:
  """Weights `[... length - 1]` of predicting tokens 1, 2, …; 0 in padding and where a segment begins."""
  segment_ids = batch["segment_ids"]
  within = (segment_ids[..., 1:] == segment_ids[..., :-1]) & (segment_ids[..., 1:] > 0)
  return jnp.where(within, batch["loss_weights"][..., 1:], 0.0)


def negative_log_likelihood(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """−log softmax(logits)[targets], float32 `[batch length]`; logits `[batch length vocab]`.

  The target's logit is picked by comparison, not by a gather: it fuses, works on a sharded vocabulary, and its
  gradient is no scatter.
  """
  logits = logits.astype(jnp.float32)
  here = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == targets[..., None]
  return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(here, logits, 0.0), axis=-1)
