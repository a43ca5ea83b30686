"""Sets of real numbers: intervals, their unions, inequalities and set-builders brought to one normal form."""

import dataclasses
import itertools
import math
from fractions import Fraction
from typing import Any

from skymath_jax.grading.symbolic import numbers
from skymath_jax.grading.symbolic.evaluate import Evaluator, Value
from skymath_jax.grading.symbolic.limits import DIGITS, UnevaluableError, context
from skymath_jax.grading.symbolic.tree import Tree, variables

MAX_PIECES = 60
_INFINITY = math.inf
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


class NotASetError(ValueError):
  """The tree is not a set of real numbers that this module can describe."""


@dataclasses.dataclass(frozen=True)
class Piece:
  """An interval; `low` and `high` are exact, inexact or infinite, the flags tell whether the ends belong to it."""

  low: Value
  low_in: bool
  high: Value
  high_in: bool


Pieces = list[Piece]
REALS = [Piece(-_INFINITY, False, _INFINITY, False)]


def same_set(a: Tree, b: Tree) -> bool | None:
  """Whether two trees are the same set of reals; None if one of them is no such set."""
  try:
    first, second = describe(a), describe(b)
  except (NotASetError, UnevaluableError):
    return None
  names_a, names_b = _unknowns(a), _unknowns(b)
  if names_a and names_b and names_a != names_b:
    return False
  return len(first) == len(second) and all(
    _same(p.low, q.low) and _same(p.high, q.high) and p.low_in == q.low_in and p.high_in == q.high_in
    for p, q in zip(first, second, strict=True)
  )


def is_range(tree: Tree) -> bool:
  """Whether `tree` can only mean a set of reals: a half-open bracket, a union, an inequality, a set-builder."""
  if tree[0] in {"cup", "cap", "setminus", "reals", "empty", "builder"}:
    return True
  if tree[0] == "sum":
    return tree[1][0][1] == ("reals",)
  if tree[0] == "tuple":
    return len(tree[3]) == 2 and tree[1:3] != ("(", ")")
  if tree[0] == "rel":
    return any(operator in {"<", ">", "<=", ">=", "!="} for operator in tree[2])
  if tree[0] == "in":
    return is_range(tree[2]) or tree[2][0] == "tuple"
  if tree[0] == "list":
    return any(is_range(item) for item in tree[2]) and all(item[0] == "rel" or is_range(item) for item in tree[2])
  return False


def describe(tree: Tree) -> Pieces:
  """The set in normal form: disjoint pieces in order, none touching the next; raises `NotASetError`."""
  kind = tree[0]
  if kind == "empty":
    return []
  if kind == "reals":
    return REALS
  if kind == "tuple" and len(tree[3]) == 2:
    low, high = (_end(item) for item in tree[3])
    if _less(high, low) or (_same(low, high) and tree[1:3] != ("[", "]")):
      raise NotASetError("the ends are the wrong way round, or one point with an open end")
    return _normal(
      [Piece(low, tree[1] == "[" and abs(low) != _INFINITY, high, tree[2] == "]" and abs(high) != _INFINITY)]
    )
  if kind == "set":
    values = [_end(item) for item in tree[1]]
    return _normal([Piece(value, True, value, True) for value in values])
  if kind == "cup":
    return _normal(describe(tree[1]) + describe(tree[2]))
  if kind == "cap":
    return _meet(describe(tree[1]), describe(tree[2]))
  if kind == "setminus":
    universe = REALS if tree[1] == ("var", "R") else describe(tree[1])
    return _meet(universe, _complement(describe(tree[2])))
  if kind == "sum" and len(tree[1]) == 2 and tree[1][1][0] == "-":
    return describe(("setminus", tree[1][0][1], tree[1][1][1]))
  if kind == "in":
    return describe(tree[2])
  if kind == "builder":
    return describe(tree[2])
  if kind == "rel":
    return _solved(tree)
  if kind == "list":
    return _combined(tree)
  raise NotASetError(kind)


def _combined(tree: Tree) -> Pieces:
  """A list of conditions: `or` joins them; `and` or a comma demands all, or joins them where no number meets all."""
  parts = [describe(item) for item in tree[2]]
  if len({name for item in tree[2] for name in _unknowns(item)}) > 1:
    raise NotASetError("several unknowns")
  if tree[1] != "or" and any(item[0] in {"rel", "in"} for item in tree[2]):
    common = REALS
    for part in parts:
      common = _meet(common, part)
    if common:
      return common
    if len(_normal([piece for part in parts for piece in part])) == 1 and len(parts) > 2:
      raise NotASetError("conditions that contradict each other")
  if tree[1] != "or" and any(
    any(_less(p.low, p.high) for p in _meet(part, other)) for part, other in itertools.combinations(parts, 2)
  ):
    raise NotASetError("sets beside each other, that are no pieces of one")
  return _normal([piece for part in parts for piece in part])


def _unknowns(tree: Tree) -> set[str]:
  """The unknown of an inequality; none for an interval, and for a set-builder, whose variable is bound."""
  return set() if tree[0] == "builder" else variables(tree) - {"R"}


def _end(tree: Tree) -> Value:
  if tree == ("const", "inf"):
    return _INFINITY
  if tree[0] == "sum" and len(tree[1]) == 1 and tree[1][0][1] == ("const", "inf"):
    return -_INFINITY if tree[1][0][0] == "-" else _INFINITY
  value = numbers.number(tree)
  if value is None:
    raise NotASetError("an end is no number")
  return value


