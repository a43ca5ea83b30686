"""When two expressions have the same value: at several points, exactly where possible, else to fifty digits and more.

Equality of polynomials at random-looking rational points is equality, but for a chance that does not matter here.
"""

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from skymath_jax.grading.symbolic.evaluate import Evaluator, Value
from skymath_jax.grading.symbolic.limits import DIGITS, UnevaluableError, context
from skymath_jax.grading.symbolic.points import comparison_points, further_points, inner_points, points
from skymath_jax.grading.symbolic.tree import Tree, variables, walk

MIN_DIGITS = 9  # a decimal with so many right digits stands for the exact value
FLOAT_DIGITS = 15  # what a float64 can hold
_SLACK = 12  # digits of the working precision that rounding may cost

Reading = Mapping[str, bool]


def readings(*trees: Tree) -> list[Reading]:
  """Every way to read the percent signs, degree signs and bare `log`s in `trees`; one where there are none."""
  nodes = [node for tree in trees for node in walk(tree)]
  choices = (
    (False, True) if any(node[0] == "pct" for node in nodes) else (False,),
    (True, False) if any(node[0] == "deg" for node in nodes) else (False,),
    (False, True) if any(node[:2] == ("fn", "log") and len(node) == 3 for node in nodes) else (False,),
  )
  names = ("percent", "degrees", "common_log")
  return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*choices)]


def near(a: Value, b: Value, scale: Value, digits: int) -> bool:
  """Whether two values agree but for rounding at this precision; exact values agree only if equal."""
  if isinstance(a, Fraction) and isinstance(b, Fraction):
    return a == b
  mp = context(digits)
  a, b = _inexact(a, mp), _inexact(b, mp)
  return bool(abs(a - b) <= mp.mpf(10) ** (_SLACK - digits) * max(abs(a), abs(b), scale))


def _inexact(value: Value, mp: Any) -> Value:
  return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def equal(a: Tree, b: Tree) -> bool:
  """Whether two expressions are equal under one of the readings; never raises."""
  if a == b:
    return True
  if any(_equal_as(a, b, reading) for reading in readings(a, b)) or _decimal(a, b) or _decimal(b, a):
    return True
  tolerance = _tolerance(a, b)
  return tolerance is not None and any(_equal_as(a, b, reading, tolerance) for reading in readings(a, b))


def _tolerance(a: Tree, b: Tree) -> int | None:
  """Digits to which expressions must agree of which one has long decimals inside (`2.71828182845905^x`), else None."""
  if _literal(a) is not None or _literal(b) is not None:
    return None
  lengths = [[n[3] for n in walk(tree) if n[0] == "num" and n[2] is not None and n[3] >= MIN_DIGITS] for tree in (a, b)]
  return MIN_DIGITS - 1 if bool(lengths[0]) != bool(lengths[1]) else None


def _equal_as(a: Tree, b: Tree, reading: Reading, tolerance: int | None = None) -> bool:
  """Equality at every point where both have a value; where roots leave the reals, only points inside count."""
  names = variables(a) | variables(b)
  complex_wanted = any(node == ("const", "i") for tree in (a, b) for node in walk(tree))
  verdicts: list[tuple[bool, bool]] = []  # (equal, all on the way was real)
  try:
    for group in (comparison_points(names, a, b) + further_points(names, a, b), inner_points(names)):
      for point in group:
        verdict = _equal_at(a, b, point, reading, tolerance)
        if verdict is None:
          continue
        verdicts.append(verdict)
        if not verdict[0] and (verdict[1] or complex_wanted or not names):
          return False
      if complex_wanted or not names or any(real for _, real in verdicts):
        break
  except UnevaluableError:
    return False
  decisive = [same for same, real in verdicts if real] or [same for same, _ in verdicts]
  return bool(decisive) and all(decisive)


def _equal_at(
  a: Tree, b: Tree, point: Mapping[str, Fraction], reading: Reading, tolerance: int | None
) -> tuple[bool, bool] | None:
  """(equal, real all the way) at one point; None where one of them has no value there."""
  steps = list(DIGITS)
  real = True
  for digits in steps:  # grows by one where the numbers ask for more digits
    left, right = (Evaluator(point, digits, **reading) for _ in range(2))
    try:
      x, y = left.value(a), right.value(b)
      real = not (left.left_reals or right.left_reals)
      if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y, real
      x, y = left.inexact(x), right.inexact(y)
      needed = max(left.digits_needed(), right.digits_needed())
    except (UnevaluableError, OverflowError, ZeroDivisionError):
      if not point:
        raise UnevaluableError("no value") from None
      return None
    if tolerance is not None:
      return abs(x - y) <= max(abs(x), abs(y)) * left.mp.mpf(10) ** -tolerance, real
    if not near(x, y, max(left.scale, right.scale), digits):
      return False, real
    if digits == DIGITS[-1] and needed > digits:
      steps.append(needed)
  return True, real


