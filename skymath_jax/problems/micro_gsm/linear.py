"""Forks: where two persons' quantities both depend on one unknown, it is found from a linear form `p * m + q`."""

import dataclasses
from collections.abc import Sequence

from skymath_jax.problems.micro_gsm.algebra import Equation, System, apply
from skymath_jax.problems.micro_gsm.program import Number, Value

Form = tuple[int, int]  # (p, q) stands for p * m + q


@dataclasses.dataclass(frozen=True)
class Fork:
  """The unknown `quantity`, its value, and how it was found.

  `forms` are (quantity, form, its value if known), the last one with a value; `solving` are the equations that undo
  it; `sources` are the known quantities that went in.
  """

  quantity: int
  value: int
  forms: tuple[tuple[int, Form, Value], ...]
  solving: tuple[tuple[Value, str, Value, Value], ...]
  sources: frozenset[int]


def text(form: Form, symbol: str) -> str:
  """`3 * m + 5`, `m - 4`, `2 * m`."""
  p, q = form
  scaled = symbol if p == 1 else f"{p} * {symbol}"
  return scaled if q == 0 else f"{scaled} {'+' if q > 0 else '-'} {abs(q)}"


def solve_fork(built: System, values: Sequence[Value]) -> Fork | None:
  """The latest unknown that alone decides a known quantity; None if there is none with whole coefficients."""
  produced = [equation.out for equation in built.equations]
  unknown = [i for i in produced if values[i] is None and built.roles[i][0] == "has"]
  for quantity in [*reversed(unknown), built.hidden]:
    fork = _from(built, values, quantity)
    if fork is not None:
      return fork
  return None


def _from(built: System, values: Sequence[Value], quantity: int) -> Fork | None:
  forms: dict[int, Form] = {quantity: (1, 0)}
  told: list[tuple[int, Form, Value]] = []
  sources: set[int] = set()
  for equation in built.equations:
    form = _combine(equation, forms, values)
    if form is None:
      continue
    sources.update(i for i in (equation.left, equation.right) if i not in forms)
    forms[equation.out] = form
    known = values[equation.out]
    told.append((equation.out, form, known))
    if known is not None:
      sources.add(equation.out)
      return _solved(quantity, told, form, known, sources)
  return None


def _combine(equation: Equation, forms: dict[int, Form], values: Sequence[Value]) -> Form | None:
  """The form of an equation's result; None if it does not depend on the unknown alone, or not wholly."""
  if equation.left not in forms and equation.right not in forms:
    return None
  sides: list[tuple[int, Number]] = []
  for index in (equation.left, equation.right):
    value = values[index]
    if index in forms:
      sides.append(forms[index])
    elif value is None:
      return None
    else:
      sides.append((0, value))
  (p, q), (r, s) = sides
  found: tuple[Value, Value]
  if equation.op in "+-":
    sign = 1 if equation.op == "+" else -1
    found = p + sign * r, q + sign * s
  elif r:
    return None
  else:
    found = apply(equation.op, p, s), apply(equation.op, q, s)
  a, b = found
  return (a, b) if isinstance(a, int) and isinstance(b, int) else None


def _solved(
  quantity: int, told: list[tuple[int, Form, Value]], form: Form, known: Number, sources: set[int]
) -> Fork | None:
  p, q = form
  if p <= 0:
    return None
  solving: list[tuple[Value, str, Value, Value]] = []
  rest: Value = known
  if q:
    op = "-" if q > 0 else "+"
    rest = apply(op, known, abs(q))
    solving.append((known, op, abs(q), rest))
  if p != 1 and rest is not None:
    solving.append((rest, "/", p, apply("/", rest, p)))
    rest = solving[-1][-1]
  if not isinstance(rest, int):
    return None
  return Fork(quantity, rest, tuple(told), tuple(solving), frozenset(sources))