def _solved(tree: Tree) -> Pieces:
  """What satisfies a chain of relations that are linear in their one unknown."""
  names = variables(tree)
  if len(names) != 1:
    raise NotASetError("not one unknown")
  (name,) = names
  pieces = REALS
  for left, right, operator in zip(tree[1][:-1], tree[1][1:], tree[2], strict=True):
    pieces = _meet(pieces, _half_line(left, right, operator, name))
  return pieces


def _half_line(left: Tree, right: Tree, operator: str, name: str) -> Pieces:
  if operator not in _FLIPPED:
    raise NotASetError(operator)
  infinite = [("const", "inf"), ("sum", (("-", ("const", "inf")),))]
  if left in infinite or right in infinite:
    return REALS
  if left[:2] == ("fn", "abs") and operator[0] in "<>":
    below = _half_line(left[2], right, operator, name)
    above = _half_line(left[2], _negative(right), _FLIPPED[operator], name)
    return _meet(below, above) if operator[0] == "<" else _normal(below + above)
  if right[:2] == ("fn", "abs") and operator in _FLIPPED:
    return _half_line(right, left, _FLIPPED[operator], name)
  difference = ("sum", (("+", left), ("-", right)))
  at = [_value_at(difference, name, Fraction(x)) for x in (0, 1, 2, 7)]
  slope = _minus(at[1], at[0])
  if not _same(_minus(at[2], at[1]), slope) or not _same(_minus(at[3], at[2]), _times(slope, 5)):
    raise NotASetError("not linear")
  if _same(slope, Fraction(0)):
    raise NotASetError("no unknown")
  root = _over(-at[0], slope)
  if slope < 0:
    operator = _FLIPPED[operator]
  if operator == "=":
    return [Piece(root, True, root, True)]
  if operator == "!=":
    return [Piece(-_INFINITY, False, root, False), Piece(root, False, _INFINITY, False)]
  closed = operator.endswith("=")
  if operator[0] == "<":
    return [Piece(-_INFINITY, False, root, closed)]
  return [Piece(root, closed, _INFINITY, False)]


def _negative(tree: Tree) -> Tree:
  return ("sum", (("-", tree),))


def _value_at(tree: Tree, name: str, x: Fraction) -> Value:
  try:
    value = Evaluator({name: x}, percent=False, degrees=False, common_log=False).value(tree)
  except (UnevaluableError, OverflowError, ZeroDivisionError):
    raise NotASetError("no value") from None
  if not isinstance(value, Fraction) and isinstance(value, context(DIGITS[0]).mpc):
    raise NotASetError("not real")
  return value


def _inexact(value: Value) -> Any:
  mp = context(DIGITS[0])
  return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _minus(a: Value, b: Value) -> Value:
  return a - b if isinstance(a, Fraction) and isinstance(b, Fraction) else _inexact(a) - _inexact(b)


def _times(a: Value, b: int) -> Value:
  return a * b


def _over(a: Value, b: Value) -> Value:
  return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else _inexact(a) / _inexact(b)


def _same(a: Value, b: Value) -> bool:
  if abs(a) == _INFINITY or abs(b) == _INFINITY:
    return a == b
  return a == b or numbers.near(a, b, context(DIGITS[0]).mpf(1), DIGITS[0])


def _less(a: Value, b: Value) -> bool:
  return not _same(a, b) and _inexact(a) < _inexact(b)


def _normal(pieces: Pieces) -> Pieces:
  """Sorted, without empty pieces, and with pieces that touch or overlap made one."""
  kept = [p for p in pieces if _less(p.low, p.high) or (_same(p.low, p.high) and p.low_in and p.high_in)]
  if len(kept) > MAX_PIECES:
    raise NotASetError("too many pieces")
  kept.sort(key=lambda p: (_inexact(p.low), not p.low_in))
  result: Pieces = []
  for piece in kept:
    last = result[-1] if result else None
    touching = last is not None and (
      _less(piece.low, last.high) or (_same(piece.low, last.high) and (piece.low_in or last.high_in))
    )
    if last is None or not touching:
      result.append(piece)
      continue
    low_in = last.low_in or (piece.low_in and _same(piece.low, last.low))
    if _less(last.high, piece.high):
      result[-1] = Piece(last.low, low_in, piece.high, piece.high_in)
    else:
      high_in = last.high_in or (piece.high_in and _same(piece.high, last.high))
      result[-1] = Piece(last.low, low_in, last.high, high_in)
  return result


def _meet(first: Pieces, second: Pieces) -> Pieces:
  """The intersection."""
  found = []
  for p in first:
    for q in second:
      low, low_in = _later(p.low, p.low_in, q.low, q.low_in, _less)
      high, high_in = _later(p.high, p.high_in, q.high, q.high_in, lambda a, b: _less(b, a))
      found.append(Piece(low, low_in, high, high_in))
  return _normal(found)


def _later(a: Value, a_in: bool, b: Value, b_in: bool, before: Any) -> tuple[Value, bool]:
  if _same(a, b):
    return a, a_in and b_in
  return (b, b_in) if before(a, b) else (a, a_in)


def _complement(pieces: Pieces) -> Pieces:
  found, low, low_in = [], -_INFINITY, False
  for piece in pieces:
    found.append(Piece(low, low_in, piece.low, not piece.low_in))
    low, low_in = piece.high, not piece.high_in
  found.append(Piece(low, low_in, _INFINITY, False))
  return _normal([p for p in found if not (_same(p.low, p.high) and abs(p.low) == _INFINITY)])
