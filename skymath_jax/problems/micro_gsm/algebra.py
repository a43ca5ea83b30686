"""A problem as a list of elementary equations, solved forward from its numbers or backward from its answer.

Every relation of the world compiles to one or two equations `out = left op right` over numbered quantities. The number
of equations is the level of the problem. The same list gives the solution text, the oracle and the backward solution.
"""

import dataclasses
from collections.abc import Sequence, Set
from fractions import Fraction
from typing import TypeGuard

from skymath_jax.problems.micro_gsm.program import BOTH, Number, Program, Relation, Value


@dataclasses.dataclass(frozen=True)
class Equation:
  """`out = left op right`, all three are indices of quantities."""

  op: str
  left: int
  right: int
  out: int


@dataclasses.dataclass(frozen=True)
class Derivation:
  """One computed quantity: `quantity = left op right`, with the values that were put in and where they came from."""

  quantity: int
  left: Value
  op: str
  right: Value
  value: Value
  sources: tuple[int, int]


@dataclasses.dataclass
class System:
  """The equations of one program.

  `roles[i]` is (kind of quantity i, person); `values[i]` is a number of the text or None. `extra` holds equations that
  follow from the others and are used to work backward only. `hidden` is the quantity of the masked number X, or -1.
  """

  roles: list[tuple[str, int]] = dataclasses.field(default_factory=list)
  values: list[Value] = dataclasses.field(default_factory=list)
  equations: list[Equation] = dataclasses.field(default_factory=list)
  extra: list[Equation] = dataclasses.field(default_factory=list)
  answer: int = -1
  hidden: int = -1

  def quantity(self, role: str, who: int = 0, value: Value = None) -> int:
    self.roles.append((role, who))
    self.values.append(value)
    return len(self.values) - 1

  def number(self, value: Value) -> int:
    """A number of the text; None is the masked one."""
    index = self.quantity("number", 0, value)
    if value is None:
      self.hidden = index
    return index

  def divider(self, value: Value) -> int:
    """The divider that a fraction stands for; a masked percentage X gives 100 / X."""
    index = self.quantity("divider", 0, value)
    if value is None:
      self.extra.append(Equation("/", self.quantity("hundred", 0, 100), self.number(None), index))
    return index

  def equation(self, role: str, who: int, left: int, op: str, right: int) -> int:
    out = self.quantity(role, who)
    self.equations.append(Equation(op, left, right, out))
    return out


_DIRECT = {"gain": "+", "loss": "-", "times": "*", "split": "/", "more": "+", "fewer": "-", "ctimes": "*"}
_FINAL = {"price": ("dollars", "*"), "pack": ("packs", "/"), "share": ("each", "/"), "need": ("need", "-")}


def system(program: Program) -> System:
  """Compiles a program; a None among its numbers becomes the hidden quantity."""
  built = System()
  state: dict[int, int] = {}
  for relation in program.relations:
    state[relation.who] = _relation(built, relation, state)
  built.answer = _final(built, program.final, state)
  return built


def _relation(built: System, relation: Relation, state: dict[int, int]) -> int:
  """Adds one relation's equations; returns the quantity that the person then has."""
  kind, who, numbers = relation.kind, relation.who, relation.numbers
  if kind == "start":
    return built.number(numbers[0])
  if kind in ("groups", "rate"):
    return built.equation("has", who, built.number(numbers[0]), "*", built.number(numbers[1]))
  before = state[1 - who] if relation.compares else state[who]
  if kind in _DIRECT:
    return built.equation("has", who, before, _DIRECT[kind], built.number(numbers[0]))
  if kind in ("keep", "cfrac"):
    return built.equation("has", who, before, "/", built.divider(numbers[0]))
  if kind == "lossf":
    part = built.equation("loses", who, before, "/", built.divider(numbers[0]))
    after = built.equation("has", who, before, "-", part)
    if numbers[0] == 2:
      built.extra.append(Equation("/", before, built.quantity("divider", 0, 2), after))
    elif numbers[0] is not None:  # what is left is (divider - 1) parts
      built.extra.append(Equation("*", part, built.quantity("divider", 0, numbers[0] - 1), after))
    return after
  role, op = ("loses", "-") if kind == "rloss" else ("gets", "+")
  part = built.equation(role, who, built.number(numbers[0]), "*", built.number(numbers[1]))
  return built.equation("has", who, before, op, part)


def _final(built: System, final: Relation, state: dict[int, int]) -> int:
  if final.kind == "diff":
    return built.equation("diff", final.who, state[final.who], "-", state[1 - final.who])
  if final.who == BOTH:
    have = built.equation("total", BOTH, state[0], "+", state[1])
  else:
    have = state[final.who]
  if final.kind in ("own", "total"):
    return have
  role, op = _FINAL[final.kind]
  number = built.number(final.numbers[0])
  left, right = (number, have) if final.kind == "need" else (have, number)
  return built.equation(role, final.who, left, op, right)


