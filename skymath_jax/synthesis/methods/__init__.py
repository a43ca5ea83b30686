"""The augmentation methods: a new one is a file here, its prompts in `skymath_jax/prompts/`, a line in METHODS."""

import dataclasses
import difflib
from collections.abc import Awaitable, Callable, Iterable

from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import evol, metamath, xwin
from skymath_jax.synthesis.methods.ask import Ask, Origin, Rejected, Rejection, Reply, Settings

Augment = Callable[[Problem, Ask], Awaitable[list[Instance | Rejected]]]


@dataclasses.dataclass(frozen=True)
class Method:
  """One augmentation method.

  Attributes:
    name: as rejections are counted; an instance's `method` is this, for `evol` with the operation behind it.
    requests: what one run (of a chain: one step) asks of the teacher when nothing is rejected.
    chained: whether a run is a chain of `Settings.evol_steps` steps.
    needs_answer: whether a problem without an answer is of no use to it.
  """

  name: str
  augment: Augment
  requests: int
  chained: bool = False
  needs_answer: bool = False


METHODS = {
  "answer_augmentation": Method("metamath.answer_augmentation", metamath.answer_augmentation, 1),
  "rephrase": Method("metamath.rephrase", metamath.rephrase, 2),
  "self_verification": Method("metamath.self_verification", metamath.self_verification, 2, needs_answer=True),
  "fobar": Method("metamath.fobar", metamath.fobar, 1, needs_answer=True),
  "evol": Method("evol", evol.augment, 2, chained=True),
  "xwin": Method("xwin", xwin.augment, 2),
}


def check(names: Iterable[str]) -> None:
  """Refuses a name that is no method, naming the nearest one."""
  for name in names:
    if name not in METHODS:
      near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
      raise UserError(f"no augmentation method named {name!r}", where="runs", remedy=f"did you mean {near!r}?")


__all__ = ["METHODS", "Ask", "Augment", "Method", "Origin", "Rejected", "Rejection", "Reply", "Settings", "check"]
