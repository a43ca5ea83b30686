r"""One spelling for what answers are written with: Unicode, LaTeX styles, spacing, money, thousands, degrees.

The result is still text, in a small dialect that `lexer.py` knows: `\text{…}` for words, `°` and `%` as postfix signs,
`\reals`, `\emptyset`, `\frac`, `\sqrt` and the usual operators.
"""

import itertools
import re

from skymath_jax.grading.boxes import balanced
from skymath_jax.grading.symbolic.characters import latex_of
from skymath_jax.grading.symbolic.notation import REWRITES
from skymath_jax.grading.symbolic.plain_tex import latex_of_plain_tex
from skymath_jax.grading.symbolic.quantities import with_unit
from skymath_jax.grading.symbolic.spoken import in_figures
from skymath_jax.grading.symbolic.units import added_up

MAX_BOXES = 20  # that are opened in one answer
MAX_RANGE = 40  # numbers that an ellipsis may stand for

_RANGE = re.compile(
  r"(?<![\w.,}/^] )(?<![\w.,}/^])((?:-?\d{1,6} ?, ?){1,6})"
  r"(?:\.{3}|\\(?:ldots|cdots|dots[a-z]?)(?![a-zA-Z])) ?, ?(?:and )?(-?\d{1,6})(?![\w.,/^!])"
)
_IN_GROUPS = re.compile(  # 1,234,567; 12,34,567 as in India; 1'234'567 as in Switzerland
  r"(?<![\w.,'])(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:'\d{3})+)(?!\d)"
)
_IN_DOTS = re.compile(r"(?<![\w.,])\d{1,3}(?:(?:\.\d{3}){2,}(?:,\d+)?|\.\d{3},\d{1,2})(?![\d.,])")  # 1.234.567,89
_ENDING = re.compile(r"(?<![.?\s])[ ,;]*(?:[.?。](?: ?\.)?)?$")  # a gold's own full stop, too; three are an ellipsis
_MONEY = re.compile(  # a currency by its letters, before or after the amount
  r"\b(?:US|CA|AU|NZ|HK|[CARS])\s*(?=\\?\$\s*\d)|\b(?:Rs\.?|EUR|GBP|INR|RMB|CNY|JPY|CHF|USD)\s*(?=\d)"
  r"|(?<=\d)\s*(?:EUR|GBP|INR|RMB|CNY|JPY|CHF)\b"
)
_TAGS = re.compile(r"</?(?:b|i|em|strong|p|span|div|sup|sub|br|math|answer)\s*/?>", re.IGNORECASE)


def clean(text: str) -> str:
  """`text` in the dialect of the lexer; white space is single, nothing is evaluated."""
  text = latex_of_plain_tex(added_up(in_figures(_delimiters(latex_of(text).strip()).strip())))
  for pattern, replacement in REWRITES:
    text = pattern.sub(replacement, text)
  if "\\" not in text:
    text = re.sub(r"\b([A-Za-z])_([A-Za-z]{2,})\b(?!\()", r"\1_{\2}", text)  # `v_max`, as programs write it
  text = with_unit(_ENDING.sub("", re.sub(r"\s+", " ", text).strip())).strip(" ,;")
  text = re.sub(r"(?<!\\)\\+$", "", text)
  return re.sub(r"^(?:=|\\approx(?![a-z]))\s*", "", text)


def joined_thousands(text: str) -> str | None:
  """`text` with `1,234,567` read as one number, also as other countries write it; None where there is no such thing."""
  joined = _IN_DOTS.sub(lambda m: m[0].replace(".", "").replace(",", "."), text)
  joined = _IN_GROUPS.sub(lambda m: re.sub("[,']", "", m[0]), joined)
  return joined if joined != text else None


def rows_in_brackets(text: str) -> str | None:
  """`[1, 2; 3, 4]` and `[1 2; 3 4]` as a matrix; None where `text` may be an interval, `[1; 2]`."""
  match = re.fullmatch(r"\[([^\[\]{}]*;[^\[\]{}]*)\]", text)
  if match is None:
    return None
  rows = [[cell for cell in re.split(r"\s*,\s*|\s+", row.strip()) if cell] for row in match[1].split(";")]
  widths = {len(row) for row in rows}
  if len(widths) != 1 or 0 in widths or (widths == {1} and len(rows) < 3):
    return None
  return "\\begin{pmatrix}" + "\\\\".join("&".join(row) for row in rows) + "\\end{pmatrix}"


def spelled_out(text: str) -> str:
  r"""`text` with the whole numbers that an ellipsis in it stands for: `1, 2, \ldots, 5` as `1, 2, 3, 4, 5`."""
  match = _RANGE.search(text)
  if match is None:
    return text
  before, last = [int(number) for number in match[1].split(",") if number.strip()], int(match[2])
  step = before[1] - before[0] if len(before) > 1 else 1
  if any(b - a != step for a, b in itertools.pairwise(before)) or step == 0 or (last - before[-1]) % step:
    return text
  count = (last - before[-1]) // step
  if not 0 < count <= MAX_RANGE:
    return text
  numbers = [*before, *(before[-1] + step * k for k in range(1, count + 1))]
  return text[: match.start()] + ", ".join(map(str, numbers)) + text[match.end() :]


def _delimiters(text: str) -> str:
  """Without Markdown, HTML tags, math delimiters, currency signs, and with doubled back-slashes undone."""
  text = re.sub(r"<sup>([^<>]*)</sup>", r"^{\1}", text)
  text = re.sub(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is\b|\s*[:=]|\s+(?=[$\\]))\s*", "", text, flags=re.IGNORECASE)
  text = _unboxed(text)
  text = _TAGS.sub("", text).strip('`"')
  if len(text) > 2 and text[0] == text[-1] == "'":
    text = text[1:-1]
  if text.startswith("**") and text.endswith("**") and len(text) > 4:
    text = text[2:-2]
  if "\\begin" not in text:
    text = re.sub(r"\\{2,}(?=[a-zA-Z])", r"\\", text)
  elif re.search(r"(?<!\\)\\\\begin", text):
    text = text.replace("\\\\", "\\")
  text = re.sub(r"\\\\\s*\[[^\]]*\]", r"\\\\", text)
  text = _MONEY.sub("", text)
  text = re.sub(r"\\text\{\s*\\?\$\s*\}|\\\$|\$", " ", text)
  return re.sub(r"(?<!\\)\\[()\[\]]|\\displaystyle(?![a-zA-Z])(?:\{\})?", " ", text)


def _unboxed(text: str) -> str:
  """What is boxed without the boxes."""
  for _ in range(MAX_BOXES):
    box = re.search(r"\\(?:boxed|fbox)\s*(?=\{)", text)
    content = balanced(text, box.end()) if box else None
    if box is None or content is None:
      break
    text = f"{text[: box.start()]} {content} {text[box.end() + len(content) + 2 :]}"
  return text
