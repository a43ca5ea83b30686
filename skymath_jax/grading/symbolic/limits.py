"""How much work and how many digits a comparison may take, counted for each thread; the same verdict on any machine."""

import hashlib
import math
import threading
from fractions import Fraction

import mpmath

MAX_BITS = 40_000  # of an exact numerator or denominator
BUDGET = 30_000  # steps that one comparison may take in all; about a second
DIGITS = (50, 110)  # working precisions: a candidate equality at the first must hold at the second
MAX_DIGITS = 7_000  # … and at a third, where what was added or rounded differs so much in size that it needs one

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


def atom(name: str, *arguments: Fraction | int) -> Fraction:
  """A number in place of one that is too large: always the same for the same, and in no relation to any other."""
  digest = hashlib.sha256(repr((name, *arguments)).encode()).digest()
  return Fraction(int.from_bytes(digest[:16]) + 2**128, 2**61 - 1)


def start() -> None:
  """Gives this thread a fresh budget; called once a comparison."""
  _LOCAL.steps = BUDGET


def spend(steps: int) -> None:
  """Takes from the budget; raises `UnevaluableError` when it is used up."""
  _LOCAL.steps = getattr(_LOCAL, "steps", BUDGET) - steps
  if _LOCAL.steps < 0:
    raise UnevaluableError("too much work")


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
