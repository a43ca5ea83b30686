"""The value of an expression at a point: exact rationals as long as possible, else many digits; never a float.

Every size is bounded: digits of exact numbers, exponents, arguments of functions, number of steps. What lies beyond
raises `UnevaluableError`, and the answers are then equal only if they are written alike. Factorials and powers that are
too large to write down become a number of their own (`atom`), with which may be calculated but not compared.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from skymath_jax.grading.symbolic.lexer import DIRECT
from skymath_jax.grading.symbolic.limits import (
  DIGITS,
  MAX_BITS,
  MAX_DIGITS,
  UnevaluableError,
  atom,
  bounded,
  context,
  integer_root,
  spend,
)
from skymath_jax.grading.symbolic.tree import Tree

MAX_FACTORIAL = 1_500
MAX_SIDE = 5  # of a determinant
MAX_TERMS = 1_000  # of a sum that is carried out
MAX_EXPONENT = 10**7  # of powers that are not exact
_BLOCK = 500  # factorials of numbers in one block of so many have the same atom

Value = Any  # Fraction | mpf | mpc


class Evaluator:
  """Evaluates trees under one reading: what variables, a percent sign, a degree sign and `log` stand for."""

  def __init__(
    self, point: Mapping[str, Fraction], digits: int = DIGITS[0], *, percent: bool, degrees: bool, common_log: bool
  ):
    self.mp, self.point = context(digits), point
    self.percent, self.degrees, self.common_log = percent, degrees, common_log
    self.left_reals = False  # whether anything on the way was not a real number
    self.scale: Value = self.mp.mpf(0)  # largest term that could have cancelled
    self.bits = 0  # how far apart in size are what was added up, or the digits of what was made inexact
    self.atoms = False  # whether a number stands for one that is too large

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

  def _plain_value(self, tree: Tree) -> Value:
    """The value of `tree`, without numbers in it that stand for larger ones."""
    before, self.atoms = self.atoms, False
    result = self.value(tree)
    if self.atoms:
      raise UnevaluableError("too large")
    self.atoms = before
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
    if not isinstance(value, Fraction):
      return value
    if self.atoms:
      raise UnevaluableError("too large")
    self.bits = max(self.bits, value.numerator.bit_length() + value.denominator.bit_length())
    return self.mp.mpf(value.numerator) / value.denominator

  def digits_needed(self) -> int:
    """The working precision that an equality of such numbers can be trusted at; raises `UnevaluableError`."""
    digits = self.bits * 2 * 301 // 1000 + 40
    if digits > MAX_DIGITS:
      raise UnevaluableError("too many digits")
    spend(max(0, digits - DIGITS[1]) // 10)
    return digits if digits <= DIGITS[1] else -(-digits // 500) * 500

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
        total, value = self.inexact(total), self.inexact(value)
        self.scale = max(self.scale, abs(value), abs(total))
        if total and value:
          self.bits = max(self.bits, abs(self.mp.mag(total) - self.mp.mag(value)))
        total = total + value
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
    exponent = self._plain_value(tree[2])
    base = self.value(tree[1])
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
    length = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * length <= MAX_BITS:
      return base**exponent
    if length > MAX_BITS // 4:
      raise UnevaluableError("power too large")
    self.atoms = True
    rest = exponent % (MAX_BITS // 2 // length)
    return atom("power", base, exponent - rest) * base**rest

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
    if name != "int" and bound and (steps := self._steps(start, upper)):
      terms = tuple(("*" if name == "prod" else "+", ("at", bound, step, body)) for step in steps)
      return self.value(("prod" if name == "prod" else "sum", terms))
    parts = [self.inexact(self.value(("at", bound, _BOUND, body)))]
    parts += [
      self.mp.mpf(limit[0] == "const") if limit[0] in {"none", "const"} else self.inexact(self.value(limit))
      for limit in (start, upper)
    ]
    weights = (self.mp.sqrt(len(name)), self.mp.pi, self.mp.e)
    return self.mp.fsum(weight * part for weight, part in zip(weights, parts, strict=True))

  def _steps(self, start: Tree, upper: Tree) -> list[Fraction]:
    """The whole numbers from `start` to `upper`; none where these are no numbers, or too far apart."""
    if "const" in (start[0], upper[0]) or "none" in (start[0], upper[0]):
      return []
    first, last = self.value(start), self.value(upper)
    if not all(isinstance(limit, Fraction) and limit.denominator == 1 for limit in (first, last)):
      return []
    return [first + k for k in range(int(last - first) + 1)] if 0 <= last - first < MAX_TERMS else []

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
    name, arguments = tree[1], [self._plain_value(argument) for argument in tree[2:]]
    if name == "root":
      return self._root(*arguments)
    if name in {"gcd", "lcm", "max", "min"}:
      return self._of_many(name, arguments)
    if name == "binom" or name == "factorial":
      return self._counting(name, arguments)
    if name in {"perm", "mod"} and len(arguments) == 2:
      return self._of_two(name, *arguments)
    if name == "sgn" and len(arguments) == 1 and not isinstance(arguments[0], self.mp.mpc):
      return Fraction((arguments[0] > 0) - (arguments[0] < 0))
    if name in {"re", "im", "arg", "conj"} and len(arguments) == 1:
      return getattr(self.mp, name)(self.inexact(arguments[0]))
    if name in {"floor", "ceil", "abs", "round"} and len(arguments) == 1:
      return self._rounding(name, *arguments)
    if name in {"log", "ln", "lg"}:
      return self._log(name, *arguments)
    if len(arguments) != 1 or name not in _ELEMENTARY:
      raise UnevaluableError(f"function {name}")
    argument = self.inexact(arguments[0])
    if abs(argument) > (10**5 if name == "exp" or name[-1] == "h" else 10**20):
      raise UnevaluableError("argument too large")
    self.scale = max(self.scale, abs(argument), self.mp.mpf(1))
    if argument:
      self.bits = max(self.bits, 2 * abs(self.mp.mag(argument)), 3 * int(abs(argument)) if name[-1] == "h" else 0)
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
    if name == "binom" and whole and len(arguments) == 2 and self._is_small_binomial(*arguments):
      return bounded(Fraction(math.comb(*(int(a) for a in arguments))))
    if any(abs(a) > MAX_FACTORIAL for a in arguments):
      if not whole or len(arguments) > 2 or any(a.numerator.bit_length() > MAX_BITS // _BLOCK for a in arguments):
        raise UnevaluableError(f"{name} too large")
      self.atoms = True
      if name == "binom":
        return atom(name, *arguments)
      start = (int(arguments[0]) - _BLOCK // 3) // _BLOCK * _BLOCK + _BLOCK // 3
      return atom(name, start) * math.prod(range(start + 1, int(arguments[0]) + 1))
    if whole:
      return Fraction((math.factorial if name == "factorial" else math.comb)(*(int(a) for a in arguments)))
    values = [self.inexact(a) for a in arguments]
    try:
      return self.mp.factorial(*values) if name == "factorial" else self.mp.binomial(*values)
    except ValueError as error:
      raise UnevaluableError(str(error)) from None

  def _is_small_binomial(self, n: Fraction, k: Fraction) -> bool:
    return k > n or min(k, n - k) * n.numerator.bit_length() <= MAX_BITS // 4

  def _of_two(self, name: str, a: Value, b: Value) -> Value:
    if not all(isinstance(v, Fraction) and v.denominator == 1 for v in (a, b)) or (name == "mod" and b == 0):
      raise UnevaluableError(f"{name} of what are not integers")
    if name == "mod":
      return Fraction(int(a) % int(b))
    if not 0 <= b <= a <= MAX_FACTORIAL:
      raise UnevaluableError(name)
    return Fraction(math.perm(int(a), int(b)))

  def _rounding(self, name: str, argument: Value) -> Value:
    if name == "abs":
      return abs(argument)
    if isinstance(argument, self.mp.mpc):
      raise UnevaluableError(name)
    if name == "round":  # a half goes away from zero
      half = Fraction(1, 2) if isinstance(argument, Fraction) else self.mp.mpf(1) / 2
      size = self._rounding("floor", abs(argument) + half)
      return size if argument >= 0 else -size
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
_ELEMENTARY = {  # ours → mpmath's
  "exp": "exp",
  **{name: name for name in DIRECT},
  **{f"arc{name}": f"a{name}" for name in DIRECT},
}  # fmt: skip
