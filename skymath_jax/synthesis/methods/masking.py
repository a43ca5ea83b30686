r"""Which numbers of a question can be hidden, and where a question's body ends: the groundwork of backward problems.

A plain number qualifies, also inside LaTeX: `5`, `1,234`, `3.5`, `1/2`, the digits of `$5`, `25\%`, `\frac{1}{2}` or
`5-year-old`. What does not: exponents and indices (`x^{2}`, `a_1`), identifiers and words (`A4`, `\angle 1`, `2x`,
`3rd`, `5cm`), times and mixed numbers (`3:30`, `2 1/2`), numbers in a base, list numbering, choices, lengths in
layout commands, `[asy]` code.
Digits only are hidden, so the currency, percent and minus signs around them stay.

MetaMath's own rule (a token between spaces with a digit and no letter, bracket or sign) finds half as many in MATH.
"""

import bisect
import dataclasses
import re

from skymath_jax.records import DRAWING

_NUMBER = re.compile(
  r"(?:\d{1,3}(?:(?:,|\{,\}|,?\\!)\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?(?!\d)"  # 5, 1,234, 10,\!000, 3.5, 1/2
  r"|\.\d+"  # .50
)
# What may not stand before a number, in the eight characters there:
_BEFORE = re.compile(r"(?:[A-Za-z0-9_^\\}]|\\!|[\^_]-|\d[.:/]|[A-Za-z]{2}-|\\angle\s{0,2})$")
_AFTER = re.compile(r"[A-Za-z_]|[.:/]\d|\s*\\[tdc]?frac|\s+\d+/\d")  # ... nor behind it
_MIXED = re.compile(r"\d\s+$")  # before a fraction: the whole part of a mixed number
_OPENED = re.compile(r"[(\[{]\s*-?$")
_NUMBERING = re.compile(r"\s*\(?")  # all that stands before "1. First" or "(2) second" on its line
_CHOICES = re.compile(  # to the end; a number in a wrong choice could not be found again
  r"(?:\$?\\text(?:bf|rm|it)?\s*\{\s*)?(?:\(A\)(?=.{0,2000}\(B\))|\[A\](?=.{0,2000}\[B\])).*\Z", re.DOTALL
)
_LAYOUT = re.compile(r"\\(?:[hv]space\*?|phantom|label|ref|tag|color|begin|end|sqrt(?=\[))[\[{][^\]}]{0,200}[\]}]")
_RAISED = re.compile(r"[\^_]\s*(?=\{)")
_X = re.compile(r"(?<![A-Za-z\\])X(?![A-Za-z])")

