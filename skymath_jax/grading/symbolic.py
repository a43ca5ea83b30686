r"""The symbolic grader: string rules first, then a parser and exact arithmetic of its own.

No text of a model's is ever handed to `eval` or to a computer algebra system. Conventions (they follow the MATH
benchmark; where sources contradict each other, what is refused is named):
- units, currency, degree and percent signs may be missing on one side; 28\% is 28 and 0.28, but 75 is not 0.75;
- lists and sets have no order, tuples and intervals have; an interval, an inequality and a set-builder may be the same;
- `x = 3` is 3, `f(x) = …` is its body; an equation is not one of its sides; equations are equal up to a factor;
- an exact value equals a decimal with nine or more right digits; integers are compared exactly;
- refused: rounded values (6.46 for 84/13), a decimal comma, number words, sets in words, an ellipsis.
"""

import re

from skymath_jax.grading import evaluate
from skymath_jax.grading.compare import same
from skymath_jax.grading.evaluate import Tree
from skymath_jax.grading.lexer import UnreadableError
from skymath_jax.grading.normalize import clean, joined_thousands, words_of
from skymath_jax.grading.parse import parse

MAX_ANSWER = 2_000  # characters; a longer answer must be spelled like the gold

_LETTER = re.compile(r"^[\s*$]*(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*\(?([A-Ja-j])\)?[.:)]?\s*\}?[\s*$.]*$")
_LETTER_AND_MORE = re.compile(
  r"^[\s*$]*(?:(?:option|choice)\s+)?(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*(?:\(([A-J])\)|([A-J])[.:)])\}?[\s.:,$*\\~]+(\S.*)$",
  re.DOTALL | re.IGNORECASE,
)


def symbolic_equal(gold: str, pred: str) -> bool:
  """Whether two bare answers are the same; symmetric, never raises, within about a second whatever the text."""
  gold, pred = gold.strip(), pred.strip()
  if not gold or not pred:
    return False
  if gold == pred:
    return True
  if max(len(gold), len(pred)) > MAX_ANSWER:
    return _squeezed(gold) == _squeezed(pred)
  evaluate.start()
  try:
    verdict = _same_choice(gold, pred)
    return _same_text(gold, pred) if verdict is None else verdict
  except RecursionError:  # the caller's stack is nearly full; nesting of answers is bounded long before
    return False


def _same_choice(gold: str, pred: str) -> bool | None:
  """The verdict where both are choices, or one is a letter and the other that letter with its text; else None."""
  letters = [_LETTER.match(text) for text in (gold, pred)]
  longer = [_LETTER_AND_MORE.match(text) for text in (gold, pred)]
  found = [(m[1] if m else (n[1] or n[2]) if n else "").upper() for m, n in zip(letters, longer, strict=True)]
  if all(found):
    bare = all(letters) and not any("(" in text or "text" in text for text in (gold, pred))
    return found[0] == found[1] and (not bare or found[0] in "ABCDE" or letters[0][1] == letters[1][1])
  for match, other in ((longer[0], pred), (longer[1], gold)):
    if match and _same_text(match[3], other):
      return True
  return None


def _same_text(gold: str, pred: str) -> bool:
  first, second = clean(gold), clean(pred)
  if not first or not second:
    return False
  if _squeezed(first) == _squeezed(second):
    return True
  return any(same(a, b) for a in _readings(first) for b in _readings(second))


def _readings(text: str) -> list[Tree]:
  """The trees that a text may be: with `1,234` as one number, and as two; words where it is not mathematics."""
  trees: list[Tree] = []
  for reading in (joined_thousands(text), text):
    if reading is None:
      continue
    try:
      trees.append(parse(reading))
    except UnreadableError:
      trees.append(("text", words_of(reading)))
  return trees


def _squeezed(text: str) -> str:
  """Without white space that separates nothing."""
  return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", text)
