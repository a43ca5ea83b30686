r"""The ways in which one thing is written, each brought to the one that `lexer.py` knows: a table, applied in order."""

import re
from collections.abc import Callable

from skymath_jax.grading.symbolic.lexer import FUNCTIONS

_FUNCTIONS = frozenset({*FUNCTIONS, "det"}) - {"sqrt", "cbrt", "abs", "floor", "ceil"}
_TIME = re.compile(r"(?i)(\d{1,2}(?::\d{2})?) ?([ap])\.? ?m\b\.?")
_PHRASES = {
  r"(?:all|any|every) (?:real (?:numbers?|values?)|reals)": r"\\reals ",
  r"(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)|(?:the )?empty set": r"\\emptyset ",
  r"does not exist|doesn't exist|dne": r"\\text{dne}",
  r"(?:there are )?infinitely many(?: solutions)?": r"\\infty ",
}  # what words say that has a sign, or several spellings
_VALUE = r"(-?\d[\d./]*|-?\\frac\{\d+\}\{\d+\})"
_REALS = r"(?:all |any |every )?real (?:numbers?|values?)"
_SETS = {
  rf"{_REALS} (?:that are )?(?:(?:greater|more|larger) than or equal to|at least) {_VALUE}": r"[\1,\\infty)",
  rf"{_REALS} (?:that are )?(?:(?:less|smaller) than or equal to|at most) {_VALUE}": r"(-\\infty,\1]",
  rf"{_REALS} (?:that are )?(?:greater|more|larger) than {_VALUE}": r"(\1,\\infty)",
  rf"{_REALS} (?:that are )?(?:less|smaller) than {_VALUE}": r"(-\\infty,\1)",
  r"(?:all |any )?positive real (?:numbers?|values?)": r"(0,\\infty)",
  r"(?:all |any )?negative real (?:numbers?|values?)": r"(-\\infty,0)",
  r"(?:all |any )?non-?negative real (?:numbers?|values?)": r"[0,\\infty)",
  r"(?:all |any )?non-?positive real (?:numbers?|values?)": r"(-\\infty,0]",
  r"(?:all |any )?non-?zero real (?:numbers?|values?)": r"\\reals \\setminus \\{0\\}",
  r"(?:all |any )?integers": r" Z_{set} ",
}  # a whole answer that describes a set of numbers


_MEASURED_BEFORE = re.compile(  # a value, perhaps with the first parts of its unit: `\mathrm{m}` is metres after it
  r"[\d)°%]\}*(?:[\s~]|\\[ ,;!])*"
  r"(?:\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?(?:\s|[-/]|\\cdot(?![a-z])|\\times(?![a-z]))*)*$"
)


def _styled(match: re.Match[str]) -> str:
  r"""`\text{…}` for words, the bare function for `\operatorname{sin}`, the letter itself for `\mathrm{e}`."""
  inner = re.sub(r"\s+", " ", match[1].replace("{", "").replace("}", "")).strip()
  command = match[0].lstrip("\\").partition("{")[0].strip()
  applied = match.string[match.end() :].lstrip().startswith(("(", "\\", "{"))
  if inner.lower() in _FUNCTIONS and (applied or not command.startswith("t")) and (applied or inner != "min"):
    return f"\\{inner.lower()} "
  may_measure = _MEASURED_BEFORE.search(match.string[: match.start()]) and not (
    match.string[match.end() :].lstrip()[:1] == "_"
  )
  if not command.startswith("te") and re.fullmatch(r"[a-fijkn-rt-z]|[A-Z]{2}" if may_measure else r"[A-Za-z]", inner):
    return f" {inner} "
  if not inner:
    return " "
  if measured := re.fullmatch(r"(-?\d[\d.,]*) ([a-z][a-z ]+)", inner):
    return f" {measured[1]}\\text{{{measured[2]}}} "
  if (
    _TIME.fullmatch(inner)
    or re.fullmatch(r"[-+]?[\d.,/ ]*\d|[-+]|\(?[A-Z]\)?(?:(?: ?, ?| and )\(?[A-Z]\)?)+", inner)
    or re.search(r"\\[a-zA-Z]", inner)
  ):
    return f" {inner} "
  return f"\\text{{{inner}}}"


