r"""Case distinctions: `\begin{cases} 5 & k \text{ odd} \\ \frac{k}{3} & \text{otherwise} \end{cases}`."""

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_CASES = 8  # that are compared one by one

_CASES = re.compile(r"([^&]*?)\\begin\{cases\}(.*)\\end\{cases\}[ .,;]*", re.DOTALL)
_IF = re.compile(r"^[\s,]*(?:\\text\{\s*)?(?:if|for|when|where|provided(?: that)?)\b[\s}]*", re.IGNORECASE)
_IS = re.compile(r"(\\text\{\s*)(?:is|are)(?: an?)?\s+")
_OTHERWISE = re.compile(r"(?:\\text\{\s*)?(?:otherwise|else|elsewhere|in all other cases)[\s}.]*", re.IGNORECASE)


class Cases(NamedTuple):
  """What is given (`f(x)`, or nothing), and its (value, condition) pairs; the condition is empty for all the rest."""

  subject: str
  pairs: list[tuple[str, str]]


def cases_of(text: str) -> Cases | None:
  """The case distinction that a cleaned text is; None where it is no such thing."""
  match = _CASES.fullmatch(text)
  if match is None:
    return None
  rows = [row.split("&") for row in match[2].split("\\\\") if row.strip()]
  if len(rows) > MAX_CASES or any(len(row) != 2 for row in rows):
    return None
  return Cases(match[1].strip(" ="), [(value.strip(" ,;"), _condition(condition)) for value, condition in rows])


def _condition(text: str) -> str:
  text = _IF.sub("", text).strip(" ,;.")
  return "" if _OTHERWISE.fullmatch(text) else _IS.sub(r"\1", text)


def same_cases(a: Cases, b: Cases, same_text: Callable[[str, str], bool]) -> bool:
  """Whether each case of one is a case of the other, in any order; `otherwise` is what is left."""
  if len(a.pairs) != len(b.pairs) or (a.subject and b.subject and not same_text(a.subject, b.subject)):
    return False
  left, rest = [], list(b.pairs)
  for value, condition in a.pairs:
    same_case = (c for c in rest if (condition == c[1] or same_text(condition, c[1])) and same_text(value, c[0]))
    if (match := next(same_case, None)) is None:
      left.append((value, condition))
    else:
      rest.remove(match)
  if not left:
    return True
  return len(left) == 1 and "" in (left[0][1], rest[0][1]) and same_text(left[0][0], rest[0][0])
