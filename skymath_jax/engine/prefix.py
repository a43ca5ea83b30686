"""Prompts in pieces, and the cache of pieces: a few-shot header, or a prompt asked for n samples, is computed once.

A prompt's keys and values are always made in the same pieces: of `chunk` tokens each, from the first token on, the
last one shorter. A piece depends on the tokens up to its end and on nothing else, so one that is found in the cache is
bit for bit the one that would be computed: a hit changes no token of any response.
"""

import collections
import dataclasses
import threading
from collections.abc import Sequence

import jax
import numpy as np

from skymath_jax.engine.types import Prompt
from skymath_jax.models.cache import KVCache


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
  """Keys and values of some tokens in a row of a prompt.

  Args:
    kv: arrays `[batch bucket kv_heads head_dim]` a layer; what lies past `length` is padding.
    row: the row of `kv` that is meant.
    start: position of the first token.
    length: number of tokens.
  """

  kv: KVCache
  row: int
  start: int
  length: int

  @property
  def bucket(self) -> int:
    """Positions that `kv` covers, padding included."""
    return jax.tree.leaves(self.kv)[0].shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Prefix:
  """A prefilled prompt. Not a pytree, so that JetStream does not delete it after one insert."""

  prompt: Prompt
  pieces: list[Piece]


def spans(length: int, chunk: int) -> list[tuple[int, int]]:
  """(start, end) of the pieces of `length` tokens; one empty piece for none."""
  return [(start, min(start + chunk, length)) for start in range(0, max(length, 1), chunk)]


def key_of(tokens: Sequence[int]) -> bytes:
  """What a piece that ends after `tokens` is found by."""
  return np.asarray(tokens, np.int32).tobytes()


class PrefixCache:
  """The pieces used last, up to `budget` tokens (padding counts); safe to use from several threads.

  Attributes:
    computed: tokens of prompts that were run through the model.
    reused: tokens of prompts that were not, since their pieces were here.
  """

  def __init__(self, budget: int):
    self.computed = 0
    self.reused = 0
    self._budget = budget
    self._lock = threading.Lock()
    self._held = 0  # tokens
    self._pieces: collections.OrderedDict[bytes, Piece] = collections.OrderedDict()
    self._users: collections.Counter[int] = collections.Counter()  # id of an array → pieces that are rows of it

  def find(self, key: bytes) -> Piece | None:
    """The piece of that key, which counts as used now."""
    with self._lock:
      piece = self._pieces.get(key)
      if piece is not None:
        self._pieces.move_to_end(key)
        self.reused += piece.length
      return piece

  def shared(self, length: int) -> None:
    """Counts a piece that is wanted twice in one pass and computed once."""
    with self._lock:
      self.reused += length

  def add(self, key: bytes, piece: Piece) -> None:
    """Keeps a piece that was just computed, and forgets those not used for longest where the budget is passed."""
    with self._lock:
      self.computed += piece.length
      if key in self._pieces or _size(piece.kv) > self._budget:
        return
      self._pieces[key] = piece
      self._count(piece, 1)
      while self._held > self._budget:
        self._count(self._pieces.popitem(last=False)[1], -1)

  def clear(self) -> None:
    """Forgets all pieces."""
    with self._lock:
      self._pieces.clear()
      self._users.clear()
      self._held = 0

  def _count(self, piece: Piece, change: int) -> None:
    """Rows of one batch share its arrays: they are held until the last of its pieces goes."""
    first = id(piece.kv)
    before = self._users[first] > 0
    self._users[first] += change
    after = self._users[first] > 0
    self._held += (after - before) * _size(piece.kv)
    if not after:
      del self._users[first]


def _size(kv: KVCache) -> int:
  batch, length = jax.tree.leaves(kv)[0].shape[:2]
  return batch * length
