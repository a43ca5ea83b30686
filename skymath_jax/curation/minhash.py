"""Near-duplicates: queries that are nearly the same, by MinHash with every candidate verified.

Numbers are never normalised: the same story with other numbers is another problem, and wanted. Two queries whose
numbers (in digits) differ are therefore never near-duplicates, however long they are.

Relatives are not compared: a rephrased or backward question sits close to the problem it was made from by
construction, so items whose chains of parents lead to a common seed are let be.

MinHash after Broder (1997); 128 permutations, word 3-grams, bands of 8 rows. At Jaccard 0.8 a pair meets in at least
one of 16 bands with probability 0.95; what meets is compared by its true Jaccard similarity.
"""

import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from skymath_jax.curation import hashing

PERMUTATIONS = 128
_PAD = ["\x02", "\x02"], ["\x03", "\x03"]  # so that the first and last words are in as many 3-grams as the others
_ROWS_AT_ONCE = 2048  # texts hashed in one go, so that the words of one permutation stay in cache
_MULTIPLIERS = np.random.default_rng(20240711).integers(0, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)


@functools.lru_cache(maxsize=20_000)
def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
  """The word 3-grams of a text, with its ends marked."""
  words = [*_PAD[0], *text.lower().split(), *_PAD[1]]
  return frozenset(zip(words, words[1:], words[2:], strict=False))


def jaccard(left: str, right: str) -> float:
  """Shared word 3-grams over all word 3-grams of two texts."""
  a, b = shingle_set(left), shingle_set(right)
  shared = len(a & b)
  return shared / (len(a) + len(b) - shared)


def rows_per_band(threshold: float) -> int:
  """Longer bands are met by fewer pairs: as long as pairs at the threshold still meet."""
  return 8 if threshold >= 0.75 else 4


def bands(threshold: float) -> int:
  """Number of keys a text gets; none where near-duplicates do not matter."""
  return PERMUTATIONS // rows_per_band(threshold) if threshold > 0 else 0


def band_keys(texts: Sequence[str], rows_per_band: int = 8, vocabulary: hashing.Vocabulary | None = None) -> np.ndarray:
  """MinHash band keys `[texts, 128 // rows_per_band]` uint64; equal in a band and in their numbers = equal there.

  Args:
    vocabulary: remembers the words' hashes from one call to the next; changes the speed only.
  """
  vocabulary = hashing.Vocabulary() if vocabulary is None else vocabulary
  bands = PERMUTATIONS // rows_per_band
  weights = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(rows_per_band)], np.uint64)
  keys = np.empty((len(texts), bands), np.uint64)
  for start in range(0, len(texts), _ROWS_AT_ONCE):
    chunk = [[*_PAD[0], *text.lower().split(), *_PAD[1]] for text in texts[start : start + _ROWS_AT_ONCE]]
    signature, number_sums = signatures(chunk, vocabulary)
    folded = (signature.reshape(len(chunk), bands, rows_per_band) * weights).sum(-1, dtype=np.uint64)
    folded += number_sums[:, None] * np.uint64(0xD6E8FEB86659FD93)
    folded += np.arange(bands, dtype=np.uint64) * np.uint64(0xA0761D6478BD642F)
    keys[start : start + len(chunk)] = hashing.mix(folded)
  return keys


def signatures(chunk: list[list[str]], vocabulary: hashing.Vocabulary) -> tuple[np.ndarray, np.ndarray]:
  """MinHash signatures `[texts, 128]` and a hash of each text's multiset of numbers `[texts]`."""
  words, starts = hashing.flatten(chunk)
  hashes, number_hashes = vocabulary.look_up(words, len(words))
  grams = np.concatenate([hashing.shingles(hashes, 3), np.zeros(2, np.uint64)])
  # 3-grams that run over the end of a text: its last two places repeat its first 3-gram, which changes no minimum.
  for back in (1, 2):
    grams[starts[1:] - back] = grams[starts[:-1]]
  signature = np.empty((len(chunk), PERMUTATIONS), np.uint64)
  product = np.empty_like(grams)
  for i, multiplier in enumerate(_MULTIPLIERS):
    np.multiply(grams, multiplier, out=product)
    signature[:, i] = np.minimum.reduceat(product, starts[:-1])
  return signature, np.add.reduceat(number_hashes, starts[:-1])


def near(
  queries: Sequence[str], lineage: Sequence[Collection[str]] | None = None, *, threshold: float = 0.8
) -> list[int | None]:
  """For each query: the index of the earlier, kept query that it nearly repeats, or None where it is kept.

  Args:
    queries: distinct texts, in order of preference.
    lineage: for each query the seeds it goes back to (`lineage.py`); queries with a common seed are not compared.
    threshold: Jaccard similarity of word 3-grams from which two queries with the same numbers are one.
  """
  relatives = [frozenset(names) for names in lineage] if lineage is not None else [frozenset()] * len(queries)
  keys = band_keys(queries, rows_per_band(threshold))
  return near_by_keys(keys, crowded(keys), queries, relatives, threshold=threshold)


def near_by_keys(
  keys: np.ndarray,
  crowded: np.ndarray,
  queries: Sequence[str],
  relatives: Sequence[frozenset[Any]],
  *,
  threshold: float,
) -> list[int | None]:
  """`near` for queries whose `band_keys` and `crowded` bands are known; those of other rows may have been left out.

  `keys` and `crowded` (bool) are `[queries bands]`.
  """
  earlier: list[int | None] = [None] * len(queries)
  buckets: dict[int, dict[frozenset[Any], list[int]]] = {}  # band key → lineage → kept queries
  for index in np.flatnonzero(crowded.any(axis=1)).tolist():
    own = [int(key) for key in keys[index][crowded[index]]]
    candidates: set[int] = set()
    for key in own:
      for family, members in buckets.setdefault(key, {}).items():
        if not family & relatives[index]:
          candidates.update(members)
    earlier[index] = _first_match(queries, index, sorted(candidates), threshold)
    if earlier[index] is None:
      for key in own:
        buckets[key].setdefault(relatives[index], []).append(index)
  return earlier


def crowded(keys: np.ndarray) -> np.ndarray:
  """True where another row has the same key in the same band, `[texts, bands]`: all others need no look-up."""
  found = np.zeros(keys.shape, bool)
  for band in range(keys.shape[1]):
    order = np.argsort(keys[:, band], kind="stable")
    same = np.diff(keys[order, band]) == 0
    found[order[1:][same], band] = True
    found[order[:-1][same], band] = True
  return found


def _first_match(queries: Sequence[str], index: int, candidates: list[int], threshold: float) -> int | None:
  own_numbers = hashing.numbers(queries[index]) if candidates else []
  for other in candidates:
    if jaccard(queries[index], queries[other]) >= threshold and hashing.numbers(queries[other]) == own_numbers:
      return other
  return None
