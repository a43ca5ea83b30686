"""The value of an expression at a point: exact rationals as long as possible, else many digits; never a float.

Every size is bounded: digits of exact numbers, exponents, arguments of functions, number of steps. What lies beyond
raises `UnevaluableError`, and the answers are then equal only if they are written alike.
"""

import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from skymath_jax.grading.symbolic.tree import Tree

MAX_BITS = 40_000  # of an exact numerator or denominator
BUDGET = 30_000  # steps that one comparison may take in all; about a second
MAX_FACTORIAL = 1_500
MAX_SIDE = 5  # of a determinant
MAX_TERMS = 1_000  # of a sum that is carried out
MAX_EXPONENT = 10**7  # of powers that are not exact
DIGITS = (50, 110)  # working precisions: a candidate equality at the first must hold at the second

Value = Any  # Fraction | mpf | mpc
_LOCAL = threading.local()


class UnevaluableError(ArithmeticError):
  """No value here: undefined, too large, or not a number at all."""


def context(digits: int) -> mpmath.ctx_mp.MPContext:
  """This thread's mpmath context at the given precision; the library's global one is left alone."""
  if not hasattr(_LOCAL, "contexts"):
    _LOCAL.contexts = {}
  if digits not in _LOCAL.contexts:
    made = mpmath.MPContext()
    made.dps = digits
    _LOCAL.contexts[digits] = made
  return _LOCAL.contexts[digits]


def start() -> None:
  """Gives this thread a fresh budget; called once a comparison."""
  _LOCAL.steps = BUDGET


def spend(steps: int) -> None:
  """Takes from the budget; raises `UnevaluableError` when it is used up."""
  _LOCAL.steps = getattr(_LOCAL, "steps", BUDGET) - steps
  if _LOCAL.steps < 0:
    raise UnevaluableError("too much work")


