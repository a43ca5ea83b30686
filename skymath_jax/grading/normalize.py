r"""One spelling for what answers are written with: Unicode, LaTeX styles, spacing, money, thousands, degrees.

The result is still text, in a small dialect that `lexer.py` knows: `\text{…}` for words, `°` and `%` as postfix signs,
`\reals`, `\emptyset`, `\frac`, `\sqrt` and the usual operators.
"""

import re
import unicodedata

from skymath_jax.grading.extract import balanced

MAX_BOXES = 20  # that are opened in one answer

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SYMBOLS = {
  "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
  "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
  "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∈": r"\in ", "∅": r"\emptyset ",
  "Ø": r"\emptyset ", "ℝ": r"\reals ", "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
  "…": r"\ldots ", "⋯": r"\ldots ", "⟨": r"\langle ", "⟩": r"\rangle ", "√": r"\sqrt ", "∛": r"\sqrt[3]",
  "，": ",", "∣": "|", "∀": r"\forall ", "∃": r"\exists ", "→": r"\rightarrow ", "⇒": r"\Rightarrow ",
  "∠": r"\angle ", "△": r"\triangle ", "⊂": r"\subset ", "⊆": r"\subseteq ", "⊥": r"\perp ", "∥": r"\parallel ",
  "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∶": ":",
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
  r"(?<!\\)\\[,;:> ]|~|\\q?quad|\\(?:enspace|thinspace|medspace|thickspace)(?![a-zA-Z])|\\[hv]space\*?\{[^{}]*\}"
)
_BREAK = re.compile(r"(?<=[\w}])\s*(?:\\q?quad|\n)\s*(?=[a-zA-Z](?:_\{?\w+\}?)?\s*(?:=(?!=)|\\equiv))")
_DEGREE = re.compile(
  r"\^\s*\{?\s*(?:\\(?:text)?circ|\\degree|°|\\text\{o\})\s*\}?|\\(?:text)?degrees?(?![a-zA-Z])|\s*\bdeg(?:rees?)?\b"
)
_POSITIVE = re.compile(r"\\(?:mathbb|Bbb|mathbf)\s*\{?\s*R\s*\}?\s*(?:[\^_]\s*\{?\s*\+\s*\}?|_\s*\{\s*>\s*0\s*\})")
_REALS = re.compile(r"\\(?:mathbb|Bbb|mathbf)\s*\{?\s*R\s*\}?|\\R(?![a-zA-Z])|\\Reals(?![a-zA-Z])")
_CONNECTIVE = re.compile(r"\\text\{\s*,?\s*(and|or)\s*\}|\\(?:land|wedge)(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z])")
_SPEED = re.compile(r"(?<=[\d}])\s+((?:km|cm|mm|m|ft|mi)/(?:sec|s|min|hr|h)(?:\^\{?2\}?)?)$")
_LETTER_UNIT = re.compile(r"^(-?[\d.,/ ]*\d) ((?:[NJWVKTgsLh]|[ck]?m)(?:\^\{?\d\}?)?)$")
_REPEATING = re.compile(r"(?<=\d)\.(\d*)\s*\\(?:bar|overline|dot|overbar)\s*\{?(\d+)\}?")
_SETS = re.compile(r"\\(?:mathbb|Bbb)\s*\{?\s*([A-Z])\s*\}?")
_TAGS = re.compile(r"</?(?:b|i|em|strong|p|span|div|sup|sub|br|math|answer)\s*/?>", re.IGNORECASE)
_EXCEPT = re.compile(
  r"\ball real (?:numbers|[a-z]) (?:except|other than|excluding)(?: for)?\b\s*(?:[a-z]\s*=)?(.+)$", re.IGNORECASE
)
_PHRASES = {
  r"(?:all|any|every) real (?:numbers?|values?)": r"\reals ",
  r"(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)|(?:the )?empty set": r"\emptyset ",
  r"does not exist|doesn't exist|dne": r"\text{dne}",
}  # what words say that has a sign, or several spellings
_WORDS = {re.compile(rf"\\text\{{\s*(?:{p})\s*\}}|\b(?:{p})\b", re.IGNORECASE): sign for p, sign in _PHRASES.items()}
_TIME = re.compile(r"(\d{1,2}(?::\d{2})?) ?([ap])\.? ?m\b\.?", re.IGNORECASE)
_ESCAPES = re.compile(
  r"\x0c(?=rac)|\x08(?=oxed|egin|inom|eta|ar|ig|oldsymbol)|\t(?=ext|imes|frac|heta|an[^a-z]|au[^a-z]|riangle)"
  r"|\r(?=ight|ho[^a-z]|angle|floor|ceil)|\x07(?=lpha|ngle|pprox)|\x0b(?=ec[^a-z]|ert|arnothing)|\n(?=eq[^a-z])"
)  # LaTeX that went through a string literal: a form feed and `rac` was a fraction
_LETTERS = dict(zip("\x0c\x08\t\r\x07\x0b\n", "fbtravn", strict=True))