def _combination(match: re.Match[str]) -> str:
  """`5C2`, `C(5, 2)` and `5 choose 2` as a binomial coefficient."""
  top, bottom = (group for group in match.groups() if group is not None)
  return f"\\binom{{{top}}}{{{bottom}}}"


def _angle(match: re.Match[str]) -> str:
  """An angle named by three points as one name, the same from either side."""
  letters = re.sub(r"[^A-Z]", "", match[1])
  return f" \\angle_{{{min(letters, letters[::-1])}}} "


def _triangle(match: re.Match[str]) -> str:
  return f" \\triangle_{{{''.join(sorted(re.sub('[^A-Z]', '', match[1])))}}} "


def _vector(match: re.Match[str]) -> str:
  """A vector from one point to another as one name; from the other to the one it is the negative."""
  start, end = match[1], match[2]
  return f" \\vec_{{{start}{end}}} " if start <= end else f" (-\\vec_{{{end}{start}}}) "


def _logarithm(match: re.Match[str]) -> str:
  return f"\\log_{{{match[1] or match[2]}}}"


def _recurring(match: re.Match[str]) -> str:
  """`0.1666...` as `0.1\\overline{6}`; as it is where nothing is repeated."""
  whole, digits = match[1], match[2]
  for length in range(1, len(digits) // 2 + 1):
    block, times = digits[-length:], 3 if length == 1 else 2
    if digits.endswith(block * times):
      rest = digits
      while rest.endswith(block):
        rest = rest[:-length]
      return f"{whole}.{rest}\\overline{{{block}}}"
  return match[0]


def _primes(match: re.Match[str]) -> str:
  return "'" * match[0].count("\\prime")


def _turned(match: re.Match[str]) -> str:
  r"""`A \ni x` as `x \in A`."""
  sign = {"ni": "in", "supset": "subset", "supseteq": "subseteq"}[match[3]]
  return f"{match[4]} {match[2] or ''}\\{sign} {match[1]}"


def _lines(match: re.Match[str]) -> str:
  r"""The lines of `\begin{cases}` as a list."""
  return match[1].strip(" \\").replace("\\\\", ", ")


def _joined(match: re.Match[str]) -> str:
  return match[0].replace(" ", "")


def _unit_alone(match: re.Match[str]) -> str:
  return f"\\text{{{re.sub('[{}]', '', match[1])}}}"


def _measured(match: re.Match[str]) -> str:
  return f"{match[1]}\\text{{{re.sub('[{}]', '', match[2])}}}"


def _sexagesimal(match: re.Match[str]) -> str:
  """Degrees, minutes and seconds as one fraction of degrees."""
  seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)
  return f"\\frac{{{seconds}}}{{3600}}°"


def _quotient_of_units(match: re.Match[str]) -> str:
  return f"\\text{{{match[1]}/{match[2]}{re.sub('[{}]', '', match[3] or '')}}}"


def _of_base(match: re.Match[str]) -> str:
  """`2F_{16}` and `0x2F` by value; as it is where a digit is too large."""
  digits, base = (match[1], int(match[2])) if match[1] else (match[4], {"x": 16, "b": 2, "o": 8}[match[3].lower()])
  try:
    return str(int(digits, base))
  except ValueError:
    return match[0]


def _time_of_day(match: re.Match[str]) -> str:
  return f"{match[1]}\\text{{{match[2].lower()}m}}"