def _decimal(decimal: Tree, exact: Tree) -> bool:
  """Whether `decimal` is a decimal literal with at least nine right digits of `exact`, or that with a float's noise."""
  literal = _literal(decimal)
  if literal is None or literal[1] is None or literal[2] < MIN_DIGITS or variables(exact):
    return False
  value, place, digits = literal
  try:
    evaluator = Evaluator({}, **readings(exact)[0])
    difference = evaluator.value(exact)
    if not isinstance(difference, Fraction):
      value, place = evaluator.inexact(value), evaluator.inexact(place)
    difference = abs(difference - value)
  except (UnevaluableError, OverflowError, ZeroDivisionError):
    return False
  noise = digits >= FLOAT_DIGITS and difference * 10 ** (FLOAT_DIGITS - 1) <= abs(value)
  other = _literal(exact)
  if other is not None and other[1] is not None and other[2] < digits:
    return noise  # the longer of two decimals is the one to be rounded
  return bool(noise or difference < place)


def _literal(tree: Tree) -> tuple[Fraction, Fraction | None, int] | None:
  """(value, worth of the last place, digits) of a number literal with an optional minus sign."""
  sign = 1
  if tree[0] == "sum" and len(tree[1]) == 1 and tree[1][0][0] == "-":
    sign, tree = -1, tree[1][0][1]
  if tree[0] == "prod" and len(tree[1]) == 2:  # `2.5 \\times 10^{-3}`
    (_, mantissa), (operator, power) = tree[1]
    exponent = _literal(power[2]) if power[0] == "pow" and power[1][:2] == ("num", 10) else None
    if (
      operator == "*"
      and mantissa[0] == "num"
      and mantissa[2]
      and exponent
      and abs(exponent[0]) < 400
      and exponent[1] is None
    ):
      scale = Fraction(10) ** int(exponent[0])
      return sign * mantissa[1] * scale, mantissa[2] * scale, mantissa[3]
  return (sign * tree[1], tree[2], tree[3]) if tree[0] == "num" else None


def number(tree: Tree) -> Value | None:
  """The one real value of an expression without variables, percent signs as written; None if it has none."""
  try:
    evaluator = Evaluator({}, percent=False, degrees=False, common_log=False)
    value = evaluator.value(tree)
  except (UnevaluableError, OverflowError, ZeroDivisionError):
    return None
  if evaluator.atoms:
    return None
  return None if hasattr(value, "imag") and not isinstance(value, Fraction) and value.imag != 0 else value


def ratio(a: Tree, b: Tree) -> int:
  """The sign of the constant c for which a = c * b at all points; 0 if there is none, or both are zero throughout."""
  names = variables(a) | variables(b)
  signs: set[int] = set()
  for reading in readings(a, b)[:1]:
    first: tuple[Value, Value] | None = None
    try:
      for point in points(names):
        pair = _pair(a, b, point, reading)
        if pair is None:
          continue
        x, y, scale = pair
        if (x == 0) != (y == 0):
          return 0
        if x == 0:
          continue
        if first is None:
          first = (x, y)
        elif (
          not near(x * first[1], y * first[0], scale, DIGITS[0])
          if _exact(x, y, *first)
          else not _close(x, y, first, scale)
        ):
          return 0
        signs.add(_sign(x, y))
    except UnevaluableError:
      return 0
  return signs.pop() if len(signs) == 1 else 0


def _exact(*values: Value) -> bool:
  return all(isinstance(value, Fraction) for value in values)


def _close(x: Value, y: Value, first: tuple[Value, Value], scale: Value) -> bool:
  mp = context(DIGITS[0])
  x, y, x0, y0 = (_inexact(value, mp) for value in (x, y, *first))
  return near(x * y0, y * x0, scale * scale, DIGITS[0])


def _pair(a: Tree, b: Tree, point: Mapping[str, Fraction], reading: Reading) -> tuple[Value, Value, Value] | None:
  left, right = (Evaluator(point, **reading) for _ in range(2))
  try:
    x, y = left.value(a), right.value(b)
  except (UnevaluableError, OverflowError, ZeroDivisionError):
    return None
  scale = max(left.scale, right.scale)
  mp = context(DIGITS[0])
  tiny = mp.mpf(10) ** (_SLACK - DIGITS[0]) * scale
  x, y = (Fraction(0) if not isinstance(v, Fraction) and abs(v) <= tiny else v for v in (x, y))
  return x, y, scale


def _sign(x: Value, y: Value) -> int:
  quotient = x / y if _exact(x, y) else _inexact(x, context(DIGITS[0])) / _inexact(y, context(DIGITS[0]))
  real = getattr(quotient, "real", quotient)
  return 1 if real > 0 else -1