def clean(text: str) -> str:
  """`text` in the dialect of the lexer; white space is single, nothing is evaluated."""
  text = _unicode(text).strip()
  text = _delimiters(text)
  text = re.sub(r"(?<=\d)(?:\{,\}|,\\!|\\!,|\\,)\s*(?=\d{3}(?!\d))", "", text)
  text = text.replace("\\!", "").replace("{,}", ",")
  text = _BREAK.sub(", ", text)
  text = _DROPPED.sub("", _SPACING.sub(" ", _LETTER_STYLE.sub(r" \1\2 ", text)))
  text = _STYLE.sub(_styled, re.sub(r"^\s*\{\s*\}(?=\s*\S)", "", text))
  text = _POSITIVE.sub(r"(0,\\infty)", text)
  text = _SETS.sub(r" \1_{set} ", _REALS.sub(r"\\reals ", text))
  text = re.sub(r"(?:\bm\s*)?\\(?:measured)?(?:angle|triangle|odot)(?![a-zA-Z])", " ", text)
  text = re.sub(r"\\(?:overline|bar|overleftrightarrow)\s*\{\s*([A-Z]{2,})\s*\}", r" \1 ", text)
  text = re.sub(r"^(?:[a-z]\s*:)?\s*\(?[a-z]\)?\s*\\(?:long)?mapsto(?![a-z])", "", text)
  text = re.sub(r"(?<![\w\\])C\s*_\s*\{?(\d+)\}?\s*\^\s*\{?(\d+)\}?", r"\\binom{\1}{\2}", text)
  text = re.sub(r"(?<![\w\\])(\d+)\s*C\s*(\d+)(?!\w)|(?<![\w\\])C\(\s*(\d+)\s*,\s*(\d+)\s*\)", _combination, text)
  text = re.sub(r"\\(d?dot|tilde)\s*\{?\s*(\\?[a-zA-Z]+)\s*\}?", r" \2_{\1}", text)
  text = re.sub(r"\\sqrt\s*\{\s*\}\s*(?=\{)", r"\\sqrt", text)
  text = re.sub(r"(?<=[}\w])\.(?=\s*[\])])", "", text)
  text = re.sub(r"\b(?:np|math|sympy)\.(?=[a-z])", "", text)
  text = re.sub(r"\\frac\s*\{d([a-z])\}\{d[a-z]\}|\bd([a-z])/d[a-z]\b", r"\1\2'", text)
  text = re.sub(r"\\begin\{cases\}([^&]*)\\end\{cases\}", lambda m: m[1].strip(" \\").replace("\\\\", ", "), text)
  text = re.sub(r"^(\w+)\s*\\choose\s*(\w+)$", r"\\binom{\1}{\2}", text)
  text = re.sub(r"\{\s*([\w+-]+)\s*\\choose\s*([\w+-]+)\s*\}", r"\\binom{\1}{\2}", text)
  text = _REPEATING.sub(r".\1\\overline{\2}", text)
  text = re.sub(r"\\text\{([^{}]*\S)\s+(and|or)\s*\}", r"\\text{\1} \2 ", text)
  text = re.sub(r"\\text\{([^{}:]+):\s*\}", r"\\text{\1}:", text)
  text = _CONNECTIVE.sub(_connective, text)
  text = _DEGREE.sub("°", text)
  text = re.sub(r"\^\s*(?:\{\s*((?:\\prime\s*)+)\}|((?:\\prime\s*)+))", lambda m: "'" * m[0].count("\\prime"), text)
  text = re.sub(r"[^\W\d_a-zA-Z]+", lambda m: f"\\text{{{m[0]}}}", text)
  text = text.replace("\\%", "%").replace("\\#", "#").replace("\\&", "&").replace("\\_", "_")
  text = re.sub(
    r"\\text\{\s*(?:%|percent(?:age)?|per cent|pct)\s*\}|\b(?:percent(?:age)?|per cent|pct)\b",
    "%",
    text,
    flags=re.IGNORECASE,
  )
  text = re.sub(r"\\(?:d|t|c)frac(?![a-z])", r"\\frac", text)
  text = re.sub(r"\\(?:d|t)binom(?![a-z])", r"\\binom", text)
  text = _EXCEPT.sub(r"\\reals \\setminus \\{\1\\}", text)
  for phrase, sign in _WORDS.items():
    text = phrase.sub(lambda _, sign=sign: sign, text)
  text = re.sub(r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r"\\cup ", text)
  text = re.sub(r"(?<![\d.,])(\d{1,3})((?: \d{3})+)(?![\d,/])", lambda m: m[0].replace(" ", ""), text)
  text = _SPEED.sub(r"\\text{\1}", text.strip())
  text = _LETTER_UNIT.sub(lambda m: f"{m[1]}\\text{{{re.sub('[{}]', '', m[2])}}}", text)
  text = re.sub(r"^\](?=.+[,;].+[\[\]]$)", "(", text)
  text = re.sub(r"(?<=.)\[$", ")", text) if text[:1] in "([" else text
  text = _TIME.sub(lambda m: f"{m[1]}\\text{{{m[2].lower()}m}}", text)
  text = re.sub(r"\s+", " ", text).strip(" ").removesuffix(".").strip(" ,;")
  text = re.sub(r"(?<!\\)\\+$", "", text)
  return re.sub(r"^(?:=|\\approx(?![a-z]))\s*", "", text)


