"""Solutions in words: one computing sentence a step, last the line `The answer is N`. Forward and backward."""

import random

from skymath_jax.problems.micro_gsm import algebra, linear, wording
from skymath_jax.problems.micro_gsm.algebra import Derivation, System
from skymath_jax.problems.micro_gsm.program import BOTH, Program, Value, whole
from skymath_jax.problems.micro_gsm.story import Scene
from skymath_jax.records import ANSWER_MARKER

# What stands around an equation "14 + 9 = 23" for each kind of quantity: (before, after).
_SENTENCES: dict[str, tuple[str, str]] = {
  "has": ("{N} has ", " {O}"),
  "gets": ("{N} gets ", " {O}"),
  "loses": ("{N} loses ", " {O}"),
  "total": ("together they have ", " {O}"),
  "diff": ("the difference is ", " {O}"),
  "dollars": ("{N} gets ", " dollars"),
  "packs": ("{N} fills ", " {C}"),
  "each": ("each friend gets ", " {O}"),
  "need": ("{N} needs ", " more {O}"),
  "number": ("X is ", ""),
  "divider": ("the parts are ", ""),
}
_SENTENCES_BOTH: dict[str, tuple[str, str]] = {
  **_SENTENCES,
  "dollars": ("they get ", " dollars"),
  "packs": ("they fill ", " {C}"),
  "need": ("they need ", " more {O}"),
}
# Styles: 0 "Mia has 14 + 9 = 23 shells." · 1 "Now Mia has …" · 2 "14 + 9 = 23, so Mia has 23 shells."


def equation(left: Value, op: str, right: Value, value: Value) -> str:
  """`14 + 9 = 23`."""
  return f"{left} {op} {right} = {value}"


def step(built: System, derivation: Derivation, scene: Scene, style: int = 0) -> str:
  """The sentence of one computation."""
  kind, who = built.roles[derivation.quantity]
  text = equation(derivation.left, derivation.op, derivation.right, derivation.value)
  return _clause(kind, who, scene, text, str(derivation.value), style)


def _clause(kind: str, who: int, scene: Scene, computed: str, value: str, style: int) -> str:
  before, after = (_SENTENCES_BOTH if who == BOTH else _SENTENCES)[kind]
  names = {"N": scene.persons[who % BOTH], "O": scene.objects, "C": scene.words.container}
  if style == 2:
    return wording.sentence(f"{computed}, so {before}{value}{after}.", names)
  lead = "Now " if style == 1 and kind == "has" else ""
  return wording.sentence(f"{lead}{before}{computed}{after}.", names)


def forward_steps(program: Program, scene: Scene, style: int = 0) -> tuple[list[str], int]:
  """The sentences of the solution, and the answer. Precondition: the program is sound."""
  built = algebra.system(program)
  values = algebra.forward(built)
  assert values is not None, program
  return [step(built, d, scene, style) for d in algebra.steps(built, values)], whole(values[built.answer])


def solution(program: Program, scene: Scene, rng: random.Random | None = None) -> str:
  """The whole solution of a sound program, ending in the answer line."""
  sentences, answer = forward_steps(program, scene, draw_style(rng))
  return close(sentences, answer)


def draw_style(rng: random.Random | None) -> int:
  """The usual style half of the time; always without `rng`."""
  return 0 if rng is None else rng.choice((0, 0, 1, 2))


def close(sentences: list[str], answer: object) -> str:
  """The sentences on one line, the answer line after them."""
  return " ".join(sentences) + f"\n{ANSWER_MARKER}{answer}"


def backward_solution(program: Program, scene: Scene, answer: int, style: int = 0) -> str | None:
  """Finds X step by step: forward as far as the numbers go, from the answer backward, an unknown `m` at a fork.

  Returns:
    The solution, or None where X is not unique or the fork is not linear with whole coefficients.
  """
  built = algebra.system(program)
  hidden = algebra.hidden_value(built, answer)
  if hidden is None:
    return None
  found, values = algebra.backward(built, answer)
  if values[built.hidden] is not None:
    return close([step(built, d, scene, style) for d in algebra.needed(found, {built.hidden})], hidden)
  fork = linear.solve_fork(built, values)
  if fork is None:
    return None
  values[fork.quantity] = fork.value
  before = len(found)
  algebra.propagate(built, values, found)
  if values[built.hidden] != hidden:
    return None
  later = algebra.needed(found[before:], {built.hidden})
  wanted = fork.sources.union(*(d.sources for d in later))
  earlier = algebra.needed(found[:before], wanted)
  sentences = [step(built, d, scene, style) for d in earlier]
  sentences += _fork_sentences(built, fork, scene)
  return close(sentences + [step(built, d, scene, style) for d in later], hidden)


def _fork_sentences(built: System, fork: linear.Fork, scene: Scene) -> list[str]:
  """Names the unknown, writes what depends on it, and solves."""
  is_hidden = fork.quantity == built.hidden
  symbol = "X" if is_hidden else "m"
  sentences = []
  if not is_hidden:
    who = built.roles[fork.quantity][1]
    sentences.append(wording.sentence(f"let {scene.persons[who]} have m {scene.objects}.", {}))
  for quantity, form, value in fork.forms:
    kind, who = built.roles[quantity]
    text = linear.text(form, symbol) + ("" if value is None else f" = {value}")
    sentences.append(_clause(kind, who, scene, text, "", 0))
  return [*sentences, *(equation(*parts) + "." for parts in fork.solving), f"So {symbol} is {fork.value}."]
