r"""The paper's strict grader: string rules only, near 100 % precision, low recall by intent.

Two answers are equal when their normalised strings are. Where the gold is a plain number, a prediction that is a plain
number too (sign, currency, thousands separators, percent sign and a unit after it are allowed) is compared exactly.
What differs from the grader that the paper used, each because the original is wrong there:
- numbers are compared exactly, never rounded to the nearest integer, and `1,234,567` is one number, not 1,234;
- a response that says more than the number after the marker is wrong, instead of its first number being taken;
- a space between two digits is kept: `1 1/4` is not 11/4; units are ignored only where one side has none;
- a bare `$` and a trailing full stop are dropped on both sides, and `\text{}` around a whole answer.
"""

import re
from fractions import Fraction

MAX_ANSWER = 2_000  # characters; a longer answer is compared as it stands

_NUMBER = re.compile(r"(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<decimals>\.\d+)?(?:/(?P<divisor>\d+))?")
_UNIT = re.compile(r"(?:[a-z]+(?:[ /-][a-z]+)*(?:\^\d)?)?", re.IGNORECASE)
_NOT_UNITS = frozenset({
  "and", "or", "half", "quarter", "third", "to", "of", "if", "is", "not", "times", "plus", "minus", "over", "pi",
  "sqrt", "hundred", "thousand", "million", "billion", "dozen", "trillion", "percent", "pairs", "dozens", "more",
  "less", "than", "then", "by",
})  # fmt: skip
_DELETED = ("\n", "\\!", "\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$", "\\%", "%")


def strict_equal(gold: str, pred: str) -> bool:
  """Whether two bare answers are the same by the string rules; never raises."""
  gold, pred = gold.strip(), pred.strip()
  if gold == pred:
    return bool(gold)
  if not gold or not pred or max(len(gold), len(pred)) > MAX_ANSWER:
    return False
  left, right = normalize(gold), normalize(pred)
  if left == right:
    return bool(left)
  expected, found = plain_number(gold), plain_number(pred)
  if expected is None or found is None or expected[0] != found[0]:
    return False
  return not expected[1] or not found[1] or expected[1] == found[1]


def plain_number(text: str) -> tuple[Fraction, str] | None:
  r"""Value and unit of `-1,234.50`, `\$18`, `3/4`, `18 apples` or `42\%`; None for anything that is not one number."""
  text = text.replace("\\!", "").replace("{,}", ",").replace("\\$", "").replace("$", "").replace("−", "-")
  text = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r" \1", text).replace("\\", " ").replace("~", " ")
  text = re.sub(r"%|\^\{? *circ *\}?|°", "", text).strip().removesuffix(".").strip()
  match = _NUMBER.match(text)
  if not match or not (match["whole"] or match["decimals"]):
    return None
  unit = text[match.end() :]
  words = re.split(r"[ /-]", unit.strip().lower())
  if unit.strip() and (unit[0] != " " or not _UNIT.fullmatch(unit.strip()) or len(words[0].partition("^")[0]) < 2):
    return None
  if _NOT_UNITS.intersection(words):
    return None
  value = Fraction((match["whole"].replace(",", "") or "0") + (match["decimals"] or ""))
  divisor = int(match["divisor"] or 1)
  return None if divisor == 0 else ((-value if match["sign"] == "-" else value) / divisor, " ".join(words))


def normalize(text: str) -> str:
  """The MATH benchmark's normal form of an answer (Hendrycks et al. 2021), but for what the module names."""
  text = text.strip().removesuffix(".").strip()
  text = _unwrapped_text(text)
  for piece in _DELETED:
    text = text.replace(piece, "")
  text = text.replace("tfrac", "frac").replace("dfrac", "frac")
  text = _without_unit(text)
  text = re.sub(r"(^|[ {(\[,=])\.(?=\d)", r"\g<1>0.", text)
  left, equals, right = text.partition("=")
  if equals and "=" not in right and len(left.strip()) <= 2:
    text = right
  text = re.sub(r"\\sqrt\s*([^{\s\[\\])", r"\\sqrt{\1}", text)
  text = _braced_fractions(re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text))
  if text == "0.5":
    return "\\frac{1}{2}"
  return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def _unwrapped_text(text: str) -> str:
  match = re.fullmatch(r"\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}", text)
  return match[1].strip() if match else text


def _without_unit(text: str) -> str:
  r"""Drops one trailing `\text{ unit}`: it must begin with a space, as MATH writes units, and follow something."""
  head, found, tail = text.partition("\\text{ ")
  return head if found and head.strip() and re.fullmatch(r"[^{}]*\}(?:\^\{?\d\}?)?\s*", tail) else text


def _braced_fractions(text: str) -> str:
  r"""`\frac12`, `\frac1{72}` and `\frac{1}2` as `\frac{1}{2}`; anything else as it is."""
  return re.sub(
    r"\\frac(?:(?P<a>[^{\\])|\{(?P<A>[^{}]*)\})(?:(?P<b>[^{\\])|\{(?P<B>[^{}]*)\})",
    lambda m: f"\\frac{{{m['a'] or m['A'] or ''}}}{{{m['b'] or m['B'] or ''}}}",
    text,
  )
