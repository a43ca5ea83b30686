"""Answers as tokens. Anything that the dialect does not know (an ellipsis, an integral) is refused, not guessed at."""

import dataclasses
import re

MAX_TOKENS = 500

_TOKEN = re.compile(
  r"""(?P<space>\s+)
  |(?P<ellipsis>\.\.+|\\(?:ldots|cdots|dots[a-z]?|vdots|ddots)(?![a-zA-Z]))
  |(?P<num>(?:\d+(?:\.\d+)?|\.\d+)[eE][-+]?\d{1,4}(?![\d.])|\d+\.\d+|\d+\.(?![\d.])|\.\d+|\d+)
  |(?P<text>\\text\{[^{}]*\})
  |(?P<begin>\\begin\s*\{[a-zA-Z]+\*?\}(?:\{[clr|]*\})?)
  |(?P<end>\\end\s*\{[a-zA-Z]+\*?\})
  |(?P<row>\\\\)
  |(?P<cmd>\\(?:[a-zA-Z]+|[{}|]))
  |(?P<word>[A-Za-z]+)
  |(?P<op>\*\*|<=|>=|=<|=>|!=|==|\|\||[-+*/^_=<>!,;:|()\[\]{}&%°'])""",
  re.VERBOSE,
)

DIRECT = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch")
INVERSES = {  # name → the one that the evaluator knows
  f"{prefix}{name}": f"arc{name}" for name in DIRECT for prefix in ("arc", "a", "ar")[: 3 if name[-1] == "h" else 2]
}
FUNCTIONS = frozenset({
  *DIRECT, *INVERSES, "log", "ln", "lg", "exp", "sqrt", "cbrt", "abs", "floor", "ceil", "gcd", "lcm", "max", "min",
  "cis",
})  # fmt: skip
GREEK = frozenset({
  "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
  "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
  "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell", "hbar", "omicron",
  "Alpha", "Beta", "Epsilon", "Zeta", "Eta", "Iota", "Kappa", "Mu", "Nu", "Omicron", "Rho", "Tau", "Upsilon", "Chi",
})  # fmt: skip
_APPLIED = {  # functions that only a command names, with the name that the evaluator knows
  "factorial": "factorial", "binomial": "binom", "choose": "binom", "nchoosek": "binom", "nchoose": "binom",
  "comb": "binom", "ncr": "binom", "perm": "perm", "npr": "perm", "pow": "pow", "mod": "mod", "sgn": "sgn",
  "sign": "sgn", "nthroot": "root", "re": "re", "im": "im", "arg": "arg", "round": "round",
}  # fmt: skip
_NAMED = frozenset({"angle", "triangle", "vec"})  # with points as an index
_COMMANDS = {
  "cdot": "*", "times": "*", "ast": "*", "bullet": "*", "div": "/", "pm": "pm", "mp": "mp", "le": "<=", "leq": "<=",
  "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=",
  "geqq": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=",
  "approx": "approx", "equiv": "=", "cup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus",
  "in": "in",
  "mid": "mid", "vert": "|", "lvert": "|", "rvert": "|", "|": "||", "Vert": "||", "colon": ":", "{": "\\{", "}": "\\}",
  "lbrace": "\\{", "rbrace": "\\}", "langle": "langle", "rangle": "rangle", "lfloor": "lfloor", "rfloor": "rfloor",
  "lceil": "lceil", "rceil": "rceil", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "frac": "frac",
  "binom": "binom", "sum": "big", "prod": "big", "int": "big",
  "overline": "overline", "bar": "overline", "infty": "inf", "pi": "pi", "emptyset": "empty",
  "varnothing": "empty", "oslash": "empty", "reals": "reals", "prime": "'", "circ": "circ", "top": "transpose",
}  # fmt: skip
_BARE = frozenset(
  {"frac", "dfrac", "tfrac", "cdot", "times", "infty", "leq", "geq", "neq", "cup", "cap"}
)  # the back-slash was lost
_WORDS = {
  "pi": "pi",
  "inf": "inf",
  "infinity": "inf",
  "oo": "inf",
  "and": "and",
  "or": "or",
  "union": "cup",
  "to": "to",
}
_OPERATORS = {"**": "^", "=<": "<=", "==": "="}
_SHORT_UNITS = frozenset({
  "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "yd", "mi", "lb", "lbs", "oz", "hr", "hrs", "min", "mins", "sec",
  "secs", "mph", "kph", "kmh", "rad", "deg", "Hz", "kHz", "Pa", "kPa", "kJ", "kW", "mol", "atm", "gal", "pm", "am",
  "s", "nm", "kN", "cc", "dB", "sq", "per", "day", "days", "cup", "cups", "feet", "foot", "inch",
})  # fmt: skip
_CALCULATED = frozenset({"+", "-", "*", "^", "(", "num", "var", "frac", "func"})
_UNITS_IN_ANY_CASE = frozenset({"am", "pm", "day", "days", "hrs", "mins", "feet", "foot", "inch", "cups"})
_PLAIN = frozenset({
  "yes", "no", "odd", "even", "one", "two", "six", "ten", "sun", "mon", "tue", "wed", "thu", "fri", "sat", "red",
  "all", "none", "not", "on", "off", "men", "both", "he", "she",
})  # fmt: skip


