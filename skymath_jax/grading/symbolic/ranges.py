"""Ranges written with a hyphen or `to`: `5-7 cm`, `15% - 25%`, `3 to 5`. A hyphen between numbers may mean minus."""

from typing import NamedTuple

from skymath_jax.grading.symbolic import numbers
from skymath_jax.grading.symbolic.tree import Tree


class Range(NamedTuple):
  """From `low` to `high`; `certain` where it can be no difference: both have a mark or a unit, or `to` is said."""

  low: Tree
  high: Tree
  certain: bool


def range_of(tree: Tree) -> Range | None:
  """The range that `tree` is or may be: of numbers of which the first is the smaller."""
  if tree[0] == "range":
    return Range(tree[1], tree[2], certain=True)
  if tree[0] == "unit":
    found = range_of(tree[1])
    return found and Range(("unit", found.low, tree[2]), ("unit", found.high, tree[2]), certain=True)
  if tree[0] != "sum" or len(tree[1]) != 2 or tree[1][0][0] != "+" or tree[1][1][0] != "-":
    return None
  low, high = tree[1][0][1], tree[1][1][1]
  if not (_is_plain(low) and _is_plain(high)):
    return None
  first, second = numbers.number(low), numbers.number(high)
  if first is None or second is None or not 0 <= first < second:
    return None
  return Range(low, high, certain=low[0] == high[0] and low[0] in {"pct", "deg"})


def _is_plain(tree: Tree) -> bool:
  """Whether `tree` is a number as it is written: digits, a fraction of two, a percentage, an angle."""
  if tree[0] in {"pct", "deg"}:
    return _is_plain(tree[1])
  if tree[0] == "prod":
    return len(tree[1]) == 2 and tree[1][1][0] == "/" and all(factor[0] == "num" for _, factor in tree[1])
  return bool(tree[0] == "num")