def apply(op: str, left: Number, right: Number) -> Value:
  """`left op right`; an uneven division gives a Fraction, one by zero None."""
  if op == "+":
    return left + right
  if op == "-":
    return left - right
  if op == "*":
    return left * right
  if right == 0:
    return None
  if isinstance(left, int) and isinstance(right, int) and left % right == 0:
    return left // right
  result = Fraction(left) / right
  return result.numerator if result.denominator == 1 else result


def sound(value: Value) -> TypeGuard[int]:
  """Whether a value is a positive integer, as every quantity of the world must be."""
  return isinstance(value, int) and value > 0


def forward(built: System, hidden: int | None = None) -> list[Value] | None:
  """All values, with `hidden` put for X; None unless every computed one is a positive integer.

  A divider may be a fraction (30% is a division by 10/3), what comes out of it may not.
  """
  values = list(built.values)
  if built.hidden >= 0:
    values[built.hidden] = hidden
    for equation in built.extra:
      if equation.right == built.hidden and hidden:
        values[equation.out] = Fraction(100, hidden)
  for equation in built.equations:
    left, right = values[equation.left], values[equation.right]
    if left is None or right is None or left <= 0 or right <= 0 or (equation.op == "/" and left % right):
      return None
    value = apply(equation.op, left, right)
    if not sound(value):
      return None
    values[equation.out] = value
  return values


def steps(built: System, values: Sequence[Value]) -> list[Derivation]:
  """The forward computation, one derivation an equation."""
  return [
    Derivation(e.out, values[e.left], e.op, values[e.right], values[e.out], (e.left, e.right)) for e in built.equations
  ]


_INVERSE_LEFT = {"+": "-", "-": "+", "*": "/", "/": "*"}


def _solve_for(equation: Equation, values: Sequence[Value]) -> Derivation | None:
  """The one unknown of an equation, or None if it has none or several."""
  left, right, out = values[equation.left], values[equation.right], values[equation.out]
  if (left is None) + (right is None) + (out is None) != 1:
    return None
  if out is None:
    quantity, op, sources = equation.out, equation.op, (equation.left, equation.right)
  elif left is None:
    quantity, op, sources = equation.left, _INVERSE_LEFT[equation.op], (equation.out, equation.right)
  elif equation.op in "+*":
    quantity, op, sources = equation.right, _INVERSE_LEFT[equation.op], (equation.out, equation.left)
  else:  # left - X = out, left / X = out
    quantity, op, sources = equation.right, equation.op, (equation.left, equation.out)
  a, b = values[sources[0]], values[sources[1]]
  value = None if a is None or b is None else apply(op, a, b)
  return None if value is None else Derivation(quantity, a, op, b, value, sources)


def backward(built: System, answer: int) -> tuple[list[Derivation], list[Value]]:
  """Everything that follows from the numbers and the answer: what runs forward first, then from the end backward."""
  values = list(built.values)
  values[built.answer] = answer
  found: list[Derivation] = []
  propagate(built, values, found)
  return found, values


def propagate(built: System, values: list[Value], found: list[Derivation]) -> None:
  """Extends `values` and `found` in place until no equation has exactly one unknown."""
  for equation in built.equations:
    if values[equation.out] is None and (derivation := _solve_for(equation, values)):
      _note(derivation, values, found)
  order = built.extra + built.equations[::-1]
  progress = True
  while progress:
    progress = False
    for equation in order:
      derivation = _solve_for(equation, values)
      if derivation:
        _note(derivation, values, found)
        progress = True
        break


def _note(derivation: Derivation, values: list[Value], found: list[Derivation]) -> None:
  values[derivation.quantity] = derivation.value
  found.append(derivation)


def needed(found: Sequence[Derivation], targets: Set[int]) -> list[Derivation]:
  """The derivations, in order, that lead to the targets; the others are left out."""
  wanted, kept = set(targets), []
  for derivation in reversed(found):
    if derivation.quantity in wanted:
      wanted.update(derivation.sources)
      kept.append(derivation)
  return kept[::-1]


LARGEST_HIDDEN = 1000


def hidden_value(built: System, answer: int) -> int | None:
  """The one value of X for which the problem is sound and has this answer; None if there is none or more than one."""
  _, values = backward(built, answer)
  guess = values[built.hidden]
  if guess is not None:
    return guess if sound(guess) and _gives(built, guess, answer) else None
  fits = [x for x in range(1, LARGEST_HIDDEN + 1) if _gives(built, x, answer)]
  return fits[0] if len(fits) == 1 else None


def _gives(built: System, hidden: int, answer: int) -> bool:
  values = forward(built, hidden)
  return values is not None and values[built.answer] == answer
