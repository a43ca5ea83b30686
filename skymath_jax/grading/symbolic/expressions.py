"""Sums, products, powers and what they are made of: the lower half of the parser."""

import abc
import contextlib
from collections.abc import Iterator
from fractions import Fraction

from skymath_jax.grading.symbolic.lexer import DIRECT, INVERSES, Token, UnreadableError
from skymath_jax.grading.symbolic.tree import Tree, replaced, variables

MAX_DEPTH = 25
MAX_STEPS = 4_000

_STARTS = frozenset({
  "num", "var", "func", "(", "[", "{", "\\{", "frac", "binom", "big", "pi", "inf", "lfloor", "lceil", "langle",
  "begin", "overline", "reals", "empty",
})  # fmt: skip
CLOSERS = {"(": (")", "]"), "[": ("]", ")"), "langle": ("rangle",)}
_ROUNDERS = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
_NUMERALS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BASES = {name: index for index, name in enumerate(_NUMERALS, start=2)}
_APPLIED = frozenset("fghFGHPQpqW")  # letters that name a function where a lone argument in brackets follows
_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # likewise, where the argument is a number
_OF_MANY = frozenset({"gcd", "lcm", "max", "min"})
_MINUS_ONE = ("sum", (("-", ("num", Fraction(1), None, 1)),))


class Cursor:
  """A place in the tokens of one answer."""

  def __init__(self, tokens: list[Token]):
    self.tokens, self.position, self.depth, self.steps = tokens, 0, 0, 0
    self.in_bars = [False]  # whether a bar would close the innermost construct

  def kind(self, ahead: int = 0) -> str:
    index = self.position + ahead
    return self.tokens[index].kind if index < len(self.tokens) else ""

  def next(self) -> Token:
    if self.position >= len(self.tokens):
      raise UnreadableError("unexpected end")
    self.position += 1
    self.steps += 1
    if self.steps > MAX_STEPS:  # a set-builder that turns out to be none is read twice, at every level
      raise UnreadableError("too much backtracking")
    return self.tokens[self.position - 1]

  def take(self, *kinds: str) -> str | None:
    return self.next().kind if self.kind() in kinds else None

  def expect(self, *kinds: str) -> str:
    found = self.take(*kinds)
    if found is None:
      raise UnreadableError(f"expected {kinds[0]}")
    return found

  @contextlib.contextmanager
  def deeper(self) -> Iterator[None]:
    """Counts one level of nesting; raises `UnreadableError` when there are too many."""
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise UnreadableError("too deep")
    yield
    self.depth -= 1


