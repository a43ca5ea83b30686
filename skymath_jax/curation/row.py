"""What the rules see of an instance, and the numbers that they ask for of every row."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from skymath_jax.curation import hashing
from skymath_jax.curation.decontaminate import normalize
from skymath_jax.records import Instance


@dataclasses.dataclass
class Row:
  """An instance while it is examined.

  Attributes:
    offset: where the row begins in its file; 0 in memory.
    shared_words: longest run of words shared with a test set, as far as the scan looked (`rules/contamination.py`).
  """

  instance: Instance
  offset: int = 0
  shared_words: int = 0

  @functools.cached_property
  def query(self) -> str:
    """The query as `normalize` spells it."""
    return normalize(self.instance.query)

  @functools.cached_property
  def response(self) -> str:
    """The response as `normalize` spells it."""
    return normalize(self.instance.response)


@dataclasses.dataclass(frozen=True)
class Column:
  """Numbers taken from the rows of a chunk, by worker processes; those of all chunks are joined in the rows' order."""

  name: str
  values: Callable[[Sequence[Row]], np.ndarray]


def column(name: str, dtype: Any, value: Callable[[Row], float]) -> Column:
  """A column of one number a row, `[rows]`."""
  return Column(name, lambda rows: np.array([value(row) for row in rows], dtype))


def hashes(texts: Iterable[str]) -> np.ndarray:
  """64-bit hashes of texts, uint64 `[texts]`."""
  return np.array([hashing.hash64(text) for text in texts], np.uint64)


OFFSETS = column("offsets", np.int64, lambda row: row.offset)
