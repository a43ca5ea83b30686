"""What a problem is, apart from its words: relations with numbers between at most two persons, and what is asked.

Kinds of relation (numbers): start (n), groups (k n), rate (n days) give a person a first quantity; gain, loss (n),
times, split (k), keep, lossf (divider of a fraction or percentage), ggain (k n), rgain, rloss (n days) change it;
more, fewer (n), ctimes (k), cfrac (divider) give the second person a quantity by comparison with the first.
What is asked: own, total, diff, price (n dollars), pack (n in each), share (n friends), need (goal n).
"""

import dataclasses
import hashlib
from fractions import Fraction

BOTH = 2  # `who` of a final that is about the two persons together
STARTS = ("start", "groups", "rate")
COMPARISONS = ("more", "fewer", "ctimes", "cfrac")
FRACTION_KINDS = ("keep", "lossf", "cfrac")
SPLITS = ("train", "test")
TEST_SHARE = 10  # one bucket in ten


Number = int | Fraction
Value = Number | None  # None is not known


@dataclasses.dataclass(frozen=True)
class Relation:
  """One relation; `who` is 0 or 1 (BOTH in a final). None is the masked X, a Fraction a divider that was read."""

  kind: str
  who: int
  numbers: tuple[Value, ...] = ()

  @property
  def compares(self) -> bool:
    return self.kind in COMPARISONS

  @property
  def introduces(self) -> bool:
    """Whether it gives the person a first quantity."""
    return self.kind in STARTS or self.kind in COMPARISONS


@dataclasses.dataclass(frozen=True)
class Program:
  """Relations in telling order, and the final."""

  relations: tuple[Relation, ...]
  final: Relation

  @property
  def persons(self) -> int:
    return 1 + max(relation.who for relation in self.relations)

  @property
  def key(self) -> str:
    """Canonical text of relations and numbers: equal for all wordings, names and objects of one problem."""
    parts = (*self.relations, self.final)
    return "|".join(f"{r.kind}{r.who}:{','.join('X' if n is None else str(n) for n in r.numbers)}" for r in parts)

  @property
  def split(self) -> str:
    return split_of(self.key)


def whole(value: Value) -> int:
  """A value that is an integer: so are all drawn numbers, and all quantities of a sound problem but its dividers."""
  assert isinstance(value, int), value
  return value


def split_of(key: str) -> str:
  """`train` or `test`, by the hash of the canonical key: one bucket in ten is test."""
  bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % TEST_SHARE
  return "test" if bucket == 0 else "train"
