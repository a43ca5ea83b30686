r"""Plain TeX and what page scanners write, as LaTeX: `{a \over b}`, `{\rm kg}`, `\pmatrix{…\cr…}`; systems."""

import re

from skymath_jax.grading.boxes import balanced

MAX_REWRITTEN = 30  # of one kind in one answer

_INFIX = re.compile(r"\\(over|atop|choose)(?![a-zA-Z])")
_COMMAND_OF = {"over": "frac", "atop": "frac", "choose": "binom"}
_SWITCH = re.compile(r"\{\s*\\(rm|sf|tt|bf|it|sl|em|cal)(?![a-zA-Z])\s*([^{}]*)\}")
_ROOT = re.compile(r"\\root\s*([^\\{}]{1,5}|\{[^{}]*\})\s*\\of\s*(?=\{|\w)")
_BLOCK = re.compile(r"\\([pbv]?matrix|cases)\s*(?=\{)")
_BRACED_ARRAY = re.compile(
  r"(?:\\left)?\s*\\\{\s*\\begin\{(array|aligned|matrix|gathered|split)\}(?:\s*\{[clr|@ ]*\})?"
  r"(.*?)\\end\{\1\}\s*(?:\\right\s*\.)?",
  re.DOTALL,
)
_LINES = re.compile(
  r"\\begin\{(cases|aligned|align\*?|gathered|split|array|equation\*?)\}(?:\s*\{[clr|@ ]*\})?(.*?)\\end\{\1\}",
  re.DOTALL,
)
_RELATION = r"=|<|>|\\[lg]eq?(?:slant)?(?![a-z])|\\neq?(?![a-z])|\\in(?![a-z])"
_AT_RELATION = re.compile(rf"&\s*(?={_RELATION})|(?<=[=<>])\s*&")
_BEFORE_CONDITION = re.compile(
  r"[,;，；]\s*(?:\\q?quad\s*)*|\\q?quad\s*|\s+(?=\\text\w*\{\s*(?:if|for|when|otherwise)\b)|\s*(?=\(\w+\s*(?:=|\\[gl]e))"
)
_STARTS_WITH_RELATION = re.compile(rf"\s*(?:{_RELATION})")


def latex_of_plain_tex(text: str) -> str:
  """`text` with the commands of plain TeX in LaTeX, and systems of equations as lists."""
  if "\\" not in text:
    return text
  text = _infix(text)
  text = _SWITCH.sub(lambda m: f"\\mathrm{{{m[2]}}}" if m[1] in {"rm", "sf", "tt"} else f" {m[2]} ", text)
  text = re.sub(r"\\rm\s+([a-zA-Z]+)", r"\\mathrm{\1}", text)
  text = _ROOT.sub(lambda m: f"\\sqrt[{m[1].strip('{} ')}]", text)
  text = _blocks(text)
  text = _BRACED_ARRAY.sub(lambda m: f"\\begin{{cases}}{m[2]}\\end{{cases}}", text)
  return _LINES.sub(_lines, text)


def _infix(text: str) -> str:
  for _ in range(MAX_REWRITTEN):
    match = _INFIX.search(text)
    if match is None:
      break
    start, end = _group(text, match.start())
    top, bottom = text[start : match.start()].strip(), text[match.end() : end].strip()
    text = f"{text[:start]}\\{_COMMAND_OF[match[1]]}{{{top}}}{{{bottom}}}{text[end:]}"
  return text


def _group(text: str, place: int) -> tuple[int, int]:
  """Start and end of what stands in the innermost braces around `place`."""
  bounds = []
  for step, opens, closes in ((-1, "}", "{"), (1, "{", "}")):
    depth, index = 0, place if step > 0 else place - 1
    while 0 <= index < len(text):
      if text[index] in "{}" and (index == 0 or text[index - 1] != "\\"):
        if text[index] == closes and depth == 0:
          break
        depth += 1 if text[index] == opens else -1
      index += step
    bounds.append(index)
  return bounds[0] + 1, bounds[1]


def _blocks(text: str) -> str:
  r"""`\pmatrix{1&2\cr3&4}` as an environment."""
  for _ in range(MAX_REWRITTEN):
    match = _BLOCK.search(text)
    content = balanced(text, match.end()) if match else None
    if match is None or content is None:
      break
    rows = re.sub(r"(?:\\cr(?![a-z])|\\\\)\s*$", "", re.sub(r"\\cr(?![a-z])", r"\\\\", content))
    end = match.end() + len(content) + 2
    text = f"{text[: match.start()]}\\begin{{{match[1]}}}{rows}\\end{{{match[1]}}}{text[end:]}"
  return text


def _case(row: str) -> str:
  """`value & condition` of a line `value, condition`, which has no relation before the comma; else nothing."""
  for separator in _BEFORE_CONDITION.finditer(row):
    value, condition = row[: separator.start()].strip(), row[separator.end() :].strip()
    if value and not re.search(_RELATION, value) and value.count("(") == value.count(")"):
      return f"{value} & {condition}" if re.search(rf"{_RELATION}|\\text", condition) else ""
  return ""


def _lines(match: re.Match[str]) -> str:
  """Rows of equations as a list, and the steps of one calculation as a chain; anything else as it is."""
  rows = [_AT_RELATION.sub("", row).strip(" ,;\n") for row in re.split(r"\\\\(?:\s*\[[^\]]*\])?", match[2])]
  rows = [row for row in rows if row]
  if not rows or any("&" in row for row in rows):
    return match[0]
  if len(rows) > 1 and all(cases := [_case(row) for row in rows]):
    return "\\begin{cases}" + "\\\\".join(cases) + "\\end{cases}"
  if match[1] == "array" and not all(re.search(_RELATION, row) for row in rows):
    return match[0]
  joined = rows[0]
  for row in rows[1:]:
    joined += " " + row if _STARTS_WITH_RELATION.match(row) else ", " + row
  return joined
