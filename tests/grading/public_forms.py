"""Pairs in the forms that the tests and labelled sets of public projects use; the numbers and words are our own.

`public_forms.tsv` names for each row the project in which the form was seen. Backslash, newline, tab and form feed are
escaped in it. A row's text is a bare answer, or a whole response in which the answer must be found first.
"""

from pathlib import Path
from typing import NamedTuple

_ESCAPES = {"\\": "\\", "n": "\n", "t": "\t", "f": "\f"}


class Form(NamedTuple):
  """One row: whether `text` answers `gold` rightly, and which project has such a case."""

  same: bool
  response: bool
  source: str
  gold: str
  text: str


def _read(field: str) -> str:
  characters = iter(field)
  return "".join(_ESCAPES[next(characters)] if c == "\\" else c for c in characters)


FORMS = [
  Form(fields[0] == "same", fields[1] == "response", fields[2], _read(fields[3]), _read(fields[4]))
  for line in Path(__file__).with_name("public_forms.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
  if (fields := line.split("\t"))
]
