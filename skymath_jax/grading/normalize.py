r"""One spelling for what answers are written with: Unicode, LaTeX styles, spacing, money, thousands, degrees.

The result is still text, in a small dialect that `lexer.py` knows: `\text{…}` for words, `°` and `%` as postfix signs,
`\reals`, `\emptyset`, `\frac`, `\sqrt` and the usual operators.
"""

import re
import unicodedata

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SYMBOLS = {
  "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
  "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
  "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∈": r"\in ", "∅": r"\emptyset ",
  "Ø": r"\emptyset ", "ℝ": r"\reals ", "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
  "…": r"\ldots ", "⋯": r"\ldots ", "⟨": r"\langle ", "⟩": r"\rangle ", "√": r"\sqrt ", "∛": r"\sqrt[3]",
  "，": ",", "∣": "|", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∶": ":",
  **dict.fromkeys("−–—‐‑", "-"), **dict.fromkeys("£€¥\u200b\ufeff\u2061\u2062\xad", ""),
}  # fmt: skip
_VULGAR = "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8".split()
_SYMBOLS |= {item[0]: f"\\frac{{{item[1]}}}{{{item[3]}}}" for item in _VULGAR}
_GREEK = (
  "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
  "psi omega"
).split()
_TABLE = str.maketrans(_SYMBOLS | {chr(0x3B1 + i + (i > 16)): f"\\{name} " for i, name in enumerate(_GREEK)})

_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp gcd lcm max min det lg".split()
_STYLE = re.compile(
  r"\\(?:text|mbox|hbox|textrm|textbf|textit|textnormal|mathrm|mathsf|mathtt|operatorname\*?|rm|bf)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_LETTER_STYLE = re.compile(
  r"\\(?:mathbf|mathit|boldsymbol|bm|mathcal|mathnormal|pmb|vec|overrightarrow|hat|widehat)\s*(?:\{\s*(\\?[A-Za-z]+)\s*\}|([A-Za-z]))"
)
_DROPPED = re.compile(
  r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|mathop|hfill|boldmath)(?![a-zA-Z])"
)
_SPACING = re.compile(
  r"(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad|enspace|thinspace|medspace|thickspace)(?![a-zA-Z])|\\[hv]space\*?\{[^{}]*\}"
)
_DEGREE = re.compile(r"\^\s*\{?\s*(?:\\circ|\\degree|°|\\text\{o\})\s*\}?|\\degree(?:s)?(?![a-zA-Z])|\s*\bdegrees?\b")
_REALS = re.compile(r"\\(?:mathbb|Bbb|mathbf)\s*\{?\s*R\s*\}?|\\R(?![a-zA-Z])|\\Reals(?![a-zA-Z])")
_CONNECTIVE = re.compile(r"\\text\{\s*,?\s*(and|or)\s*\}|\\(?:land|wedge)(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z])")
_SPEED = re.compile(r"(?<=[\d}])\s+((?:km|cm|mm|m|ft|mi)/(?:sec|s|min|hr|h)(?:\^\{?2\}?)?)$")
_LETTER_UNIT = re.compile(r"^(-?[\d.,/ ]*\d) ((?:[NJWVKTgsLh]|[ck]?m)(?:\^\{?\d\}?)?)$")
_REPEATING = re.compile(r"(?<=\d)\.(\d*)\s*\\(?:bar|overline|dot|overbar)\s*\{?(\d+)\}?")
_SETS = re.compile(r"\\(?:mathbb|Bbb)\s*\{?\s*([A-Z])\s*\}?")
_TAGS = re.compile(r"</?(?:b|i|em|strong|p|span|div|sup|sub|br|math|answer)\s*/?>", re.IGNORECASE)
_WORDS = re.compile(r"\b(?:all real numbers|no (?:real )?solutions?|empty set)\b", re.IGNORECASE)


