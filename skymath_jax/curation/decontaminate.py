r"""Does an instance give away a test problem? Exact, n-gram and whole-question matches, with the test row that was hit.

Three rules, tried in this order on the query and on the response (a fourth, for questions in other words, is in
`fuzzy.py` and looks at queries only):
1. exact: the text equals a test question (or a test solution of at least `ngram` words) after `normalize`;
2. ngram: the text shares `ngram` consecutive whitespace words, lower-cased, with a test question or solution
   (Skywork section 4.3.7: 30 words);
3. embedded: a whole test question lies inside the text after `normalize`. Six in ten MATH test questions have fewer
   than 30 words, so rule 2 alone cannot see them; questions under `EMBEDDED_MINIMUM` characters count by rule 1 only.

All runs of shared words are found from anchors: every run of n words covers a k-word anchor that starts at a multiple
of n - k + 1, so only those places of the text are looked up, and each match is extended to its full length. One scan
thus answers for 10, 13 and 30 words together. Paraphrases are invisible to all three rules.
"""

import array
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from skymath_jax.config import Curation
from skymath_jax.curation.settings import SENSITIVITY
from skymath_jax.records import Problem

EMBEDDED_MINIMUM = 16  # normalised characters; "whatis2+3" inside a longer text proves nothing
SURE = 40  # normalised characters from which "… 12.5" is taken for "… 12." and a sentence that begins with 5
_STEP, _WINDOW = 8, 9  # every run of EMBEDDED_MINIMUM = 7 + 9 characters covers a window that starts at a multiple of 8
_CLOSING = frozenset(".,:;?!)]\"'”’-–")  # what may follow a whole question
# What LaTeX and Unicode can write in several ways; a command that is not here stays.
_COMMAND = re.compile(r"\\(?:([a-z]+)\*?|.)|[{}$~]", re.DOTALL)
_VANISH = (
  "left", "right", "big", "bigg", "bigl", "bigr", "biggl", "biggr", "displaystyle", "textstyle", "quad", "qquad",
  "limits", "text", "textrm", "textbf", "textit", "mbox", "hbox", "mathrm", "mathbf", "mathit", "operatorname", "rm",
  "bf",
)  # fmt: skip
_COMMANDS = {
  **dict.fromkeys(_VANISH, ""), **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
  **dict.fromkeys(("ldots", "cdots", "dots"), "..."), "cdot": r"\times", "leq": r"\le", "geq": r"\ge", "neq": r"\ne",
  "lbrace": "", "rbrace": "", "lvert": "|", "rvert": "|", "vert": "|", "degree": r"^\circ",
}  # fmt: skip
_SIGNS = {r"\%": "%", r"\#": "#", r"\&": "&", r"\|": "|", r"\_": "_"}
_UNICODE = str.maketrans(
  {"×": r"\times", "·": r"\times", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "°": r"^\circ", "π": r"\pi", "√": r"\sqrt"}
  | {"÷": "/", "…": "...", "−": "-", "–": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "²": "^2", "³": "^3"}
)


def normalize(text: str) -> str:
  r"""One spelling: lower case, no white space, braces, dollar signs or sizes, `\dfrac` as `\frac`, `≤` as `\le`, …

  `\dfrac{1}{2}` and `\frac12`, `x^{2}` and `x^2`, `\left( 3 \right)` and `(3)` come out the same.
  """
  text = text.lower()
  if not text.isascii():
    text = text.translate(_UNICODE)
  if "\\" in text or "{" in text:
    text = _COMMAND.sub(_respelled, text)
  return "".join(text.replace("$", "").split())


def _respelled(match: re.Match[str]) -> str:
  name = match[1]
  if name is None:
    return _SIGNS.get(match[0], "")
  return _COMMANDS.get(name, f"\\{name}")


