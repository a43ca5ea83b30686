"""The verdict on one pair of answers, by mode."""

from skymath_jax.errors import UserError
from skymath_jax.grading.strict import strict_equal
from skymath_jax.grading.symbolic import symbolic_equal

MODES = ("strict", "symbolic")


def equivalent(gold: str | None, pred: str | None, mode: str = "strict") -> bool:
  """Whether two bare answers are the same; symmetric, no text makes it raise, False where one is missing.

  Raises:
    UserError: there is no such mode.
  """
  checked_mode(mode)
  if not isinstance(gold, str) or not isinstance(pred, str):
    return False
  return strict_equal(gold, pred) if mode == "strict" else symbolic_equal(gold, pred)


def checked_mode(mode: str) -> str:
  """`mode`.

  Raises:
    UserError: there is no such mode.
  """
  if mode not in MODES:
    raise UserError(f"unknown grading mode {mode!r}", where="mode", remedy=f"use one of: {', '.join(MODES)}")
  return mode