class UnreadableError(ValueError):
  """The text is not in the dialect; it is compared as text instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
  """`kind` is num, var, func, text, env or the operator itself; `spaced` tells whether white space came before."""

  kind: str
  value: str
  spaced: bool


def tokenize(text: str) -> list[Token]:
  """The tokens of a cleaned answer; raises `UnreadableError`."""
  tokens: list[Token] = []
  position, spaced = 0, False
  while position < len(text):
    match = _TOKEN.match(text, position)
    if match is None:
      raise UnreadableError(f"character {text[position]!r}")
    position, kind, value = match.end(), match.lastgroup, match[0]
    if kind == "space":
      spaced = True
      continue
    if kind == "ellipsis":
      raise UnreadableError("ellipsis")
    tokens.extend(_tokens(str(kind), value, spaced, tokens))
    spaced = False
    if len(tokens) > MAX_TOKENS:
      raise UnreadableError("too many tokens")
  return _with_unknown_s(tokens)


def _with_unknown_s(tokens: list[Token]) -> list[Token]:
  """`3s^2 + 2s` with `s` as the unknown it is, not as seconds: one of them is calculated with."""
  after_number = [i for i in range(1, len(tokens)) if tokens[i].value == "s" and tokens[i - 1].kind == "num"]
  calculated = any(tokens[i + 1].kind in _CALCULATED for i in after_number if i + 1 < len(tokens))
  if calculated or any(token.kind == "var" and token.value == "s" for token in tokens):
    for index in after_number:
      tokens[index] = Token("var", "s", False)
  return tokens


def _tokens(kind: str, value: str, spaced: bool, before: list[Token]) -> list[Token]:
  if kind == "op":
    operator = _OPERATORS[value] if value in _OPERATORS else value
    return [Token(operator, operator, spaced)]
  if kind == "text":
    return [Token("text", value[6:-1].strip(), True)]
  if kind == "cmd":
    return _commands(value[1:], spaced)
  if kind == "word":
    return _word(value, spaced, before)
  return [Token(kind, value, spaced)]


def _command(name: str, spaced: bool) -> Token:
  if name in _COMMANDS:
    return Token(_COMMANDS[name], name, spaced)
  if name in FUNCTIONS:
    return Token("func", name, spaced)
  if name in GREEK or name in _NAMED:
    return Token("var", name, spaced)
  if name.lower() in _APPLIED:
    return Token("func", _APPLIED[name.lower()], spaced)
  raise UnreadableError(f"command {name}")


def _commands(name: str, spaced: bool) -> list[Token]:
  r"""The command; two tokens where a letter was glued to it (`\lex` for `\le x`)."""
  known = FUNCTIONS | GREEK | _NAMED | _COMMANDS.keys() | _APPLIED.keys()
  if len(name) > 2 and name not in known and name[:-1] in _COMMANDS:
    return [_command(name[:-1], spaced), Token("var", name[-1], False)]
  return [_command(name, spaced)]


def _word(word: str, spaced: bool, before: list[Token]) -> list[Token]:
  """A word as function, constant or unit; up to three letters as a product of variables; anything longer as text."""
  lower = word.lower()
  if word in _BARE:
    return [_command(word.removeprefix("d").removeprefix("t") if word.endswith("frac") else word, spaced)]
  if lower in _WORDS and (len(word) > 2 or word.islower()):
    return [Token(_WORDS[lower], word, spaced)]
  if lower in FUNCTIONS:
    return [Token("func", lower, spaced)]
  if lower in GREEK or word in GREEK:
    return [Token("var", word if word in GREEK else lower, spaced)]
  if lower == "in" and before and before[-1].kind == "var":
    return [Token("in", word, spaced)]
  if lower in _PLAIN or lower in {"in", "usd", "eur", "gbp", "inr"}:
    return [Token("text", word, spaced)]
  after_value = bool(before) and before[-1].kind in {"num", ")", "}", "°", "text", "/", "]"}
  if len(word) == 1 and len(before) > 1 and before[-1].kind == "/" and before[-2].kind != "text":
    after_value = False  # `(x + 1)/s` has no seconds in it
  if len(word) > 3 or (after_value and (word in _SHORT_UNITS or lower in _UNITS_IN_ANY_CASE)):
    return [Token("text", word, spaced)]
  if len(word) > 1 and before and before[-1].kind == "text":
    return [Token("text", word, spaced)]
  return [Token("var", letter, spaced and index == 0) for index, letter in enumerate(word)]