def exact_overlap(problems: Sequence[Problem], test_sets: Mapping[str, Sequence[Problem]]) -> dict[str, dict[str, int]]:
  """Source → test set → how many of the problems are that set's own, after `normalize`; only where there are any."""
  found: dict[str, dict[str, int]] = {}
  questions = [(problem.source, normalize(problem.question)) for problem in problems]
  for name, tests in test_sets.items():
    known = {normalize(problem.question) for problem in tests}
    for source, question in questions:
      if question in known:
        found.setdefault(source, {}).setdefault(name, 0)
        found[source][name] += 1
  return found


@dataclasses.dataclass(frozen=True)
class Reference:
  """One text of a test problem: which set, which row (from 0), question or solution."""

  test_set: str
  index: int
  id: str
  field: str
  text: str


@dataclasses.dataclass(frozen=True)
class Hit:
  """A leak: `kind` is exact, ngram, embedded or fuzzy; `field` is the instance's; `shared` is the text in common."""

  kind: str
  field: str
  row: Reference
  shared: str

  def to_json(self) -> dict[str, Any]:
    """The hit as it stands in `dropped.jsonl`."""
    return {"kind": self.kind, "field": self.field, "shared": self.shared, "test_row": dataclasses.asdict(self.row)}


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What was found for one instance: the deciding hit, and the longest run of shared words as the scan saw it.

  The run is cut short by the early exit once it reaches the deciding length or another rule has decided.
  """

  hit: Hit | None
  longest_run: int


class TestIndex:
  """The test sets, arranged for look-up.

  Args:
    test_sets: name → problems; questions, solutions and answers of several words are indexed.
    ngram: number of shared words that make a leak.
    sensitivity: further n-gram lengths for which `check` must be able to count hits.
  """

  __test__ = False  # not a pytest class

  def __init__(
    self,
    test_sets: Mapping[str, Sequence[Problem]],
    *,
    ngram: int = Curation.ngram,
    sensitivity: Sequence[int] = SENSITIVITY,
  ):
    self.ngram = ngram
    self._smallest = min(ngram, *sensitivity) if sensitivity else ngram
    self._rows: list[Reference] = []
    self._exact: dict[str, Reference] = {}
    self._runs = RunIndex(self._smallest)
    self._embedded = EmbeddedIndex()
    for name, problems in test_sets.items():
      for index, problem in enumerate(problems):
        self._add(name, index, problem)

  def _add(self, name: str, index: int, problem: Problem) -> None:
    question = Reference(name, index, problem.id, "question", problem.question)
    normal = normalize(problem.question)
    if normal:
      self._exact.setdefault(normal, question)
      self._embedded.add(normal.rstrip(".?!:"), len(self._rows))
    self._append(question)
    for field, text in (("solution", problem.solution), ("answer", problem.answer)):
      if text and len(text.split()) >= self._smallest:
        row = Reference(name, index, problem.id, field, text)
        if len(text.split()) >= self.ngram:  # a short solution may be right for many problems
          self._exact.setdefault(normalize(text), row)
        self._append(row)

  def _append(self, row: Reference) -> None:
    self._runs.add(row.text.lower().split(), len(self._rows))
    self._rows.append(row)

  def check(self, query: str, response: str, *, normal: tuple[str, str] | None = None) -> Verdict:
    """The verdict on one instance; the query is looked at first, and exact before n-gram before embedded.

    Args:
      normal: `normalize` of the two, where the caller has it.
    """
    normal = normal or (normalize(query), normalize(response))
    texts = (("query", query, normal[0]), ("response", response, normal[1]))
    hits, longest = [], 0
    for field, text, spelled in texts:
      if row := self._exact.get(spelled):
        hits.append(Hit("exact", field, row, row.text))
      words = text.lower().split()
      length, start, row_number = self._runs.longest(words, stop=self.ngram)
      longest = max(longest, length)
      if length >= self.ngram:
        hits.append(Hit("ngram", field, self._rows[row_number], " ".join(words[start : start + length])))
    for field, _, spelled in texts if not hits else ():
      if (embedded := self._embedded.find(spelled)) is not None:
        hits.append(Hit("embedded", field, self._rows[embedded], self._rows[embedded].text))
    order = ("exact", "ngram", "embedded")
    return Verdict(min(hits, key=lambda hit: order.index(hit.kind), default=None), longest)


class RunIndex:
  """Finds the longest run of words that a text shares with an indexed one; under `smallest` words it may miss it."""

  def __init__(self, smallest: int):
    self._k = (smallest + 1) // 2
    self._stride = smallest - self._k + 1
    self._words: list[str | None] = [None]  # all texts, a None between them
    self._rows = array.array("q", [-1])  # of each word
    self._last: dict[str, int] = {}  # anchor → its last position in _words
    self._previous = array.array("q", [-1])  # position → the same anchor's previous position, or -1

  def add(self, words: list[str], row: int) -> None:
    base, k = len(self._words), self._k
    for offset in range(len(words)):
      anchor = " ".join(words[offset : offset + k]) if offset + k <= len(words) else None
      self._previous.append(self._last.get(anchor, -1) if anchor is not None else -1)
      if anchor is not None:
        self._last[anchor] = base + offset
      self._rows.append(row)
    self._words += words
    self._words.append(None)
    self._rows.append(-1)
    self._previous.append(-1)

  def longest(self, words: list[str], *, stop: int) -> tuple[int, int, int]:
    """(length, start in `words`, row) of the longest shared run; the first of at least `stop` words ends the search."""
    best = (0, 0, -1)
    for at in range(0, len(words) - self._k + 1, self._stride):
      position = self._last.get(" ".join(words[at : at + self._k]), -1)
      while position >= 0:
        start, end = self._extend(words, at, position)
        if end - start > best[0]:
          best = (end - start, start, self._rows[position])
          if best[0] >= stop:
            return best
        position = self._previous[position]
    return best

  def _extend(self, words: list[str], at: int, position: int) -> tuple[int, int]:
    start, end, shift, known = at, at + self._k, position - at, self._words
    while start > 0 and known[start - 1 + shift] == words[start - 1]:
      start -= 1
    while end < len(words) and known[end + shift] == words[end]:
      end += 1
    return start, end


class EmbeddedIndex:
  """Finds a whole pattern inside a text, by windows from the patterns' middle, where they differ most."""

  def __init__(self) -> None:
    self._windows: dict[str, list[tuple[str, int, int]]] = {}  # window → (pattern, its offset there, row)
    self._seen: set[str] = set()

  def add(self, pattern: str, row: int) -> None:
    if len(pattern) < EMBEDDED_MINIMUM or pattern in self._seen:
      return
    self._seen.add(pattern)
    middle = (len(pattern) - EMBEDDED_MINIMUM) // 2
    for offset in range(middle, middle + _STEP):
      self._windows.setdefault(pattern[offset : offset + _WINDOW], []).append((pattern, offset, row))

  def find(self, text: str) -> int | None:
    """The row of a pattern that `text` holds, or None."""
    for at in range(0, len(text) - _WINDOW + 1, _STEP):
      for pattern, offset, row in self._windows.get(text[at : at + _WINDOW], ()):
        start = at - offset
        if start >= 0 and text.startswith(pattern, start) and is_whole(text, start, start + len(pattern)):
          return row
    return None


def is_whole(text: str, start: int, end: int) -> bool:
  r"""False where a number or formula goes on: `log_3 27` is not whole in `log_3 27\sqrt3`, nor `12` in `12.5`."""
  if start > 0 and text[start].isdigit() and text[start - 1].isdigit():
    return False
  after = text[end : end + 2]
  decimals = after[:1] in ".," and after[1:].isdigit() and text[end - 1].isdigit()
  if after[:1].isdigit() or (decimals and end - start < SURE):
    return False
  return not after or after[0].isalpha() or after[0] in _CLOSING
