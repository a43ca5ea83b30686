r"""Residues: `x \equiv 3 \pmod 7`, `17 \bmod 5`, `2 (mod 3)`."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from skymath_jax.grading.symbolic import numbers
from skymath_jax.grading.symbolic.lexer import UnreadableError
from skymath_jax.grading.symbolic.parse import parse

MAX_RESIDUES = 20  # that are named side by side

_CONGRUENCE = re.compile(
  r"(?:(?P<name>[^=]*?)\s*(?:\\equiv|\\cong|=)(?![a-z]))?(?P<residues>[^=]*?)\s*"
  r"(?:\(?\s*\\[bp]?mod(?![a-z])\s*|\(?\s*\bmod\b\s*)\{?\s*(?P<modulus>[^{}()]+?)\s*\}?\s*\)?"
)
_JOINT = re.compile(r"\s*(?:,|;|\band\b|\bor\b)\s*")


class Congruence(NamedTuple):
  """What is congruent (empty where that is not said), the residues as they are written, and the modulus."""

  name: str
  residues: list[str]
  modulus: str


def congruence_of(text: str) -> Congruence | None:
  """The congruence that a cleaned text is; None where it is no such thing."""
  match = _CONGRUENCE.fullmatch(text)
  if match is None or not match["residues"].strip():
    return None
  residues = [part for part in _JOINT.split(match["residues"].replace("\\text", "")) if part.strip("{} ")]
  return Congruence((match["name"] or "").strip(), residues, match["modulus"])


def same_congruence(text: str, other: str, same_text: Callable[[str, str], bool]) -> bool | None:
  """The verdict where one is a congruence and the other is one too, or a number; None where neither is."""
  if "mod" not in text + other:
    return None
  first, second = congruence_of(text), congruence_of(other)
  if first is None or second is None:
    found, bare = (first, other) if first else (second, text)
    value, modulus = (_whole(bare), _whole(found.modulus)) if found else (None, None)
    if found is None or value is None or not modulus:
      return None
    return 0 <= value < modulus and _residues(found.residues, modulus) == {value}
  if not same_text(first.modulus, second.modulus) or (
    first.name and second.name and not same_text(first.name, second.name)
  ):
    return False
  modulus = _whole(first.modulus)
  if modulus and (mine := _residues(first.residues, modulus)) and (theirs := _residues(second.residues, modulus)):
    return mine == theirs
  return same_text(", ".join(first.residues), ", ".join(second.residues))


def _residues(parts: list[str], modulus: int) -> set[int]:
  r"""The residues between 0 and the modulus, `\pm 1` as two; none where one is no whole number."""
  found: set[int] = set()
  for part in parts[:MAX_RESIDUES]:
    value = _whole(part.replace("\\pm", "").replace("(", "").replace(")", ""))
    if value is None:
      return set()
    found |= {value % modulus, -value % modulus} if "\\pm" in part else {value % modulus}
  return found


def _whole(text: str) -> int | None:
  try:
    value = numbers.number(parse(text))
  except UnreadableError:
    return None
  return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None