Replacement = str | Callable[[re.Match[str]], str]
_SPELLINGS: tuple[tuple[str, Replacement], ...] = (
  # spacing and size
  (r"(?<=\d)(?:\{,\}|,\\!|\\!,|\\,)\s*(?=\d{3}(?!\d))", ""),  # 1{,}000
  (r"\\!", ""),
  (r"\{,\}", ","),
  (r"(?<=[\d%])\s?(?:~|\\sim(?![a-z])|至)\s?(?=\d)(?!\d{3}(?!\d))", " to "),  # 3~5
  (r"(?i)^\s*(?:from|between)\s+(\S+)\s+(?:to|and)\s+(\S+)\s*$", r"\1 to \2"),
  (r"(?<=[\w}])\s*(?:\\q?quad|\n)\s*(?=[a-zA-Z](?:_\{?\w+\}?)?\s*(?:=(?!=)|\\equiv))", ", "),  # x = 1 \quad y = 2
  (r"\\(?:vec|overrightarrow)\s*\{?\s*([A-Z])\s*([A-Z])\s*\}?(?![A-Za-z])", _vector),
  (
    r"\\(?:mathbf|mathit|boldsymbol|bm|mathcal|mathnormal|pmb|vec|overrightarrow|hat|widehat)"
    r"(?:\s*\{\s*(\\?[A-Za-z]+|-?[\d.,/]+)\s*\}|\s+([A-Za-z]))",
    r" \1\2 ",
  ),
  (
    r"(?<!\\)\\[,;:> ]|~|\\q?quad|\\(?:enspace|thinspace|medspace|thickspace)(?![a-zA-Z])|\\[hv]space\*?\{[^{}]*\}",
    " ",
  ),
  (r"\\(?:left|right)\s*\.", ""),
  (
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|mathop|hfill|boldmath)"
    r"(?![a-zA-Z])",
    "",
  ),
  (r"^\s*\{\s*\}(?=\s*\S)", ""),
  (
    r"\\(?:text|mbox|hbox|textrm|textbf|textit|textnormal|mathrm|mathsf|mathtt|operatorname\*?|rm|bf)"
    r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}",
    _styled,
  ),
  # sets of numbers
  (
    r"\\(?:mathbb|Bbb|mathbf)\s*\{?\s*R\s*\}?\s*(?:[\^_]\s*\{?\s*\+\s*\}?|_\s*\{\s*>\s*0\s*\})",
    r"(0,\\infty)",
  ),
  (r"\\(?:mathbb|Bbb|mathbf)\s*\{?\s*R\s*\}?|\\R(?![a-zA-Z])|\\Reals(?![a-zA-Z])", r"\\reals "),
  (r"\\(?:mathbb|Bbb)\s*\{?\s*([A-Z])\s*\}?", r" \1_{set} "),
  # geometry, functions, counting
  (r"(?<!_)(?<!_\{)(?:\bm\s*)?(?:\\(?:measured)?angle|\bangle)\s*(\{?\s*[A-Z]\s*[A-Z]\s*[A-Z]\b\s*\}?)", _angle),
  (r"(?<!_)(?<!_\{)\\triangle\s*(\{?\s*[A-Z]\s*[A-Z]\s*[A-Z]\b\s*\}?)", _triangle),
  (r"(?:\bm\s*)?\\(?:measured)?(?:angle|triangle|odot)(?![a-zA-Z_])", " "),
  (r"\\(?:overline|bar|overleftrightarrow)\s*\{\s*([A-Z]{2,})\s*\}", r" \1 "),
  (r"^(?:[a-z]\s*:)?\s*\(?[a-z]\)?\s*\\(?:long)?mapsto(?![a-z])", ""),
  (r"(?<![\w\\])C\s*_\s*\{?(\d+)\}?\s*\^\s*\{?(\d+)\}?", r"\\binom{\1}{\2}"),
  (
    r"(?<![\w\\])(\d+)\s*(?:C|nC[rR]|choose)\s*(\d+)(?!\w)|(?<![\w\\])C\(\s*(\w+)\s*,\s*(\w+)\s*\)"
    r"|(?:\{\s*\})?[\^_]\s*\{?\s*(\w+)\s*\}?\s*C\s*_\s*\{?\s*(\w+)\s*\}?",
    _combination,
  ),
  (
    r"(?<![\w\\])(?:factorial|binom(?:ial)?|n?choose(?:k)?|comb|n[cCpP][rR]|perm|pow|mod|sgn|sign|nthroot"
    r"|round|arg|Arg|[Rr]e|[Ii]m)\s*(?=\()",
    r"\\\g<0>",
  ),
  (r"(?<![\w\\])log_?(\d+)\s*(?=\()|\\log_(10)(?=\s*[({\\]|\s+\d)", _logarithm),
  (r"\\(d?dot|tilde)(?![a-zA-Z])\s*\{?\s*(\\?[a-zA-Z]+)\s*\}?", r" \2_{\1}"),
  (r"\\frac\s*\{d([a-z])\}\{d[a-z]\}|\bd([a-z])/d[a-z]\b", r"\1\2'"),
  (r"\^\s*(?:\{\s*((?:\\prime\s*)+)\}|((?:\\prime\s*)+))", _primes),
  (r"\\notin(?![a-z])", r"\\not\\in "),
  (r"^\s*([^,\\]+?)\s*(\\not\s*)?\\(ni|supseteq|supset)(?![a-z])\s*([^,\\]+?)\s*$", _turned),
  (r"\\begin\{cases\}([^&]*)\\end\{cases\}", _lines),
  (r"\\det\s*\(?\s*\\begin\{[bp]?matrix\}", r"\\begin{vmatrix}"),
  (r"\\(?:d|t|c)frac(?![a-z])", r"\\frac"),
  (r"\\(?:d|t)binom(?![a-z])", r"\\binom"),
  (r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r"\\cup "),
  # slips of typing, and prefixes of programs
  (r"\\sqrt\s*\{\s*\}\s*(?=\{)", r"\\sqrt"),
  (r"(?<=[}\w])\.(?=\s*[\])])", ""),
  (r"\b(?:np|numpy|math|sympy|sp)\.(?=[a-zA-Z])", ""),
  (r"^\s*(?:Matrix|array|vector)\(\s*(.*)\s*\)\s*$", r"\1"),
  # numbers with marks
  (
    r"(?<![\w.,])(\d+)(?:(?:st|nd|rd|th)\b|\s*\\text\{\s*(?:st|nd|rd|th)\s*\}"
    r"|\s*\^\s*\{\s*(?:(?:st|nd|rd|th)|\\text\{\s*(?:st|nd|rd|th)\s*\})\s*\})",
    r"\1 ",
  ),  # 12th
  (r"\\dot\s*\{?\s*(\d)\s*\}?\s*(\d*)\s*\\dot\s*\{?\s*(\d)\s*\}?", r"\\overline{\1\2\3}"),
  (r"(?<![\w.])(\d+\.\d*)\((\d+)\)(?![\d(])", r"\1\\overline{\2}"),  # 0.1(6)
  (r"(?<![\w.])(\d+)\.(\d{3,60}) ?(?:\.{3}|\\(?:ldots|cdots|dots)(?![a-z]))", _recurring),
  (r"(?<![\w.])(\d+)\.(\d{3,60}) (?:\\text\{)?(?:repeating|recurring)\}?", _recurring),
  (r"(?<=\d)\.(\d*)\s*\\(?:bar|overline|dot|overbar)\s*\{?(\d+)\}?", r".\1\\overline{\2}"),
  (
    r"\^\s*\{\s*(?:\\(?:text)?circ|\\degree|°|\\text\{o\})\s*\}|\^\s*(?:\\(?:text)?circ(?![a-z])|\\degree|°)"
    r"|\\(?:text)?degrees?(?![a-zA-Z])|\s*\bdeg(?:rees?)?\b",
    "°",
  ),
  (r"\\text\{\s*°\s*\}", "°"),
  (r"(?<![\w.])(\d{1,3})°\s*(\d{1,2})\s*'(?:\s*(\d{1,2})\s*(?:''|\"))?", _sexagesimal),  # 30° 15' 20"
  (r"\((\d+)\)(?=_)", r"\1"),  # (1011)_2
  (
    r"(?<![\\\w])(?=\w*\d\w*_|[A-F]{2,}_)([0-9A-F]*[A-F][0-9A-F]*)_\{?(1[1-6])\}?(?!\d)|^0([xXbBoO])([0-9A-Fa-f]+)$",
    _of_base,
  ),
  (r"\^\s*\{?(\d+)\}?\s*/\s*_\s*\{?(\d+)\}?", r"\\frac{\1}{\2}"),
  (r"\\text\{\s*(?:an? )?(?:arbitrary )?(?:constant|const\.?)\s*\}|(?<=[+] )(?:constant|const)\b", " C "),
  (
    r"(?<=[\d}])\s*\\frac\s*\{\s*(?:\\text\{)?(\w{1,3})\}?\s*\}\s*\{\s*(?:\\text\{)?(s|h|hr|min|sec|m|cm|L)(?:\})?(\^\{?\d\}?)?\s*\}\s*$",
    _quotient_of_units,
  ),
  (r"(?<=\d) ?mins?(?=\s*$)", r"\\text{min}"),
  (r"(?<!\\)\\(?=\d)|\\([%#&_])", r"\1"),
  (r"(?i)\\text\{\s*(?:%|percent(?:age)?|per cent|pct)\s*\}|\b(?:percent(?:age)?|per cent|pct)\b", "%"),
  (r"(?<![\d.,])(\d{1,3})((?: \d{3})+)(?![\d,/])", _joined),  # 1 000
  (r"(?<=\d) ?[xX] ?(?=10 ?\^)", r"\\times "),  # 1.5 x 10^3
  # words
  (r"(?<=\d)\s*又\s*(?=\d|\\frac)", " "),
  (r"(?i)^\s*(?:\\text\{\s*only\s*\}|only\s)", ""),
  (r"\\text\{([^{}]*\S)\s+(and|or)\s*\}", r"\\text{\1} \2 "),
  (r"\\text\{([^{}:]+):\s*\}", r"\\text{\1}:"),
  (r"\\text\{\s*,?\s*(and|or)\s*\}", r" \1 "),
  (r"(?<![a-z])(and|or) ?,(?= ?[a-z]\w* ?=)", r"\1 "),
  (r"\\(?:land|wedge)(?![a-zA-Z])", " and "),
  (r"\\(?:lor|vee)(?![a-zA-Z])", " or "),
  (r"(?<=[\w)}\]])\s*(?:或者?|以及|和|及)\s*(?=[\w(\\\[-])", " and "),
  (r"(?<![\\a-zA-Z])[a-zA-Z]*[^\W\d_a-zA-Z][^\W\d_]*", r"\\text{\g<0>}"),
  (
    r"(?i)\ball real (?:numbers|[a-z]) (?:except|other than|excluding)(?: for)?\b\s*(?:[a-z]\s*=)?(.+)$",
    r"\\reals \\setminus \\{\1\\}",
  ),
  *((rf"(?i)^\s*(?:\\text\{{)?\s*(?:the set of )?{words}\s*\}}?\s*$", sign) for words, sign in _SETS.items()),
  *((rf"(?i)\\text\{{\s*(?:{phrase})\s*\}}|\b(?:{phrase})\b", sign) for phrase, sign in _PHRASES.items()),
  (r"(?<=[\d}])\s+((?:km|cm|mm|m|ft|mi)/(?:sec|s|min|hr|h)(?:\^\{?2\}?)?)\s*$", _unit_alone),
  (r"^\s*(-?[\d.,/ ]*\d) ((?:[NJWVKTAgsLh]|[ck]?m)(?:\^\{?\d\}?)?)\s*$", _measured),
  (_TIME.pattern, _time_of_day),
  # intervals as some countries write them: ]1; 2[
  (r"^\s*\](?=.+[,;].+[\[\]]\s*$)", "("),
  (r"^(\s*[(\[].*)\[\s*$", r"\1)"),
)
REWRITES = tuple((re.compile(pattern), replacement) for pattern, replacement in _SPELLINGS)
