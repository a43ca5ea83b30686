"""The tables of `tests/grading` as tuples, and hostile texts; all made up here.

`equivalence_cases.tsv` has pairs of answers by category. `public_forms.tsv` has pairs in the forms that the tests and
labelled sets of public projects use, and names the project in which the form was seen; the numbers and words are our
own. `fresh_pairs.tsv` is of the same shape; its verdicts were written before the grader was asked. In these two a row's
text is a bare answer, or a whole response in which the answer must be found first. `extraction_cases.tsv` has responses
with the answer that stands in each, `\\0` for none. In the last three backslash, newline, tab, form feed are escaped.
"""

import re
from pathlib import Path
from typing import NamedTuple

from skymath_jax.grading import equivalent, extract

TABLES = Path(__file__).parents[1] / "grading"

CASES: dict[str, list[tuple[str, str, bool]]] = {}
for line in (TABLES / "equivalence_cases.tsv").read_text(encoding="utf-8").split("\n")[1:-1]:
  category, verdict, gold, pred = line.split("\t")
  CASES.setdefault(category, []).append((gold, pred, verdict == "same"))

# Where the symbolic rules refuse what a generous reader would accept; written down so that a change is seen.
REFUSED = [(r"\frac{84}{13}", "6.46"), ("3,5", "3.5"), ("413_5", "413"), ("x^2=4", r"x=\pm 2")]

HOSTILE = [
  "__import__('os').system('touch owned')",
  "exec('x=1')",
  "().__class__.__bases__",
  "lambda: 0",
  "{{7*7}}",
  "os.system('ls')",
  "9**9**9**9",
  "9^{9^{9^9}}",
  "10^{10^{10}}",
  "2^{10000000000}",
  "(10^{1000})!",
  "100000!",
  "((9!)!)!",
  "5!!!!!!!!",
  r"\binom{1000000}{500000}",
  "2^{-10^{9}}",
  "x^{10^{30}}",
  "e^{10^{10}}",
  r"\sin(10^{100})",
  "(" * 500,
  "(" * 500 + "1" + ")" * 500,
  "{" * 400 + "}" * 400,
  r"\frac{" * 100 + "1" + "}{2}" * 100,
  r"\sqrt{" * 200 + "2" + "}" * 200,
  "-" * 1500 + "1",
  "1+" * 700 + "1",
  "x*" * 240 + "x",
  "(x+1)" * 90,
  "(x+y+z)^{500}",
  "(x+1)^{99999}",
  "1" * 5000,
  "0." + "3" * 4000,
  "9" * 1900,
  "1/0",
  "0/0",
  "0^0",
  "0^{-1}",
  r"\frac{1}{0}",
  r"\log 0",
  r"\log_1 5",
  r"\sqrt[0]{5}",
  r"\tan 90^\circ",
  r"\infty-\infty",
  r"\infty",
  "nan",
  "inf",
  "None",
  "null",
  "",
  " ",
  "\n\n",
  "\x00",
  "\ud800",
  "💥",
  "١٢٣",
  "≠≠≠",
  "\\",
  "\\\\\\",
  "$",
  "$$$$",
  "%",
  "^",
  "_",
  "a_",
  "^2",
  r"\frac",
  r"\frac{",
  r"\sqrt",
  r"\begin{pmatrix}",
  r"\begin{pmatrix}1&2\\3\end{pmatrix}",
  r"\end{pmatrix}",
  r"\left(",
  r"\boxed{",
  r"\text{",
  "|||||",
  "|" * 300,
  "{x|" * 60,
  r"\{x:" * 60,
  r"\{x\mid " * 80 + "1",
  ",".join(str(i) for i in range(400)),
  "±" * 100,
  r"\pm1" * 60,
  ",".join([r"\pm 1"] * 60),
  ",".join([r"\sqrt{2}+\sqrt{3}"] * 80),
  r"\cup".join(["(1,2)"] * 200),
  r"1" + r"\overline{2}" * 50,
  "a" * 1999,
  "a " * 999,
  "1 " * 900,
  "1,000" * 300,
  "x=" * 500,
  "=" * 900,
  "<" * 900,
  "1<" * 400 + "x",
  "1:" * 800,
  "!" * 1000,
  "'" * 1000,
  "x" + "'" * 900,
  "°" * 900,
  "\\text{a}" * 200,
  "*".join(f"x_{i}" for i in range(150)),
  "+".join(f"\\sqrt{{{i}}}" for i in range(2, 120)),
  r"\sin" * 300 + "x",
  r"\sin(" * 200 + "x",
  "^".join(["2"] * 300),
  "^{".join(["x"] * 100),
  r"\gcd(" + ",".join(["10^{300}"] * 60) + ")",
]

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
  lines = (TABLES / name).read_text(encoding="utf-8").split("\n")[1:-1]
  rows = [line.split("\t") for line in lines]
  return [Form(f[0] == "same", f[1] == "response", f[2], _read(f[3]), _read(f[4])) for f in rows]


FORMS = _table("public_forms.tsv")
FRESH = _table("fresh_pairs.tsv")  # by category; the verdicts were written before the grader was asked
EXTRACTIONS = [
  Extraction(form, None if expected == "\\0" else _read(expected), _read(response))
  for line in (TABLES / "extraction_cases.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
  for form, _, expected, response in (line.split("\t"),)
]


def found_rightly(extraction: Extraction) -> bool:
  """Whether `extract` finds what is expected: nothing, the same text but for white space, or an equal answer."""
  found = extract(extraction.response)
  if found is None or extraction.expected is None:
    return found is extraction.expected
  first, second = (re.sub(r"[\s$]", "", text).rstrip(".") for text in (found, extraction.expected))
  return first == second or equivalent(extraction.expected, found, "symbolic")