def clean(text: str) -> str:
  """`text` in the dialect of the lexer; white space is single, nothing is evaluated."""
  text = _unicode(text).strip()
  text = _delimiters(text)
  text = re.sub(r"(?<=\d)(?:\{,\}|,\\!|\\!,|\\,)\s*(?=\d{3}(?!\d))", "", text)
  text = text.replace("\\!", "").replace("{,}", ",")
  text = _DROPPED.sub("", _SPACING.sub(" ", _LETTER_STYLE.sub(r" \1\2 ", text)))
  text = _STYLE.sub(_styled, text)
  text = _SETS.sub(r" \1_{set} ", _REALS.sub(r"\\reals ", text))
  text = re.sub(r"\\(?:m\\)?(?:angle|triangle|odot)(?![a-zA-Z])", " ", text)
  text = re.sub(r"\\frac\s*\{d([a-z])\}\{d[a-z]\}|\bd([a-z])/d[a-z]\b", r"\1\2'", text)
  text = re.sub(r"\\begin\{cases\}([^&]*)\\end\{cases\}", lambda m: m[1].strip(" \\").replace("\\\\", ", "), text)
  text = re.sub(r"^(\w+)\s*\\choose\s*(\w+)$", r"\\binom{\1}{\2}", text)
  text = re.sub(r"\{\s*([\w+-]+)\s*\\choose\s*([\w+-]+)\s*\}", r"\\binom{\1}{\2}", text)
  text = _REPEATING.sub(r".\1\\overline{\2}", text)
  text = _CONNECTIVE.sub(_connective, text)
  text = _DEGREE.sub("°", text)
  text = text.replace("\\%", "%").replace("\\#", "#").replace("\\&", "&").replace("\\_", "_")
  text = re.sub(r"\\text\{\s*(?:%|percent|per cent)\s*\}|\b(?:percent|per cent)\b", "%", text, flags=re.IGNORECASE)
  text = re.sub(r"\\(?:d|t|c)frac(?![a-z])", r"\\frac", text)
  text = re.sub(r"\\(?:d|t)binom(?![a-z])", r"\\binom", text)
  text = _WORDS.sub(lambda m: r"\reals " if "real n" in m[0].lower() else r"\emptyset ", text)
  text = re.sub(r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r"\\cup ", text)
  text = re.sub(r"(?<![\d.,])(\d{1,3})((?: \d{3})+)(?![\d,/])", lambda m: m[0].replace(" ", ""), text)
  text = _SPEED.sub(r"\\text{\1}", text.strip())
  text = _LETTER_UNIT.sub(lambda m: f"{m[1]}\\text{{{re.sub('[{}]', '', m[2])}}}", text)
  text = re.sub(r"^\](?=.+[,;].+[\[\]]$)", "(", text)
  text = re.sub(r"(?<=.)\[$", ")", text) if text[:1] in "([" else text
  text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
  text = re.sub(r"\s+", " ", text).strip(" ").removesuffix(".").strip(" ,;")
  return re.sub(r"^(?:=|\\approx(?![a-z]))\s*", "", text)


def joined_thousands(text: str) -> str | None:
  """`text` with `1,234,567` read as one number; None where there is nothing of the kind."""
  joined = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d])", lambda m: m[0].replace(",", ""), text)
  return joined if joined != text else None


def words_of(text: str) -> str:
  r"""A text answer in one form: no `\text`, case, quotes, white space or sentence marks (marks stay beside digits)."""
  text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*", "", text).lower()
  text = re.sub(r"[\s{}\"'$*`]+", "", text)
  return text if any(c.isdigit() for c in text) else re.sub(r"[.,;:!?()\-]+", "", text)


def _unicode(text: str) -> str:
  text = re.sub(f"[{''.join(_SUPERSCRIPTS)}]+", lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
  text = re.sub(f"[{''.join(_SUBSCRIPTS)}]+", lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
  return unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)


def _delimiters(text: str) -> str:
  """Without Markdown, HTML tags, math delimiters, currency signs, and with doubled back-slashes undone."""
  text = re.sub(r"<sup>([^<>]*)</sup>", r"^{\1}", text)
  text = re.sub(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r"\1", text)
  text = _TAGS.sub("", text).strip('`"')
  if len(text) > 2 and text[0] == text[-1] == "'":
    text = text[1:-1]
  if text.startswith("**") and text.endswith("**") and len(text) > 4:
    text = text[2:-2]
  if "\\begin" not in text:
    text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)
  text = re.sub(r"\\\\\s*\[[^\]]*\]", r"\\\\", text)
  text = re.sub(r"\\text\{\s*\\?\$\s*\}|\\\$|\$", " ", text)
  text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
  for _ in range(4):
    boxed = re.fullmatch(r"\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*", text, re.DOTALL)
    if not boxed:
      break
    text = boxed[1]
  return text


def _styled(match: re.Match) -> str:
  r"""`\text{…}` for words, the bare function for `\operatorname{sin}`, the letter itself for `\mathrm{e}`."""
  inner = re.sub(r"\s+", " ", match[1].replace("{", "").replace("}", "")).strip()
  command = match[0].lstrip("\\").partition("{")[0].strip()
  if inner.lower() in _FUNCTIONS and not command.startswith("t"):
    return f"\\{inner.lower()} "
  if re.fullmatch(r"[eid]", inner) and not command.startswith("te"):
    return f" {inner} "
  if not inner:
    return " "
  if re.fullmatch(r"[-+]?[\d.,/ ]*\d|[-+]|\(?[A-Z]\)?(?:(?: ?, ?| and )\(?[A-Z]\)?)+", inner) or re.search(
    r"\\[a-zA-Z]", inner
  ):
    return f" {inner} "
  return f"\\text{{{inner}}}"


def _connective(match: re.Match) -> str:
  word = match[1] or ("and" if match[0].startswith(("\\land", "\\wedge")) else "or")
  return f" {word} "
