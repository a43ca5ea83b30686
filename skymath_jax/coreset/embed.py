"""Embeds questions and selects a core-set of them (Skywork section 3.1 names the method and no embedding).

Embeddings, by name: `hashed` (signed word 1- and 2-grams, 384 numbers, no model, the default), `model` (the mean of the
base model's last hidden states) and `sentence-transformers:NAME` (where that library is installed).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from skymath_jax import models
from skymath_jax.coreset import hashing
from skymath_jax.coreset.k_center import k_center
from skymath_jax.errors import UserError

SENTENCES = "sentence-transformers:"
EMBEDDINGS = ("hashed", "model", f"{SENTENCES}NAME")
BATCH, LONGEST = 32, 512  # texts in one forward pass, tokens that are read of each


def select(texts: Sequence[str], k: int, *, embedding: str, centres: Sequence[str] = (), model: str = "") -> list[int]:
  """Indices of up to `k` texts that cover the set best, in the order in which they were picked.

  Args:
    texts: what to choose from; a text that repeats an earlier one or a centre is never chosen, so fewer than `k`
      come back where there are fewer distinct ones.
    k: how many.
    centres: texts that count as chosen already (the seeds); without any, the first text is the first pick.
    embedding: one of EMBEDDINGS.
    model: the model of `model`: HF folder, checkpoint or asset:NAME.
  """
  vectors_of = embedder(embedding, model)
  first = dict.fromkeys(centres, -1)
  candidates = [i for i, text in enumerate(texts) if first.setdefault(text, i) == i]
  points = vectors_of([texts[i] for i in candidates])
  given = vectors_of(list(dict.fromkeys(centres)))
  return [candidates[i] for i in k_center(points, k, given)]


def embed(texts: Sequence[str], embedding: str, model: str = "") -> np.ndarray:
  """Unit vectors of `texts`, float32 `[texts, dimensions]`."""
  return embedder(embedding, model)(texts)


def embedder(embedding: str, model: str = "") -> Callable[[Sequence[str]], np.ndarray]:
  """The function from texts to unit vectors `[texts width]`.

  Raises:
    UserError: no such embedding, or its library is not installed.
  """
  if embedding == "hashed":
    return hashing.embed
  if embedding == "model":
    return _Model(model)
  if embedding.startswith(SENTENCES):
    return _sentences(embedding.removeprefix(SENTENCES))
  raise UserError(
    f"{embedding!r} is not known", where="config.synthesis.embedding", remedy=f"use one of: {', '.join(EMBEDDINGS)}"
  )


class _Model:
  """Mean-pooled last hidden states, unit length."""

  def __init__(self, path: str):
    decoder, self._tokenizer = models.load_any(path)
    self._graph, self._state = nnx.split(decoder)
    self._longest = min(LONGEST, decoder.config.max_positions)
    self._forward = jax.jit(self._pooled)

  def _pooled(self, state: nnx.State, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    hidden = nnx.merge(self._graph, state).hidden(tokens).astype(jnp.float32)  # [batch length embed]
    live = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
    mean = jnp.sum(jnp.where(live[..., None], hidden, 0), axis=1) / jnp.maximum(lengths, 1)[:, None]
    return mean / jnp.maximum(jnp.linalg.norm(mean, axis=1, keepdims=True), 1e-9)

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    ids = [self._tokenizer.encode(hashing.plain(text), bos=True)[: self._longest] for text in texts]
    order = np.argsort([len(row) for row in ids], kind="stable")  # like lengths together: little padding
    vectors: list[np.ndarray] = []
    for start in range(0, len(ids), BATCH):
      rows = [ids[i] for i in order[start : start + BATCH]]
      width = -(-max(map(len, rows)) // 64) * 64  # few shapes to compile
      tokens, lengths = np.zeros((BATCH, width), np.int32), np.zeros(BATCH, np.int32)
      for number, row in enumerate(rows):
        tokens[number, : len(row)], lengths[number] = row, len(row)
      vectors.append(np.asarray(self._forward(self._state, tokens, lengths))[: len(rows)])
    found = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
    back = np.empty_like(found)
    back[order] = found
    return back


def _sentences(name: str) -> Callable[[Sequence[str]], np.ndarray]:
  try:
    import sentence_transformers
  except ImportError:
    raise UserError(
      "sentence-transformers is not installed",
      where="config.synthesis.embedding",
      remedy="install it, or use hashed or model",
    ) from None
  encoder = sentence_transformers.SentenceTransformer(name)
  return lambda texts: encoder.encode([hashing.plain(text) for text in texts], normalize_embeddings=True)