class Expressions(Cursor, abc.ABC):
  """What stands between commas and relation signs; what holds these is the upper half's."""

  @abc.abstractmethod
  def answer(self) -> Tree: ...

  @abc.abstractmethod
  def brackets(self) -> Tree: ...

  @abc.abstractmethod
  def braces(self) -> Tree: ...

  @abc.abstractmethod
  def builder(self, closer: str) -> Tree | None: ...

  @abc.abstractmethod
  def matrix(self) -> Tree: ...

  def sum(self) -> Tree:
    with self.deeper():
      terms = [(self.take("+", "-", "pm", "mp") or "+", self.product())]
      while self.kind() in {"+", "-", "pm", "mp"}:
        terms.append((self.next().kind, self.product()))
    return terms[0][1] if len(terms) == 1 and terms[0][0] == "+" else ("sum", tuple(terms))

  def product(self) -> Tree:
    factors = [("*", self.signed())]
    while True:
      if (operator := self.take("*", "/")) is not None:
        factors.append((operator, self.signed()))
      elif self.begins_factor():
        factors.append(("*", self.power()))
      else:
        break
    return factors[0][1] if len(factors) == 1 else ("prod", tuple(factors))

  def begins_factor(self) -> bool:
    """Whether the next token continues a product without a sign between."""
    kind = self.kind()
    if kind == "num":  # `(x+1) 2^n`, `x 3^n`, `2^6 3^5` and `3!7!` are products, `x 2` and `2 3` are not
      to_power = self.kind(1) == "^" and (self.kind(-2) == "^" or self.kind(-1) in {"var", "pi"})
      return (to_power or self.kind(-1) in {")", "}", "!"}) and self.tokens[self.position].value.isdigit()
    if kind == "|":
      return not self.in_bars[-1]
    return kind in _STARTS

  def signed(self) -> Tree:
    """A factor with signs of its own, as in `2 * -3`."""
    negative = False
    while (sign := self.take("+", "-")) is not None:
      negative ^= sign == "-"
    tree = self.power()
    return ("sum", (("-", tree),)) if negative else tree

  def power(self) -> Tree:
    base = self.postfix(self.primary())
    if self.take("^") is None:
      return base
    if self.take("transpose") or (self.kind() == "var" and base[0] in {"matrix", "tuple"} and self.take("var")):
      return base
    exponent = self.exponent()
    if exponent == ("var", "prime"):
      return base
    return self.postfix(("pow", base, exponent))

  def exponent(self) -> Tree:
    with self.deeper():
      negative = self.take("-") is not None
      tree = self.group() if self.kind() == "{" else self.power()
    return ("sum", (("-", tree),)) if negative else tree

  def postfix(self, tree: Tree) -> Tree:
    for _ in range(MAX_DEPTH):
      if (mark := self.take("!", "%", "°", "'")) is None:
        break
      if mark == "'":
        if tree[0] != "var":
          raise UnreadableError("prime")
        tree = ("var", tree[1] + "'")
      else:
        tree = {"!": ("fn", "factorial", tree), "%": ("pct", tree), "°": ("deg", tree)}[mark]
    if self.kind() == "var" and tree[0] == "deg" and self.tokens[self.position].value in "CF" and not self.kind(1):
      return ("unit", tree, "degree" + self.next().value)
    return tree

  def primary(self) -> Tree:
    kind = self.kind()
    if kind == "num":
      return self.number()
    if kind == "var":
      return self.variable()
    if kind in {"pi", "inf"}:
      self.next()
      return ("const", kind)
    if kind in {"reals", "empty"}:
      self.next()
      return (kind,)
    if kind == "{":
      return self.group()
    if kind in CLOSERS:
      return self.brackets()
    if kind == "\\{":
      return self.braces()
    if kind in {"|", "||"}:
      return self.bars()
    if kind in _ROUNDERS:
      self.next()
      closer, name = _ROUNDERS[kind]
      inner = self.answer()
      self.expect(closer)
      return ("fn", name, inner)
    if kind in {"frac", "binom"}:
      self.next()
      if kind == "binom" and self.kind() == "(":
        return ("fn", "binom", *self.function_arguments())
      top, bottom = self.argument(), self.argument()
      return ("prod", (("*", top), ("/", bottom))) if kind == "frac" else ("fn", "binom", top, bottom)
    if kind == "func":
      return self.function()
    if kind == "big":
      return self.big_operator()
    if kind == "overline":
      self.next()
      inner = self.argument()
      return ("var", "overline " + repr(inner)) if variables(inner) else ("fn", "conj", inner)
    if kind == "begin":
      return self.matrix()
    raise UnreadableError(f"unexpected {kind or 'end'}")

  def number(self) -> Tree:
    """A literal; also a repeating decimal, a mixed number, and digits in another base."""
    token = self.next()
    tree = literal(token.value)
    if "." in token.value and self.kind() == "overline" and self.kind(1) == "{" and self.kind(2) == "num":
      self.position += 2
      digits = self.next().value
      self.expect("}")
      scale = Fraction(1, 10 ** len(token.value.partition(".")[2]))
      return ("num", tree[1] + scale * Fraction(int(digits), 10 ** len(digits) - 1), None, 0)
    if self.kind() == "_":
      return self.based(token.value)
    if not token.value.isdigit():
      return tree
    return self.mixed(tree) or tree

  def mixed(self, whole: Tree) -> Tree | None:
    r"""The rest of `1 1/4` or `1\frac{1}{4}` after its whole part: a proper fraction of two plain integers."""
    start = self.position
    if self.kind() == "frac":
      self.next()
      try:
        top, bottom = self.argument(), self.argument()
      except UnreadableError:
        top = bottom = ("var", "")
    elif self.kind() == "num" and self.tokens[start].spaced and self.kind(1) == "/" and self.kind(2) == "num":
      top, bottom = literal(self.next().value), literal((self.next(), self.next())[1].value)
    else:
      return None
    integers = all(t[0] == "num" and t[2] is None and t[1].denominator == 1 for t in (top, bottom))
    if integers and 0 < top[1] < bottom[1]:
      return ("num", whole[1] + top[1] / bottom[1], None, 0)
    self.position = start
    return None

  def based(self, digits: str) -> Tree:
    r"""`1011_2`, `2F_{16}`-like digits with a base after them, by value."""
    self.next()
    braced = self.take("{") is not None
    bracketed = self.take("(") is not None
    token = self.next()
    if bracketed:
      self.expect(")")
    name = token.value.lower().removeprefix("base").strip()
    base = int(name) if name.isdigit() and len(name) < 3 else _BASES[name] if name in _BASES else 0
    if braced:
      self.expect("}")
    try:
      return ("num", Fraction(int(digits, base)), None, 0) if 2 <= base <= 36 else ("var", f"{digits}_{name}")
    except ValueError:
      raise UnreadableError("digits of a base") from None

  def variable(self) -> Tree:
    name = self.next().value
    while self.kind() == "_":
      self.next()
      name += "_"
      if self.take("{"):
        while self.kind() not in {"}", ""}:
          name += self.next().value
        self.expect("}")
      else:
        name += self.next().value
    if len(name) == 1 and name not in "ei" and self.kind() == "num":
      counts = self.kind(1) != "^" or self.tokens[self.position].value == "0"  # nobody writes a power of 0 for `v0^2`
      if counts and not self.tokens[self.position].spaced and self.tokens[self.position].value.isdigit():
        name += "_" + self.next().value  # `R1` as people type an index
    applied = (
      self.kind() == "("
      and self.kind(2) == ")"
      and ((name in _APPLIED and self.kind(1) == "var") or (name in _APPLIED | _CAPITALS and self.kind(1) == "num"))
    )
    if applied:
      self.next()
      name = f"{name}({self.next().value})"
      self.next()
    return ("const", name) if name in {"e", "i"} else ("var", name)

  def big_operator(self) -> Tree:
    """A sum, product or integral: ("big", name, lower, upper, body); a missing limit is ("none", "")."""
    name = self.next().value
    limits: dict[str, Tree] = {"_": ("none", ""), "^": ("none", "")}
    while self.kind() in limits:
      mark = self.next().kind
      limits[mark] = self.group() if self.kind() == "{" else self.argument()
    with self.deeper():
      body = self.product()
    lower = limits["_"]
    if lower[0] == "rel" and lower[1][0] in {
      ("const", "i"),
      ("const", "e"),
    }:  # `i` counts here, whatever it is elsewhere
      counter = ("var", lower[1][0][1])
      lower, body = (replaced(tree, lower[1][0], counter) for tree in (lower, body))
    return ("big", name, lower, limits["^"], body)

  def argument(self) -> Tree:
    r"""The argument of `\frac` or `\binom`: a group, or a single digit or letter as TeX reads it."""
    if self.kind() == "{":
      return self.group()
    token = self.next()
    if token.kind == "num" and token.value.isdigit():
      if len(token.value) > 1:
        self.position -= 1
        self.tokens[self.position] = Token("num", token.value[1:], False)
      return literal(token.value[0])
    if token.kind == "var":  # one letter, whatever follows: `\frac n2`
      return ("const", token.value) if token.value in {"e", "i"} else ("var", token.value)
    if token.kind in {"pi", "("}:
      self.position -= 1
      return self.primary()
    raise UnreadableError("argument")

  def group(self) -> Tree:
    """`{…}`: grouping in LaTeX; a set or a set-builder where it holds a comma or a bar, as plain text writes them."""
    self.expect("{")
    if (builder := self.builder("}")) is not None:
      return builder
    inner = self.enclosed("}")
    return ("set", inner[2]) if inner[0] == "list" and inner[1] == "," else inner

  def enclosed(self, *closers: str) -> Tree:
    self.in_bars.append(False)
    inner = self.answer()
    self.in_bars.pop()
    self.expect(*closers)
    return inner

  def bars(self) -> Tree:
    opener = self.next().kind
    self.in_bars.append(True)
    inner = self.sum()
    self.in_bars.pop()
    self.expect(opener)
    return ("fn", "abs" if opener == "|" else "norm", inner)

  def function(self) -> Tree:
    """A function with its argument: brackets, a root's braces, bars, or the product that follows (`sin 2x`)."""
    name = self.next().value
    name = INVERSES.get(name, name)
    if name == "cis":
      return ("pow", ("const", "e"), ("prod", (("*", ("const", "i")), ("*", self.function_arguments()[0]))))
    if name in {"sqrt", "cbrt"}:
      return self.root(3 if name == "cbrt" else 2)
    exponent = base = None
    while self.kind() in {"^", "_"}:
      if self.next().kind == "^":
        exponent = self.exponent()
      else:
        base = self.group() if self.kind() == "{" else self.argument()
    if exponent == _MINUS_ONE and name in DIRECT:
      name, exponent = "arc" + name, None
    arguments = self.function_arguments()
    if name in _OF_MANY and len(arguments) == 1 and arguments[0][0] in {"set", "list", "tuple"}:
      arguments = tuple(arguments[0][-1])
    if base is not None:
      arguments = (*arguments, base)
    tree: Tree = ("pow", *arguments) if name == "pow" and len(arguments) == 2 else ("fn", name, *arguments)
    return tree if exponent is None else ("pow", tree, exponent)

  def function_arguments(self) -> tuple[Tree, ...]:
    if self.kind() in {"(", "[", "\\{"}:
      self.next()
      inner = self.enclosed(")", "]", "\\}")
      return inner[2] if inner[0] == "list" else (inner,)
    with self.deeper():
      factors = [("*", self.power())]
      while self.begins_factor() and self.kind() != "func":
        factors.append(("*", self.power()))
    return (factors[0][1] if len(factors) == 1 else ("prod", tuple(factors)),)

  def root(self, degree: int) -> Tree:
    index: Tree = ("num", Fraction(degree), None, 1)
    if self.take("["):
      index = self.enclosed("]")
    with self.deeper():
      inner = self.group() if self.kind() == "{" else self.primary()
    return ("fn", "root", inner, index)


def literal(text: str) -> Tree:
  """The exact value of a number literal, with the worth of its last place if it is a decimal, and its digits' count."""
  mantissa, _, exponent = text.lower().partition("e")
  scale = Fraction(10) ** int(exponent or 0)
  decimals = mantissa.partition(".")[2]
  value = Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1]) * scale
  digits = len(mantissa.replace(".", "").lstrip("0"))
  return ("num", value, Fraction(1, 10 ** len(decimals)) * scale if "." in mantissa or exponent else None, digits)
