"""Answers to multiple-choice questions: a letter alone, or with the text of its choice."""

import re
from collections.abc import Callable

_WRAPPED = re.compile(r"^\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}$")
_CALLED = re.compile(r"^(?:选项|选择|选)?\s*[:：]?\s*([A-J])\s*(?:选项|项)?[.。]?$")
_LETTER = re.compile(
  r"^[\s*$]*(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*\(?([A-Ja-j])\)?[.:)]?\s*\}?[\s*$.]*$"
)
_LETTER_AND_MORE = re.compile(
  r"^[\s*$]*(?:(?:option|choice)\s+)?(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*(?:\(([A-J])\)|([A-J])[.:)。])\}?(?:[\s.:,$*\\~]+|(?<=。))(\S.*)$",
  re.DOTALL | re.IGNORECASE,
)
_SEVERAL = re.compile(r"[\s$*(]*(?:[A-H](?:\)?[\s,，、;；.&/]|and|和|\)\s*\()*){2,8}[)\s$*.]*")
_STYLE = re.compile(r"\\(?:text|textbf|mathrm|mathbf)(?=\{)|[{}]")
_LETTER_AND_GLOSS = re.compile(r"^[\s*$]*(?:(?:[Oo]ption|[Cc]hoice)\s+)?([A-J])[*$]*\s+\((\S[^()]*)\)[\s*$.]*$")


def same_choices(gold: str, pred: str) -> bool | None:
  """The verdict where both are several choices and one says them apart: `A, C` and `AC`; else None."""
  letters = [_SEVERAL.fullmatch(_STYLE.sub("", text)) for text in (gold, pred)]
  if not all(letters) or not any(re.search(r"[A-H][^A-H]+[A-H]", text) for text in (gold, pred)):
    return None
  first, second = (re.findall(r"[A-H](?![a-z])", match[0]) for match in letters if match)
  return sorted(first) == sorted(second) if len(first) == len(set(first)) else None


def same_choice(gold: str, pred: str, same_text: Callable[[str, str], bool]) -> bool | None:
  """The verdict where both are choices, or one is a letter and the other that letter with its text; else None."""
  gold, pred = (_CALLED.sub(r"\1", _WRAPPED.sub(r"\1", text)) for text in (gold, pred))
  letters = [_LETTER.match(text) for text in (gold, pred)]
  longer = [_letter_and_text(text) for text in (gold, pred)]
  found = [m[1].upper() if m else n[0].upper() if n else "" for m, n in zip(letters, longer, strict=True)]
  if longer[0] and longer[1] and not same_text(longer[0][1], longer[1][1]):
    return False if found[0] != found[1] else None
  if all(found):
    bare = not any("(" in text or "text" in text for text in (gold, pred))
    if letters[0] and letters[1] and bare and found[0] not in "ABCDE" and letters[0][1] != letters[1][1]:
      return False
    return found[0] == found[1]
  for choice, other in ((longer[0], pred), (longer[1], gold)):
    if choice and same_text(choice[1], other):
      return True
  return None


def _letter_and_text(text: str) -> tuple[str, str] | None:
  """(letter, text) of `B. 12`, `(B) 12` and `B (12)`."""
  if match := _LETTER_AND_MORE.match(text):
    return match[1] or match[2], match[3]
  if match := _LETTER_AND_GLOSS.match(text):
    return match[1], match[2]
  return None
