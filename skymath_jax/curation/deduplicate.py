"""Duplicates: the same pair twice, and queries that are nearly the same, by MinHash with every candidate verified.

Numbers are never normalised: the same story with other numbers is another problem, and wanted. Two queries whose
numbers (in digits) differ are therefore never near-duplicates, however long they are.

Relatives are not compared: a rephrased or backward question sits close to the problem it was made from by
construction, so items whose chains of parents lead to a common seed are let be.

MinHash after Broder (1997); 128 permutations, word 3-grams, bands of 8 rows. At Jaccard 0.8 a pair meets in at least
one of 16 bands with probability 0.95; what meets is compared by its true Jaccard similarity.
"""

import functools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from skymath_jax.curation import hashing
from skymath_jax.curation.decontaminate import normalize

PERMUTATIONS = 128
_PAD = ["\x02", "\x02"], ["\x03", "\x03"]  # so that the first and last words are in as many 3-grams as the others
_ROWS_AT_ONCE = 2048  # texts hashed in one go, so that the words of one permutation stay in cache
_MULTIPLIERS = np.random.default_rng(20240711).integers(0, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)


def exact(pairs: Sequence[tuple[str, str]]) -> list[int | None]:
  """For each (query, response): the first equal pair before it, after `normalize`; None where there is none."""
  seen: dict[int, int] = {}
  earlier = []
  for index, (query, response) in enumerate(pairs):
    first = seen.setdefault(hashing.hash64(f"{normalize(query)}\0{normalize(response)}"), index)
    earlier.append(None if first == index else first)
  return earlier


@functools.lru_cache(maxsize=100_000)
def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
  """The word 3-grams of a text, with its ends marked."""
  words = [*_PAD[0], *text.lower().split(), *_PAD[1]]
  return frozenset(zip(words, words[1:], words[2:], strict=False))


def jaccard(left: str, right: str) -> float:
  """Shared word 3-grams over all word 3-grams of two texts."""
  a, b = shingle_set(left), shingle_set(right)
  shared = len(a & b)
  return shared / (len(a) + len(b) - shared)


def lineages(parents: Mapping[str, Sequence[str]], ids: Sequence[str]) -> list[frozenset[str]]:
  """For each id, the seeds that its chain of parents leads back to (itself, where it has none).

  Args:
    parents: id → ids of its parents, for everything that was synthesized; ids that are not in it are seeds.
    ids: what to look up.
  """
  known: dict[str, frozenset[str]] = {}
  for start in ids:
    stack, open_ids = [start], {start}
    while stack:
      current = stack[-1]
      above = [p for p in parents[current] if p != current] if current in parents else []
      missing = [p for p in above if p not in known and p not in open_ids]
      if missing:
        stack += missing[:1]
        open_ids.add(missing[0])
        continue
      known[current] = frozenset().union(*(known[p] for p in above if p in known)) or frozenset((current,))
      stack.pop()
  return [known[i] for i in ids]


def band_keys(texts: Sequence[str], rows_per_band: int = 8) -> np.ndarray:
  """MinHash band keys `[texts, 128 // rows_per_band]` uint64; equal in a band and in their numbers = equal there."""
  vocabulary = hashing.Vocabulary()
  bands = PERMUTATIONS // rows_per_band
  weights = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(rows_per_band)], np.uint64)
  keys = np.empty((len(texts), bands), np.uint64)
  for start in range(0, len(texts), _ROWS_AT_ONCE):
    chunk = [[*_PAD[0], *text.lower().split(), *_PAD[1]] for text in texts[start : start + _ROWS_AT_ONCE]]
    signature, number_sums = _signatures(chunk, vocabulary)
    folded = (signature.reshape(len(chunk), bands, rows_per_band) * weights).sum(-1, dtype=np.uint64)
    folded += number_sums[:, None] * np.uint64(0xD6E8FEB86659FD93)
    folded += np.arange(bands, dtype=np.uint64) * np.uint64(0xA0761D6478BD642F)
    keys[start : start + len(chunk)] = hashing.mix(folded)
  return keys


def _signatures(chunk: list[list[str]], vocabulary: hashing.Vocabulary) -> tuple[np.ndarray, np.ndarray]:
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
    lineage: for each query the seeds it goes back to (`lineages`); queries with a common seed are not compared.
    threshold: Jaccard similarity of word 3-grams from which two queries with the same numbers are one.
  """
  relatives = [frozenset(names) for names in lineage] if lineage is not None else [frozenset()] * len(queries)
  keys = band_keys(queries, rows_per_band=8 if threshold >= 0.75 else 4)
  crowded = _crowded(keys)
  earlier: list[int | None] = [None] * len(queries)
  buckets: dict[int, dict[frozenset[str], list[int]]] = {}  # band key → lineage → kept queries
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


def _crowded(keys: np.ndarray) -> np.ndarray:
  """True where another row has the same key in the same band, `[texts, bands]`: all others need no look-up."""
  crowded = np.zeros(keys.shape, bool)
  for band in range(keys.shape[1]):
    order = np.argsort(keys[:, band], kind="stable")
    same = np.diff(keys[order, band]) == 0
    crowded[order[1:][same], band] = True
    crowded[order[:-1][same], band] = True
  return crowded


def _first_match(queries: Sequence[str], index: int, candidates: list[int], threshold: float) -> int | None:
  own_numbers = hashing.numbers(queries[index]) if candidates else []
  for other in candidates:
    if jaccard(queries[index], queries[other]) >= threshold and hashing.numbers(queries[other]) == own_numbers:
      return other
  return None
