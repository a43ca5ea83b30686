"""Where two expressions are compared: fixed rational points, the same in every run, and more where these miss much."""

import zlib
from fractions import Fraction

from skymath_jax.grading.symbolic.limits import UnevaluableError
from skymath_jax.grading.symbolic.tree import Tree, variables, walk

Point = dict[str, Fraction]
MAX_VARIABLES = 12
POINTS = 4  # the last of them with negative values
WHOLE = 12  # whole numbers for what rounds, where four points may agree by chance
FAR = 24  # points beyond the constants, for what has kinks
INNER = 3  # further points between 0 and 1, for what is real there only, such as log(1 - x)

_ROUNDING = frozenset({"floor", "ceil", "gcd", "lcm", "mod"})
_DIVIDING = frozenset({"gcd", "lcm", "mod"})
_KINKED = frozenset({"abs", "norm", "sgn", "max", "min", "floor", "ceil", "root"})


def points(names: set[str]) -> list[Point]:
  """Fixed rational points for these variables, the same in every run."""
  if len(names) > MAX_VARIABLES:
    raise UnevaluableError("too many variables")

  def coordinate(name: str, index: int) -> Fraction:
    code = zlib.crc32(f"{index} {name}".encode())
    return Fraction(53 + code % 389, (101, 97, 89, 83)[index])

  found = [{name: coordinate(name, index) for name in names} for index in range(POINTS)]
  found[-1] = {name: -value for name, value in found[-1].items()}
  return found if names else [{}]


def comparison_points(names: set[str], *trees: Tree) -> list[Point]:
  """Where two expressions are compared first: at whole numbers where a sum runs up to an unknown, else at `points`."""
  sums = (node for tree in trees for node in walk(tree) if node[0] == "big" and node[1] != "int")
  counted = any(
    variables(limit) for node in sums for limit in (node[3], node[2][1][-1] if node[2][0] == "rel" else node[2])
  )
  return whole_points(names) if counted else points(names)


def whole_points(names: set[str]) -> list[Point]:
  """Whole numbers, and two for each variable that differ."""
  return [{name: Fraction((k * (2 * i + 3)) % 29) for i, name in enumerate(sorted(names))} for k in range(1, WHOLE + 1)]


def divisible_points(names: set[str]) -> list[Point]:
  """Whole numbers with divisors in common."""
  choices = (6, 4, 12, 10, 18, 30, 24, 2, 15, 9, 36, 60, 3, 20, 8, 45)

  def coordinate(name: str, index: int) -> Fraction:
    return Fraction(choices[zlib.crc32(f"{name} {index}".encode()) % len(choices)])

  return [{name: coordinate(name, index) for name in names} for index in range(WHOLE)]


def far_points(names: set[str], *trees: Tree) -> list[Point]:
  """Points of both signs and of all sizes up to beyond the constants in `trees`, and beside each of them."""
  nodes = [node for tree in trees for node in walk(tree)]
  constants = sorted({abs(value) for node in nodes if (value := _constant(node))})[-6:]
  sizes = [c * Fraction(*step) for c in constants for step in ((11, 10), (9, 10))]
  largest = max(constants, default=Fraction(1)) * max(constants[:-1], default=Fraction(1))
  smallest = min([Fraction(1, 2), *constants])
  while len(sizes) < 2 * FAR and smallest < 8 * largest:
    sizes.append(smallest * Fraction(13, 11))
    smallest *= Fraction(9, 4)
  choices = [sign * size for size in sizes for sign in (1, -1)]

  def coordinate(name: str, index: int) -> Fraction:
    if len(names) == 1:
      return choices[index]
    return choices[zlib.crc32(f"far {name} {index}".encode()) % len(choices)]

  return [{name: coordinate(name, index) for name in names} for index in range(min(len(choices), 4 * FAR))]


def _constant(node: Tree) -> Fraction | None:
  """The number that a literal or a power of literals is; None for anything else, or what is too large to matter."""
  if node[0] == "num":
    return Fraction(node[1])
  if node[0] == "pow" and node[1][0] == node[2][0] == "num" and node[2][1] in range(1, 41):
    return Fraction(node[1][1] ** int(node[2][1])) if abs(node[1][1].numerator) < 10**6 else None
  return None


def inner_points(names: set[str]) -> list[Point]:
  """The first `points`, scaled into the interval from 0 to 1."""
  return [{name: value / 5 for name, value in point.items()} for point in points(names)[:INNER]]


def further_points(names: set[str], *trees: Tree) -> list[Point]:
  """Points for what four of them may miss: whole numbers for what rounds, far ones for what has kinks."""
  if not names:
    return []
  used = {node[1] for tree in trees for node in walk(tree) if node[0] == "fn"}
  found = whole_points(names) if used & _ROUNDING else []
  if used & _DIVIDING:
    found += divisible_points(names)
  powers = (node[2] for tree in trees for node in walk(tree) if node[0] == "pow")
  if used & _KINKED or any(power[0] == "prod" or (power[0] == "num" and power[1].denominator > 1) for power in powers):
    found += far_points(names, *trees)
  return found
