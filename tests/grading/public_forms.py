"""Pairs in the forms that the tests and labelled sets of public projects use; the numbers and words are our own.

`public_forms.tsv` names for each row the project in which the form was seen. Backslash, newline, tab and form feed are
escaped in it. A row's text is a bare answer, or a whole response in which the answer must be found first.
`extraction_cases.tsv` has responses with the answer that stands in each, `\\0` for none.
"""

import re
from pathlib import Path
from typing import NamedTuple

from skymath_jax.grading import equivalent, extract

_ESCAPES = {"\\": "\\", "n": "\n", "t": "\t", "f": "\f"}


class Form(NamedTuple):
  """One row: whether `text` answers `gold` rightly, and which project has such a case."""

  same: bool
  response: bool
  source: str
  gold: str
  text: str


class Extraction(NamedTuple):
  """A response, the answer to be found in it (None: there is none), and the form in which it is marked."""

  form: str
  expected: str | None
  response: str


def _read(field: str) -> str:
  characters = iter(field)
  return "".join(_ESCAPES[next(characters)] if c == "\\" else c for c in characters)


def _table(name: str) -> list[Form]:
  lines = Path(__file__).with_name(name).read_text(encoding="utf-8").split("\n")[1:-1]
  rows = [line.split("\t") for line in lines]
  return [Form(f[0] == "same", f[1] == "response", f[2], _read(f[3]), _read(f[4])) for f in rows]


FORMS = _table("public_forms.tsv")
FRESH = _table("fresh_pairs.tsv")  # by category; the verdicts were written before the grader was asked
EXTRACTIONS = [
  Extraction(form, None if expected == "\\0" else _read(expected), _read(response))
  for line in Path(__file__).with_name("extraction_cases.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
  for form, _, expected, response in (line.split("\t"),)
]


def found_rightly(extraction: Extraction) -> bool:
  """Whether `extract` finds what is expected: nothing, the same text but for white space, or an equal answer."""
  found = extract(extraction.response)
  if found is None or extraction.expected is None:
    return found is extraction.expected
  first, second = (re.sub(r"[\s$]", "", text).rstrip(".") for text in (found, extraction.expected))
  return first == second or equivalent(extraction.expected, found, "symbolic")
