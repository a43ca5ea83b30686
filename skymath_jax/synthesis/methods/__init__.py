"""The augmentation methods: a new one is a file here, its prompts in `skymath_jax/prompts/`, a line in METHODS."""

import dataclasses
import difflib
from collections.abc import Awaitable, Callable, Iterable

from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import evol, metamath, xwin
from skymath_jax.synthesis.methods.ask import Ask, Origin, Rejected, Rejection, Reply, Settings, style

Augment = Callable[[Problem, Ask], Awaitable[list[Instance | Rejected]]]


@dataclasses.dataclass(frozen=True)
class Method:
  """One augmentation method.

  Attributes:
    name: as rejections are counted; an instance's `method` is this, for `evol` with the operation behind it.
    asks: the prompts that one run (of a chain: one step) sends when nothing is rejected, the last of them, which asks
      for a solution, `Settings.samples` times.
    chained: whether a run is a chain of `Settings.evol_steps` steps.
    needs_answer: whether a problem without an answer is of no use to it.
  """

  name: str
  augment: Augment
  asks: tuple[str, ...]
  chained: bool = False
  needs_answer: bool = False


SOLVE, BACKWARD = metamath.SOLVE, metamath.SOLVE_BACKWARD
METHODS = {
  "answer_augmentation": Method("metamath.answer_augmentation", metamath.answer_augmentation, (SOLVE,)),
  "rephrase": Method("metamath.rephrase", metamath.rephrase, ("metamath/rephrase", SOLVE)),
  "self_verification": Method(
    "metamath.self_verification", metamath.self_verification, ("metamath/declare", BACKWARD), needs_answer=True
  ),
  "fobar": Method("metamath.fobar", metamath.fobar, (BACKWARD,), needs_answer=True),
  "evol": Method("evol", evol.augment, ("evol/add_constraint", SOLVE), chained=True),
  "xwin": Method("xwin", xwin.augment, ("xwin/create", "xwin/solve")),
}


def check(names: Iterable[str]) -> None:
  """Refuses a name that is no method, naming the nearest one."""
  for name in names:
    if name not in METHODS:
      near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
      raise UserError(f"no augmentation method named {name!r}", where="runs", remedy=f"did you mean {near!r}?")


__all__ = [
  "METHODS", "Ask", "Augment", "Method", "Origin", "Rejected", "Rejection", "Reply", "Settings", "check", "style",
]  # fmt: skip
