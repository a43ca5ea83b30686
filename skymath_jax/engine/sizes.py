"""The few sizes that programs are compiled for: whatever is asked is padded to the next of them (its bucket)."""

import itertools
from collections.abc import Sequence

from skymath_jax.engine.types import EngineSettings

MIN_PREFILL = 32  # tokens; smaller buckets would save less than they cost to compile
MIN_CACHE = 128  # tokens
ROWS = (4, 16, 64, 256)  # that an elastic state may have; a row more costs little, and each number its own programs
FIRST_ROWS = 16
MAX_PREFILL_ROWS = 16  # prompts in one prefill
MAX_PREFILL_TOKENS = 2048  # of one prefill of several prompts, padding included
WIDE_ENOUGH = 512  # such tokens where the matrix units of a CPU are near their best


def buckets(smallest: int, largest: int, *, halves: bool) -> tuple[int, ...]:
  """Powers of two from `smallest`, below `largest`, and `largest` itself.

  `halves` adds 3/2 of each, which wastes less padding.
  """
  powers = itertools.takewhile(lambda n: n < largest, (smallest << i for i in itertools.count()))
  sizes = sorted({size for n in powers for size in ((n, n + n // 2) if halves else (n,)) if size < largest})
  return (*sizes, largest)


def bucket_for(sizes: Sequence[int], length: int) -> int:
  """The smallest of the ascending `sizes` that is at least `length`.

  Raises:
    ValueError: there is none.
  """
  for size in sizes:
    if size >= length:
      return size
  raise ValueError(f"{length} tokens are more than the {sizes[-1]} that fit")


class Sizes:
  """What the arrays of one engine can be like.

  Args:
    settings: slots and lengths.
    max_positions: that the model knows.
    elastic: whether the cache grows and shrinks with the live lengths. So it is on a CPU, where reading part of a cache
      copies that part at every step; there buckets are finer, too (arithmetic is what costs).
    compact: whether the rows of the state are no more than the busy slots need, and prompts share an elastic prefill.
      So it is where arithmetic costs and where a row's numbers do not depend on how many there are (see
      `models.product`).

  Attributes:
    prefill: lengths of first pieces of prompts.
    later: lengths of later pieces.
    context: lengths of what comes before a later piece.
    cache: how far a decode call reads the cache, and how long an elastic cache is.
    scored: lengths of texts whose tokens' probabilities are asked for.
    rows: of the state.
  """

  def __init__(self, settings: EngineSettings, *, max_positions: int, elastic: bool, compact: bool):
    self.compact = compact
    self.rows = (
      (*(n for n in ROWS if n < settings.slots), max(settings.slots, ROWS[0])) if compact else (settings.slots,)
    )
    self.slots = settings.slots
    self.steps = settings.steps_per_call
    self.chunk = settings.prefill_chunk
    self.elastic = elastic
    self.max_length = min(settings.max_length, max_positions)
    several = self.max_length > self.chunk  # a prompt can have more than one piece
    capacity = -(-self.max_length // self.chunk) * self.chunk if several else self.max_length  # whole pieces
    self.prefill = buckets(MIN_PREFILL, min(self.chunk, capacity), halves=elastic)
    self.later = tuple(sorted({bucket_for(self.prefill, self.chunk // 4), self.chunk})) if several else ()
    self.context = buckets(self.chunk, capacity, halves=False) if several else ()
    self.cache = buckets(MIN_CACHE, capacity, halves=elastic)
    self.scored = buckets(MIN_CACHE, self.max_length, halves=False)
    self.prefill_rows = 1 if elastic and not compact else MAX_PREFILL_ROWS

  def first_state(self) -> tuple[int, int]:
    """(rows, length) of the state before anything is asked."""
    rows = bucket_for(self.rows, min(FIRST_ROWS, self.rows[-1])) if self.compact else self.slots
    return rows, self.cache[0] if self.elastic else self.cache[-1]

  def rows_of(self, length: int) -> list[int]:
    """The numbers of rows that prefills of this bucket come in: few where each is compiled beforehand."""
    most = max(1, min(self.prefill_rows, (WIDE_ENOUGH if self.elastic else MAX_PREFILL_TOKENS) // length))
    return [1 << i for i in range(most.bit_length())] if self.elastic else sorted({1, most})

  def prefill_shapes(self) -> list[tuple[int, int]]:
    """(rows, bucket) of every prefill of first pieces."""
    return [(rows, length) for length in self.prefill for rows in self.rows_of(length)]

  def piece_shapes(self) -> list[tuple[int, int]]:
    """(rows, bucket) of every piece that can be inserted."""
    return sorted({*self.prefill_shapes(), *((1, length) for length in self.later)})