_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Prof|Fig|Eq|e\.g|i\.e)\.$")
_LOOK_BACK = 40  # characters before a number or a break that say what it is
_BREAK = re.compile(
  r"(?<=[.?!])[\"')\]$]*\s+(?=[^\sa-z])(?!\\[\])])"  # a full stop inside a displayed formula ends nothing ...
  r"|(?<=\\\])\s*(?=[A-Z])"  # ... but the formula may
  r"|(?<=[。？！])\s*(?=\S)|\n\s{0,200}\n(?=\S)"  # bounded: a long gap is looked through from each line
)
_ORDER = re.compile(
  r"\W*(?:what|how|which|who|find|compute|calculate|determine|evaluate|simplify|solve|express|write|give)\b",
  re.IGNORECASE,
)
_ASKS = re.compile(rf"[?？]|^(?:{_ORDER.pattern}|\W*when\b)", re.IGNORECASE)
_FORM_ONLY = re.compile(
  r"^\W*(?:express|write|give|round|enter|simplify|leave|state)\b[^?]*\b(?:answers?|form|result)\b", re.IGNORECASE
)
_CLAUSE = re.compile(r",\s+(?=(?:then\s+)?(?:what|how|which|find|compute|calculate|determine)\b)")
_GIVEN = re.compile(r"[\d$\\]")
_WORD = re.compile(r"[A-Z][a-z]*(?![A-Za-z])")
_COMMON = {
  "a", "an", "the", "this", "that", "these", "those", "it", "its", "he", "she", "his", "her", "they", "their", "there",
  "we", "our", "you", "your", "one", "each", "every", "all", "both", "no", "in", "on", "at", "of", "by", "for", "from",
  "with", "after", "before", "if", "when", "then",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mask:
  """A number of a text that can be hidden (without thousands separators), and where it stands."""

  text: str
  hidden: str
  start: int
  end: int

  @property
  def question(self) -> str:
    """The text with `X` in the number's place."""
    return f"{self.text[: self.start]}X{self.text[self.end :]}"


def uses_x(text: str) -> bool:
  """Whether a letter X stands alone in `text`."""
  return bool(_X.search(text))


def masks(question: str) -> list[Mask]:
  """One mask for every number of `question` that qualifies, from left to right; none where `X` is already in use."""
  if uses_x(question):
    return []
  closed = _closed_spans(question)
  found = []
  for match in _NUMBER.finditer(question):
    start, end = match.span()
    if not _covered(closed, start) and _stands_alone(question, start, end):
      found.append(Mask(question, re.sub(r"\{,\}|,|\\!", "", match[0]), start, end))
  return found


def _stands_alone(text: str, start: int, end: int) -> bool:
  nearest = max(0, start - _LOOK_BACK)
  line_start = text.rfind("\n", nearest, start) + 1
  number, line, after = text[start:end], text[max(line_start, nearest) : start], text[end : end + 12]
  if _BEFORE.search(line[-8:]) or _AFTER.match(after):
    return False
  if "/" in number and _MIXED.search(line[-3:]):
    return False
  if (line_start or not nearest) and _NUMBERING.fullmatch(line) and re.match(r"[.)]\s", after):
    return False
  a_pair = _OPENED.search(line) and after.startswith((")", "]", "}", "\\}"))  # "(-100,200)" is two numbers
  return not (a_pair and re.fullmatch(r"\d+,\d+", number))


def _closed_spans(text: str) -> list[tuple[int, int]]:
  """Parts in which no number qualifies: drawings, choices, layout commands, braced exponents and indices; in order."""
  spans = [match.span() for pattern in (DRAWING, _CHOICES, _LAYOUT) for match in pattern.finditer(text)]
  ends, opened = {}, []
  for brace in re.finditer(r"[{}]", text):
    if brace[0] == "{":
      opened.append(brace.start())
    elif opened:
      ends[opened.pop()] = brace.end()
  spans += [(match.start(), ends.get(match.end(), len(text))) for match in _RAISED.finditer(text)]
  return _merged(spans)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
  """The same places as disjoint spans from left to right."""
  merged: list[tuple[int, int]] = []
  for start, end in sorted(spans):
    if merged and start <= merged[-1][1]:
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    else:
      merged.append((start, end))
  return merged


def _covered(spans: list[tuple[int, int]], place: int) -> bool:
  """Whether `place` lies in one of the disjoint, ordered spans."""
  index = bisect.bisect_right(spans, place, key=lambda span: span[0]) - 1
  return index >= 0 and place < spans[index][1]


def split_question(question: str) -> tuple[str, str]:
  """(body, closing question): what is given, and what is asked about it.

  The closing part begins at the last sentence that asks; a single sentence is split at the last comma before a
  question word, if a number or formula is given before it. Where there is none, or the sentence asks from its first
  word on, the body is empty. Advice on the form of the answer ("Express your answer as …") belongs to the closing part.
  """
  starts = _sentence_starts(question)
  sentences = [question[a:b].strip() for a, b in zip(starts, [*starts[1:], len(question)], strict=True)]
  asking = [a for a, text in zip(starts, sentences, strict=True) if _ASKS.search(text) and not _FORM_ONLY.match(text)]
  start = asking[-1] if asking else starts[-1]
  if not question[:start].strip() and not _ORDER.match(question):
    given = _GIVEN.search(question)
    commas = [match.end() for match in _CLAUSE.finditer(question) if given and given.start() < match.end()]
    start = commas[-1] if commas else 0
  return question[:start].rstrip(), question[start:].strip()


def set_apart(text: str) -> tuple[str, list[str]]:
  """The text without its drawings and choices, which have no place in a statement; and these, in order."""
  apart = re.compile(f"{DRAWING.pattern}|{_CHOICES.pattern}", re.DOTALL)
  return re.sub(r"(?<!\s)\s*\n\s*\n\s*|[ ]{2,}", " ", apart.sub(" ", text)).strip(), apart.findall(text)


def continued(body: str, statement: str) -> str:
  """The statement as it follows the body: behind "If Ann has X pens," it does not begin with "The" or "He".

  A capital is kept if it is a name's: of a word that is in capitals inside the body, or no common word.
  """
  word = _WORD.match(statement)
  if not body.endswith(",") or word is None or re.search(rf"\S\s+{word[0]}\b", body):
    return statement
  lower = word[0].lower()
  common = lower in _COMMON or re.search(rf"\b{lower}\b", body)
  return f"{lower}{statement[word.end() :]}" if common else statement


def _sentence_starts(text: str) -> list[int]:
  closed = _merged([match.span() for pattern in (DRAWING, _CHOICES) for match in pattern.finditer(text)])
  starts = [0]
  for match in _BREAK.finditer(text):
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
    if not _ABBREVIATION.search(before) and not _covered(closed, match.end()):
      starts.append(match.end())
  return starts
