"""The augmentation methods: a new one is a file here, its prompts in `skymath_jax/prompts/`, a line in METHODS."""

import difflib
from collections.abc import Iterable

from skymath_jax.errors import UserError
from skymath_jax.synthesis.methods import evol, metamath, xwin
from skymath_jax.synthesis.methods.base import (
  Ask,
  Augment,
  Method,
  Origin,
  Rejected,
  Rejection,
  Reply,
  Settings,
  style,
)

METHODS: dict[str, Method] = {
  "answer_augmentation": metamath.ANSWER_AUGMENTATION,
  "rephrase": metamath.REPHRASE,
  "self_verification": metamath.SELF_VERIFICATION,
  "fobar": metamath.FOBAR,
  "evol": evol.EVOL,
  "xwin": xwin.XWIN,
}


def check(names: Iterable[str]) -> None:
  """Refuses a name that is no method.

  Raises:
    UserError: names the nearest one.
  """
  for name in names:
    if name not in METHODS:
      near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
      raise UserError(f"no augmentation method named {name!r}", where="runs", remedy=f"did you mean {near!r}?")


__all__ = [
  "METHODS", "Ask", "Augment", "Method", "Origin", "Rejected", "Rejection", "Reply", "Settings", "check", "style",
]  # fmt: skip
