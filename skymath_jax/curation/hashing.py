"""Words as 64-bit numbers that depend on their text only, and n-grams of them, for many texts at a time."""

import array
import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LARGEST = 1_000_000  # distinct words remembered; the hashes are of content, so forgetting is harmless
_EVEN_BITS = np.uint64(0x9E3779B97F4A7C15)


def hash64(text: str) -> int:
  """64 bits of BLAKE2b: the same in every process, unlike `hash`."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def numbers(text: str) -> list[str]:
  """The numbers written in digits, sorted; `1,000` and `1.5` are one number each."""
  return sorted(number.replace(",", "") for number in _NUMBER.findall(text))


def mix(values: np.ndarray) -> np.ndarray:
  """Spreads each uint64, of any shape, over all bits (the finalizer of MurmurHash3, in place)."""
  values ^= values >> np.uint64(33)
  values *= np.uint64(0xFF51AFD7ED558CCD)
  values ^= values >> np.uint64(33)
  values *= np.uint64(0xC4CEB9FE1A85EC53)
  values ^= values >> np.uint64(33)
  return values


def shingles(hashes: np.ndarray, n: int) -> np.ndarray:
  """Hashes of all n-grams of a sequence of word hashes: `[length] -> [length - n + 1]`, order of the words counts."""
  total = np.zeros(max(len(hashes) - n + 1, 0), np.uint64)
  for offset in range(n):
    total *= _EVEN_BITS
    total += hashes[offset : len(hashes) - n + 1 + offset]
  return mix(total)


class Vocabulary(dict[str, int]):
  """Word → slot; `hashes[slot]` is the word's hash, `number_sums[slot]` the sum of the hashes of the numbers in it."""

  def __init__(self) -> None:
    super().__init__()
    self._hashes, self._number_sums = array.array("Q"), array.array("Q")

  def __missing__(self, word: str) -> int:
    self[word] = slot = len(self._hashes)
    self._hashes.append(hash64(word))
    self._number_sums.append(sum(hash64(number) for number in numbers(word)) % 2**64)
    return slot

  def look_up(self, words: Iterable[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, number sums) of `count` words, each `[count]` uint64."""
    if len(self) > _LARGEST:
      self.clear()
      self._hashes, self._number_sums = array.array("Q"), array.array("Q")
    slots = np.fromiter(map(self.__getitem__, words), np.int64, count)
    # Copies: a view into a growing array would forbid it to grow.
    return np.array(self._hashes, np.uint64)[slots], np.array(self._number_sums, np.uint64)[slots]


def flatten(texts: Sequence[list[str]]) -> tuple[list[str], np.ndarray]:
  """All words in one list, and where each text starts `[texts + 1]`."""
  starts = np.zeros(len(texts) + 1, np.int64)
  np.cumsum([len(words) for words in texts], out=starts[1:])
  return [word for words in texts for word in words], starts