class Evaluator:
  """Evaluates trees under one reading: what variables, a percent sign, a degree sign and `log` stand for."""

  def __init__(
    self, point: Mapping[str, Fraction], digits: int = DIGITS[0], *, percent: bool, degrees: bool, common_log: bool
  ):
    self.mp, self.point = context(digits), point
    self.percent, self.degrees, self.common_log = percent, degrees, common_log
    self.left_reals = False  # whether anything on the way was not a real number
    self.scale: Value = self.mp.mpf(0)  # largest term that could have cancelled

  def value(self, tree: Tree) -> Value:
    """The value of `tree`; raises `UnevaluableError`."""
    spend(1)
    handler: Callable[[Tree], Value] | None = getattr(self, f"_{tree[0]}", None)
    if handler is None:
      raise UnevaluableError(f"{tree[0]} is not a number")
    result = handler(tree)
    if isinstance(result, self.mp.mpc):
      if result.imag == 0:
        return result.real
      self.left_reals = True
    if not isinstance(result, Fraction) and not self.mp.isfinite(result):
      raise UnevaluableError("not finite")
    return result

  # leaves

  def _num(self, tree: Tree) -> Value:
    return bounded(tree[1])

  def _var(self, tree: Tree) -> Value:
    if tree[1] not in self.point:
      raise UnevaluableError(f"variable {tree[1]}")
    return self.point[tree[1]]

  def _const(self, tree: Tree) -> Value:
    if tree[1] == "inf":
      raise UnevaluableError("infinity")
    return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[tree[1]]

  def _pct(self, tree: Tree) -> Value:
    inner = self.value(tree[1])
    return self.times(inner, Fraction(1, 100)) if self.percent else inner

  def _deg(self, tree: Tree) -> Value:
    inner = self.value(tree[1])
    return self.inexact(inner) * self.mp.pi / 180 if self.degrees else inner

  # arithmetic

  def inexact(self, value: Value) -> Value:
    """`value` in the working precision."""
    return self.mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

  def times(self, a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
      return bounded(a * b)
    return self.inexact(a) * self.inexact(b)

  def _sum(self, tree: Tree) -> Value:
    total: Value = Fraction(0)
    for sign, term in tree[1]:
      if sign not in "+-":
        raise UnevaluableError("more than one value")
      value = self.value(term)
      value = -value if sign == "-" else value
      if isinstance(total, Fraction) and isinstance(value, Fraction):
        total = bounded(total + value)
      else:
        self.scale = max(self.scale, abs(self.inexact(value)), abs(self.inexact(total)))
        total = self.inexact(total) + self.inexact(value)
    return total

  def _prod(self, tree: Tree) -> Value:
    total: Value = Fraction(1)
    for operator, factor in tree[1]:
      value = self.value(factor)
      if operator == "/":
        if value == 0:
          raise UnevaluableError("division by zero")
        value = 1 / value
      total = self.times(total, value)
    return total

  def _pow(self, tree: Tree) -> Value:
    base, exponent = self.value(tree[1]), self.value(tree[2])
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
      return self._integer_power(base, int(exponent))
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator < 100:
      root = self._real_root(base, exponent.denominator) if base >= 0 or exponent.denominator % 2 else None
      if root is not None:
        return self._integer_power(root, exponent.numerator)
    return self._general_power(base, exponent)

  def _integer_power(self, base: Value, exponent: int) -> Value:
    if base == 0 and exponent <= 0:
      raise UnevaluableError("zero to a power that is not positive")
    if not isinstance(base, Fraction):
      if abs(exponent) > MAX_EXPONENT:
        raise UnevaluableError("exponent")
      return base**exponent
    if abs(base) in (0, 1):
      return base ** (exponent % 2 or 2)
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
      raise UnevaluableError("power too large")
    return base**exponent

  def _general_power(self, base: Value, exponent: Value) -> Value:
    base, exponent = self.inexact(base), self.inexact(exponent)
    if base == 0:
      if self.mp.re(exponent) > 0:
        return Fraction(0)
      raise UnevaluableError("zero to a power that is not positive")
    if abs(exponent) * (1 + abs(self.mp.log(abs(base)))) > MAX_EXPONENT:
      raise UnevaluableError("exponent")
    return self.mp.power(base, exponent)

  def _real_root(self, base: Fraction, degree: int) -> Value:
    """The real root; exact where it is rational."""
    top, bottom = integer_root(abs(base.numerator), degree), integer_root(base.denominator, degree)
    sign = -1 if base < 0 else 1
    if top is not None and bottom is not None:
      return Fraction(sign * top, bottom)
    return sign * self.mp.root(self.inexact(abs(base)), degree)

  # functions

  def _big(self, tree: Tree) -> Value:
    """A finite sum or product by its terms; any other (and an integral) as a mixture that only its equal has."""
    _, name, lower, upper, body = tree
    spend(10)
    bound = lower[1][0][1] if lower[0] == "rel" and lower[1][0][0] == "var" else ""
    start = lower[1][-1] if lower[0] == "rel" else lower
    if name != "int" and bound and start[0] == upper[0] == "num" and 0 <= upper[1] - start[1] < MAX_TERMS:
      terms = tuple(
        ("*" if name == "prod" else "+", ("at", bound, start[1] + k, body)) for k in range(int(upper[1] - start[1]) + 1)
      )
      return self.value(("prod" if name == "prod" else "sum", terms))
    parts = [self.inexact(self.value(("at", bound, _BOUND, body)))]
    parts += [
      self.mp.mpf(limit[0] == "const") if limit[0] in {"none", "const"} else self.inexact(self.value(limit))
      for limit in (start, upper)
    ]
    weights = (self.mp.sqrt(len(name)), self.mp.pi, self.mp.e)
    return self.mp.fsum(weight * part for weight, part in zip(weights, parts, strict=True))

  def _det(self, tree: Tree) -> Value:
    """A determinant by expansion along the first row."""
    rows = tree[1]
    if len(rows) != len(rows[0]) or len(rows) > MAX_SIDE:
      raise UnevaluableError("determinant")
    if len(rows) == 1:
      return self.value(rows[0][0])
    minors = (tuple(row[:j] + row[j + 1 :] for row in rows[1:]) for j in range(len(rows)))
    terms = (
      ("+-"[j % 2], ("prod", (("*", cell), ("*", ("det", minor)))))
      for j, (cell, minor) in enumerate(zip(rows[0], minors, strict=True))
    )
    return self.value(("sum", tuple(terms)))

  def _at(self, tree: Tree) -> Value:
    """A term of a sum: the body with the bound variable at a value."""
    outer = self.point
    self.point = {**outer, tree[1]: tree[2]} if tree[1] else outer
    try:
      return self.value(tree[3])
    finally:
      self.point = outer

  def _fn(self, tree: Tree) -> Value:
    spend(10)
    name, arguments = tree[1], [self.value(argument) for argument in tree[2:]]
    if name == "root":
      return self._root(*arguments)
    if name in {"gcd", "lcm", "max", "min"}:
      return self._of_many(name, arguments)
    if name == "binom" or name == "factorial":
      return self._counting(name, arguments)
    if name in {"floor", "ceil", "abs"}:
      return self._rounding(name, *arguments)
    if name in {"log", "ln", "lg"}:
      return self._log(name, *arguments)
    if len(arguments) != 1 or name not in _ELEMENTARY:
      raise UnevaluableError(f"function {name}")
    argument = self.inexact(arguments[0])
    if abs(argument) > (10**5 if name == "exp" or name[-1] == "h" else 10**20):
      raise UnevaluableError("argument too large")
    self.scale = max(self.scale, abs(argument), self.mp.mpf(1))
    try:
      return getattr(self.mp, _ELEMENTARY[name])(argument)
    except (ZeroDivisionError, ValueError) as error:
      raise UnevaluableError(str(error)) from None

  def _root(self, base: Value, degree: Value) -> Value:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 100:
      if degree == 0:
        raise UnevaluableError("zeroth root")
      return self._general_power(base, 1 / degree)
    n = int(degree)
    if isinstance(base, Fraction) and (base >= 0 or n % 2):
      return self._real_root(base, n)
    base = self.inexact(base)
    if n % 2 and not isinstance(base, self.mp.mpc) and base < 0:
      return -self.mp.root(-base, n)
    return self.mp.root(base, n)

  def _of_many(self, name: str, arguments: list[Value]) -> Value:
    if not arguments or any(isinstance(a, self.mp.mpc) for a in arguments):
      raise UnevaluableError(name)
    if name in {"max", "min"}:
      return {"max": max, "min": min}[name](arguments)
    if any(not isinstance(a, Fraction) or a.denominator != 1 for a in arguments):
      raise UnevaluableError(f"{name} of what are not integers")
    return bounded(Fraction({"gcd": math.gcd, "lcm": math.lcm}[name](*(int(a) for a in arguments))))

  def _counting(self, name: str, arguments: list[Value]) -> Value:
    whole = all(isinstance(a, Fraction) and a.denominator == 1 and a >= 0 for a in arguments)
    if any(abs(a) > MAX_FACTORIAL for a in arguments):
      raise UnevaluableError(f"{name} too large")
    if whole:
      return Fraction((math.factorial if name == "factorial" else math.comb)(*(int(a) for a in arguments)))
    values = [self.inexact(a) for a in arguments]
    try:
      return self.mp.factorial(*values) if name == "factorial" else self.mp.binomial(*values)
    except ValueError as error:
      raise UnevaluableError(str(error)) from None

  def _rounding(self, name: str, argument: Value) -> Value:
    if name == "abs":
      return abs(argument)
    if isinstance(argument, self.mp.mpc):
      raise UnevaluableError(name)
    if isinstance(argument, Fraction):
      return Fraction(math.floor(argument) if name == "floor" else math.ceil(argument))
    nearest = self.mp.nint(argument)
    if abs(argument - nearest) < self.mp.mpf(10) ** (10 - self.mp.dps):
      argument = nearest  # an integer but for the last digits
    return Fraction(int(self.mp.floor(argument) if name == "floor" else self.mp.ceil(argument)))

  def _log(self, name: str, argument: Value, base: Value | None = None) -> Value:
    if argument == 0:
      raise UnevaluableError("logarithm of zero")
    if base is None and (name == "lg" or (name == "log" and self.common_log)):
      base = Fraction(10)
    self.scale = max(self.scale, self.mp.mpf(1))
    natural = self.mp.log(self.inexact(argument))
    if base is None:
      return natural
    if base in (0, 1):
      raise UnevaluableError("base of a logarithm")
    return natural / self.mp.log(self.inexact(base))


_BOUND = Fraction(173, 97)  # where the body of a sum that is not carried out is looked at
_DIRECT = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch")
_ELEMENTARY = {  # ours → mpmath's
  "exp": "exp",
  **{name: name for name in _DIRECT},
  **{f"arc{name}": f"a{name}" for name in _DIRECT[:9]},
}  # fmt: skip


def bounded(value: Fraction) -> Fraction:
  """`value`; raises `UnevaluableError` when it has too many digits to go on with."""
  bits = max(value.numerator.bit_length(), value.denominator.bit_length())
  if bits > MAX_BITS:
    raise UnevaluableError("too many digits")
  spend(bits // 500)
  return value


def integer_root(value: int, degree: int) -> int | None:
  """The exact `degree`-th root of a non-negative integer, or None."""
  if degree == 2:
    root = math.isqrt(value)
  elif value < 2 or degree == 1:
    root = value
  else:
    root = 1 << -(-value.bit_length() // degree)
    while True:  # Newton's method from above
      smaller = ((degree - 1) * root + value // root ** (degree - 1)) // degree
      if smaller >= root:
        break
      root = smaller
  return root if root**degree == value else None
