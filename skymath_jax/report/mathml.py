r"""Mathematics of a text as MathML, which browsers draw by themselves: no script, no font, no request.

>>> mathematics(r"Half: $\frac{1}{2}$")
Markup('Half: <math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>')

Formulas are what stands in `$…$`, `$$…$$`, `\(…\)` and `\[…\]`. It is the part of LaTeX that solutions of school and
contest problems use; a formula with anything else in it is shown as it is written. All text is escaped.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

MOST = 2_000  # characters of one formula
DEEPEST = 40  # braces inside braces
_FORMULA = re.compile(
  r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<![\\$\w])\$(?P<d>[^\s$](?:[^$\n]*?[^\s\\$])?)\$(?!\d)",
  re.DOTALL,
)
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:[.,]\d+)*|\s+|.", re.DOTALL)
_LETTERS = {
  "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
  "theta": "θ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ",
  "phi": "ϕ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ",
  "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "infty": "∞", "ell": "ℓ",
  "emptyset": "∅",
}  # fmt: skip
_OPERATORS = {
  "times": "×", "cdot": "⋅", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥",
  "ne": "≠", "neq": "≠", "approx": "≈", "equiv": "≡", "sim": "∼", "cong": "≅", "to": "→", "rightarrow": "→",
  "Rightarrow": "⇒", "implies": "⟹", "iff": "⟺", "in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆", "cup": "∪",
  "cap": "∩", "setminus": "∖", "forall": "∀", "exists": "∃", "mid": "∣", "parallel": "∥", "perp": "⊥", "angle": "∠",
  "triangle": "△", "circ": "∘", "degree": "°", "ldots": "…", "dots": "…", "cdots": "⋯", "sum": "∑", "prod": "∏",
  "int": "∫", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "lvert": "|",
  "rvert": "|", "vert": "|", "prime": "′", "therefore": "∴", "because": "∵", "ast": "∗", "star": "⋆", "oplus": "⊕",
  "colon": ":", "lbrace": "{", "rbrace": "}", "{": "{", "}": "}", "%": "%", "$": "$", "&": "&", "#": "#", "_": "_",
  "|": "∥",
}  # fmt: skip
_FUNCTIONS = set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp min max gcd lcm lim det dim mod".split()
)
_SPACES = {",": ".17em", ":": ".22em", ";": ".28em", " ": ".33em", "quad": "1em", "qquad": "2em", "!": "0"}
_NOTHING = {"left", "right", "displaystyle", "textstyle", "big", "Big", "bigg", "Bigg", "limits", "nolimits", "bigl",
            "bigr", "Bigl", "Bigr"}  # fmt: skip
_TEXTS = {"text", "textbf", "textit", "mbox", "mathrm", "textrm", "operatorname"}
_STYLES = {"mathbf", "mathbb", "mathcal", "mathit", "boldsymbol", "boxed", "overline", "hat", "vec", "bar"}
_OVER = {"overline": "¯", "bar": "¯", "hat": "^", "vec": "→"}


class _Unknown(Exception):
  """The formula holds what is not known here."""


def mathematics(text: str) -> Markup:
  """The text, escaped, with its formulas as MathML."""
  parts, at = [], 0
  for found in _FORMULA.finditer(text):
    parts.append(escape(text[at : found.start()]))
    at = found.end()
    source = next(filter(None, found.groups()))
    try:
      display = Markup(' display="block"') if found["a"] or found["b"] else Markup("")
      parts.append(Markup("<math{}>{}</math>").format(display, formula(source)))
    except _Unknown:
      parts.append(Markup("<code>{}</code>").format(found[0]))
  return Markup("").join([*parts, escape(text[at:])])


def formula(source: str) -> Markup:
  """A formula in LaTeX as the content of a `math` element."""
  if len(source) > MOST:
    raise _Unknown(source)
  return _Parser(source).all()


class _Parser:
  def __init__(self, source: str):
    self._tokens = _TOKEN.findall(source)
    self._at = 0
    self._depth = 0

  def all(self) -> Markup:
    found = self._row(None)
    if self._at < len(self._tokens):
      raise _Unknown(self._tokens[self._at])
    return found

  def _peek(self) -> str:
    while self._at < len(self._tokens) and self._tokens[self._at].isspace():
      self._at += 1
    return self._tokens[self._at] if self._at < len(self._tokens) else ""

  def _take(self) -> str:
    token = self._peek()
    if not token:
      raise _Unknown("the end")
    self._at += 1
    return token

  def _row(self, end: str | None) -> Markup:
    return Markup("").join(self._items(end))

  def _items(self, end: str | None) -> Iterator[Markup]:
    """Items up to the token `end`, which is taken, or up to a brace or the end of the formula."""
    while (token := self._peek()) and token != "}":
      if token == end:
        self._take()
        return
      yield self._scripted()
    if end is not None:
      raise _Unknown(end)

  def _group(self) -> Markup:
    """An argument: what stands in braces, or one item."""
    self._depth += 1
    if self._depth > DEEPEST:
      raise _Unknown("too deep")
    token = self._peek()
    if token[:1].isdigit() and len(token) > 1:  # without braces it is one digit, as in \frac12
      self._tokens[self._at] = token[1:]
      found = _element("mn", token[0])
    elif token != "{":
      found = self._atom()
    else:
      self._take()
      items = list(self._items(None))
      if self._take() != "}":
        raise _Unknown("{")
      found = items[0] if len(items) == 1 else _element("mrow", *items)
    self._depth -= 1
    return found

  def _scripted(self) -> Markup:
    """An item with what is below and above it."""
    base = self._atom()
    below = above = None
    while (token := self._peek()) in ("_", "^", "'"):
      self._take()
      if token == "_" and below is None:
        below = self._group()
      elif token == "^" and above is None:
        above = self._group()
      elif token == "'" and above is None:
        above = _element("mo", "′")
      else:
        raise _Unknown(token)
    if below is not None and above is not None:
      return _element("msubsup", base, below, above)
    if below is not None:
      return _element("msub", base, below)
    return base if above is None else _element("msup", base, above)

  def _atom(self) -> Markup:
    token = self._peek()
    if token == "{":
      return self._group()
    if token in ("_", "^", "}", "&", "#", "%", "$"):
      raise _Unknown(token)
    self._take()
    if token[0] == "\\":
      return self._command(token[1:])
    if token[0].isdigit():
      return _element("mn", token)
    if token.isalpha():
      return _element("mi", token)
    return _element("mo", "−" if token == "-" else " " if token == "~" else token)

  def _command(self, name: str) -> Markup:
    if name in ("frac", "dfrac", "tfrac", "cfrac"):
      return _element("mfrac", self._group(), self._group())
    if name in ("binom", "dbinom"):
      inner = Markup('<mfrac linethickness="0">{}{}</mfrac>').format(self._group(), self._group())
      return _element("mrow", _element("mo", "("), inner, _element("mo", ")"))
    if name == "sqrt":
      if self._peek() != "[":
        return _element("msqrt", self._group())
      self._take()
      degree = self._row("]")
      return _element("mroot", self._group(), _element("mrow", degree))
    if name in _TEXTS:
      return _element("mtext", self._words())
    if name in _STYLES:
      inner = self._group()
      return _element("mover", inner, _element("mo", _OVER[name])) if name in _OVER else inner
    return self._symbol(name)

  def _symbol(self, name: str) -> Markup:
    if name in _LETTERS:
      return _element("mi", _LETTERS[name])
    if name in _OPERATORS:
      return _element("mo", _OPERATORS[name])
    if name in _FUNCTIONS:
      return _element("mi", name)
    if name in _SPACES:
      return Markup('<mspace width="{}"></mspace>').format(_SPACES[name])
    if name in _NOTHING:
      if name in ("left", "right") and self._peek() == ".":
        self._take()
      return Markup("")
    raise _Unknown(name)

  def _words(self) -> str:
    """The text in braces, as it is."""
    if self._take() != "{":
      raise _Unknown("text")
    words = []
    while self._at < len(self._tokens) and self._tokens[self._at] != "}":
      token = self._tokens[self._at]
      if token == "{" or (token[0] == "\\" and token[1:].isalpha()):
        raise _Unknown(token)
      words.append(token.removeprefix("\\"))
      self._at += 1
    self._take()
    return "".join(words)


def _element(name: str, *content: str | Markup) -> Markup:
  return Markup("<{0}>{1}</{0}>").format(Markup(name), Markup("").join(content))
