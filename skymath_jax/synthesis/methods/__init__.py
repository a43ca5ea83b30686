"""The augmentation methods, found by being here: a new one is a file, and its prompts in `skymath_jax/prompts/`."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable

from skymath_jax.errors import UserError
from skymath_jax.synthesis.methods.base import (
  Ask,
  Augment,
  Method,
  Origin,
  Rejected,
  Rejection,
  Reply,
  Settings,
  prompt_of,
  style,
)

_MODULES = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
# Last part of the method's name → method; recipes say by it how many runs a problem gets
METHODS: dict[str, Method] = {
  each.key: each for module in _MODULES for each in vars(module).values() if isinstance(each, Method)
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
  "METHODS", "Ask", "Augment", "Method", "Origin", "Rejected", "Rejection", "Reply", "Settings", "check", "prompt_of",
  "style",
]  # fmt: skip