def joined_thousands(text: str) -> str | None:
  """`text` with `1,234,567` read as one number; None where there is nothing of the kind."""
  joined = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d])", lambda m: m[0].replace(",", ""), text)
  return joined if joined != text else None


def _unicode(text: str) -> str:
  text = _ESCAPES.sub(lambda m: "\\" + _LETTERS[m[0]], text)
  text = re.sub("[①-⑳]", lambda m: f" {ord(m[0]) - 0x245F}, ", text)
  text = re.sub(r"\\textcircled\s*\{\s*(\d+)\s*\}", r" \1, ", text)
  text = re.sub(f"[{''.join(_SUPERSCRIPTS)}]+", lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
  text = re.sub(f"[{''.join(_SUBSCRIPTS)}]+", lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
  return unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)


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
  text = re.sub(r"\\text\{\s*\\?\$\s*\}|\\\$|\$", " ", text)
  text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
  return text


def _unboxed(text: str) -> str:
  """What is boxed without the boxes."""
  for _ in range(MAX_BOXES):
    box = re.search(r"\\(?:boxed|fbox)\s*(?=\{)", text)
    content = balanced(text, box.end()) if box else None
    if box is None or content is None:
      break
    text = f"{text[: box.start()]} {content} {text[box.end() + len(content) + 2 :]}"
  return text


def _styled(match: re.Match) -> str:
  r"""`\text{…}` for words, the bare function for `\operatorname{sin}`, the letter itself for `\mathrm{e}`."""
  inner = re.sub(r"\s+", " ", match[1].replace("{", "").replace("}", "")).strip()
  command = match[0].lstrip("\\").partition("{")[0].strip()
  applied = match.string[match.end() :].lstrip().startswith(("(", "\\", "{"))
  if inner.lower() in _FUNCTIONS and (applied or not command.startswith("t")) and (applied or inner != "min"):
    return f"\\{inner.lower()} "
  indexed = match.string[match.end() :].lstrip()[:1] == "_"
  if not command.startswith("te") and re.fullmatch(r"[A-Za-z]" if indexed else r"[a-fijkn-rt-z]|[A-Z]{2}", inner):
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


def _combination(match: re.Match) -> str:
  """`5C2` and `C(5, 2)` as a binomial coefficient."""
  return f"\\binom{{{match[1] or match[3]}}}{{{match[2] or match[4]}}}"


def _connective(match: re.Match) -> str:
  word = match[1] or ("and" if match[0].startswith(("\\land", "\\wedge")) else "or")
  return f" {word} "
