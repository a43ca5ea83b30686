"""The verdict on a whole response: what it answers, and whether that is the gold."""

from skymath_jax.grading.boxes import adjacent_boxes
from skymath_jax.grading.extract import after_thinking, extract, gold_answer, marked_answer
from skymath_jax.grading.verdict import equivalent


def answer_of(response: str, mode: str = "strict") -> str | None:
  """The answer that `mode` reads in a response: after the paper's marker only, or wherever models write it."""
  return marked_answer(response) if mode == "strict" else extract(response)


def grade_response(gold: str | None, response: str, mode: str = "strict") -> tuple[str | None, bool]:
  """What `mode` reads in a response, and whether it is right: (extracted, correct).

  The last box counts; only where the boxes stand side by side (`\boxed{1}, \boxed{2}`) may they be one answer, a list.

  Raises:
    UserError: there is no such mode.
  """
  found = answer_of(response, mode)
  if equivalent(gold, found, mode):
    return found, True
  several = adjacent_boxes(after_thinking(response)) if mode == "symbolic" else None
  return (several, True) if several is not None and equivalent(gold, several, mode) else (found, False)


def bare_gold(gold: str) -> str:
  r"""The answer of a gold that is a whole solution (`\boxed{}`, `####`); any other as it is."""
  return gold_answer(gold) if "\\boxed" in gold or "\\fbox" in gold or "####" in gold else gold
