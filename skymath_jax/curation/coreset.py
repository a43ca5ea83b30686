"""A diverse subset: greedy k-center over hashed n-gram embeddings (Skywork section 3.1; Sener & Savarese 2017).

The greedy rule takes, k times, the point farthest from all centres so far. Its usual form passes over the whole matrix
once per pick. Here the B farthest points are looked at together: as long as the best of them is at least as far as
every point outside, it is the true arg-max of all, because distances only shrink; then all picks of the round update
the whole matrix in one product. The picks are those of the plain rule.

  select(["2 + 3 = ?", "2 + 3 = ?", "Find the area …"], 2)  → [0, 2]
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from skymath_jax.curation import hashing

DIMENSIONS = 384
_TEXTS_AT_ONCE = 4096
_ROWS_AT_ONCE = 65536  # rows of the point matrix multiplied in one go, which bounds the memory
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)


def select(
  texts: Sequence[str],
  k: int,
  *,
  centres: Sequence[str] = (),
  vectors_of: Callable[[Sequence[str]], np.ndarray] | None = None,
  choose: Callable[[np.ndarray, int, np.ndarray], list[int]] | None = None,
) -> list[int]:
  """Indices of up to `k` texts that cover the set best, in the order in which they were picked.

  Args:
    texts: what to choose from; a text that repeats an earlier one or a centre is never chosen, so fewer than `k`
      come back where there are fewer distinct ones.
    k: how many.
    centres: texts that count as chosen already (the seeds); without any, the first text is the first pick.
    vectors_of: texts → vectors `[texts, d]`; `embed` by default.
    choose: (points, k, centres) → picks; `k_center` by default.
  """
  vectors_of, choose = vectors_of or embed, choose or k_center
  first = dict.fromkeys(centres, -1)
  candidates = [i for i, text in enumerate(texts) if first.setdefault(text, i) == i]
  points = vectors_of([texts[i] for i in candidates])
  given = vectors_of(list(dict.fromkeys(centres)))
  return [candidates[i] for i in choose(points, k, given)]


def plain(text: str) -> str:
  """The text without drawings: Asymptote code says little about the problem."""
  return _DRAWING.sub(" ", text)


def embed(texts: Sequence[str], dimensions: int = DIMENSIONS) -> np.ndarray:
  """Signed hashing of word 1- and 2-grams, square-rooted against frequent words, unit length: `[texts, dimensions]`."""
  vocabulary = hashing.Vocabulary()
  points = np.zeros((len(texts), dimensions), np.float32)
  for start in range(0, len(texts), _TEXTS_AT_ONCE):
    chunk = [plain(text).lower().split() for text in texts[start : start + _TEXTS_AT_ONCE]]
    words, starts = hashing.flatten([[*words, "\x03"] for words in chunk])
    hashes, _ = vocabulary.look_up(words, len(words))
    rows = np.repeat(np.arange(len(chunk)), np.diff(starts))
    grams = np.concatenate([hashing.mix(hashes.copy()), hashing.shingles(hashes, 2)])
    grams_rows = np.concatenate([rows, rows[:-1]])
    inside = np.concatenate([rows >= 0, rows[:-1] == rows[1:]])  # no 2-gram reaches into the next text
    inside[starts[1:] - 1] = False  # the end mark is no word, but the word before it differs from one in the middle
    cells = grams_rows * dimensions + (grams >> np.uint64(1)).astype(np.int64) % dimensions
    signs = np.where(grams & np.uint64(1), 1.0, -1.0)
    sums = np.bincount(cells[inside], signs[inside], len(chunk) * dimensions).reshape(len(chunk), dimensions)
    sums = np.sign(sums) * np.sqrt(np.abs(sums))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    points[start : start + len(chunk)] = sums / np.where(lengths == 0, 1, lengths)
  return points


def k_center(points: np.ndarray, k: int, centres: np.ndarray | None = None, *, block: int = 512) -> list[int]:
  """Greedy k-center, exact: `min(k, len(points))` distinct indices in the order of picking, ties to the lowest index.

  Args:
    points: `[n, d]`, float32 or float64; in float64 the picks are those of the one-at-a-time rule.
    k: number of picks.
    centres: `[m, d]`, centres given beforehand; without any, point 0 is the first pick.
    block: B above.
  """
  n, k = len(points), min(k, len(points))
  if k <= 0:
    return []
  lengths = np.einsum("nd,nd->n", points, points)
  distances = np.full(n, np.inf, points.dtype)  # squared, to the nearest centre; -1 once picked
  picks: list[int] = []
  if centres is not None and len(centres):
    for start in range(0, len(centres), 1024):
      _shrink(distances, points, lengths, centres[start : start + 1024].astype(points.dtype))
  else:
    picks.append(0)
    _shrink(distances, points, lengths, points[:1])
    distances[0] = -1
  while len(picks) < k:
    found = _round(distances, points, lengths, min(block, n), k - len(picks))
    _shrink(distances, points, lengths, points[found])
    distances[found] = -1
    picks += found
  return picks


def _shrink(distances: np.ndarray, points: np.ndarray, lengths: np.ndarray, centres: np.ndarray) -> None:
  """Lowers `distances` [n] to the squared distance from each point to the nearest of `centres` [m, d], in place."""
  squares = np.einsum("md,md->m", centres, centres)
  for start in range(0, len(points), _ROWS_AT_ONCE):
    rows = slice(start, start + _ROWS_AT_ONCE)
    products = points[rows] @ centres.T
    products *= -2
    products += squares
    nearest = np.maximum(products.min(axis=1) + lengths[rows], 0)
    distances[rows] = np.where(distances[rows] < 0, distances[rows], np.minimum(distances[rows], nearest))


def _round(distances: np.ndarray, points: np.ndarray, lengths: np.ndarray, block: int, wanted: int) -> list[int]:
  """At least one and at most `wanted` picks from the `block` farthest points, each the arg-max of the whole set."""
  inside = _farthest(distances, block)
  outside = distances.copy()
  outside[inside] = -np.inf
  bound_index = int(np.argmax(outside))  # the lowest index among the farthest points left outside
  bound = outside[bound_index]
  own, own_lengths = points[inside], lengths[inside]
  current = distances[inside]
  between = np.maximum(own @ own.T * -2 + own_lengths[:, None] + own_lengths[None, :], 0)
  picks: list[int] = []
  while len(picks) < wanted:
    best = int(np.argmax(current))
    if current[best] < 0 or current[best] < bound or (current[best] == bound and inside[best] > bound_index):
      break
    picks.append(int(inside[best]))
    current = np.where(current < 0, current, np.minimum(current, between[best]))
    current[best] = -1
  return picks


def _farthest(distances: np.ndarray, block: int) -> np.ndarray:
  """The indices of the `block` largest distances in rising order of index; ties at the edge go to the lowest index."""
  edge = np.partition(distances, len(distances) - block)[len(distances) - block]
  above = np.flatnonzero(distances > edge)
  level = np.flatnonzero(distances == edge)[: block - len(above)]
  return np.sort(np.concatenate([above, level]))
