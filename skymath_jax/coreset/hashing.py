"""Embeds questions without a model: signed hashed word 1- and 2-grams, the same numbers in every process."""

from collections.abc import Sequence

import numpy as np

from skymath_jax.curation import hashing
from skymath_jax.records import DRAWING

DIMENSIONS = 384
_TEXTS_AT_ONCE = 4096


def plain(text: str) -> str:
  """The text without drawings: Asymptote code says little about the problem."""
  return DRAWING.sub(" ", text)


def embed(texts: Sequence[str]) -> np.ndarray:
  """Signed hashing of word 1- and 2-grams, square-rooted against frequent words, unit length: `[texts DIMENSIONS]`."""
  vocabulary = hashing.Vocabulary()
  points = np.zeros((len(texts), DIMENSIONS), np.float32)
  for start in range(0, len(texts), _TEXTS_AT_ONCE):
    chunk = [plain(text).lower().split() for text in texts[start : start + _TEXTS_AT_ONCE]]
    words, starts = hashing.flatten([[*words, "\x03"] for words in chunk])
    hashes, _ = vocabulary.look_up(words, len(words))
    rows = np.repeat(np.arange(len(chunk)), np.diff(starts))
    grams = np.concatenate([hashing.mix(hashes.copy()), hashing.shingles(hashes, 2)])
    grams_rows = np.concatenate([rows, rows[:-1]])
    inside = np.concatenate([rows >= 0, rows[:-1] == rows[1:]])  # no 2-gram reaches into the next text
    inside[starts[1:] - 1] = False  # the end mark is no word, but the word before it differs from one in the middle
    cells = grams_rows * DIMENSIONS + (grams >> np.uint64(1)).astype(np.int64) % DIMENSIONS
    signs = np.where(grams & np.uint64(1), 1.0, -1.0)
    sums = np.bincount(cells[inside], signs[inside], len(chunk) * DIMENSIONS).reshape(len(chunk), DIMENSIONS)
    sums = np.sign(sums) * np.sqrt(np.abs(sums))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    points[start : start + len(chunk)] = sums / np.where(lengths == 0, 1, lengths)
  return points
