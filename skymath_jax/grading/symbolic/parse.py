"""A recursive-descent parser from tokens to a tree, with every depth and length bounded."""

from skymath_jax.grading.symbolic.expressions import CLOSERS, Expressions
from skymath_jax.grading.symbolic.lexer import UnreadableError, tokenize
from skymath_jax.grading.symbolic.tree import Tree

_RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "approx"})
_HEAD_MARKS = frozenset({"'", "^", "{", "}", "_"})
_CURRENCIES = frozenset({"usd", "rs", "rs.", "eur", "inr", "gbp"})


def parse(text: str) -> Tree:
  """The tree of a cleaned answer.

  Raises:
    UnreadableError: it is not in the dialect.
  """
  parser = Parser(tokenize(text))
  tree = parser.answer()
  if parser.kind():
    raise UnreadableError(f"unexpected {parser.kind()}")
  return tree


def _is_time(hours: str, minutes: str) -> bool:
  """Whether `hours:minutes` may be a time of day; it may be a ratio as well."""
  return hours.isdigit() and minutes.isdigit() and len(minutes) == 2 and int(hours) < 25 and int(minutes) < 60


def _grouped(items: list[Tree], joiners: list[str]) -> list[Tree]:
  """`x = 1, y = 2; x = 3, y = 4` as two tuples, in the order of the names; other lists as they are."""
  if "," not in joiners or not {";", "or", "and"} & set(joiners):
    return items
  groups = [[items[0]]]
  for joiner, item in zip(joiners, items[1:], strict=True):
    if joiner == ",":
      groups[-1].append(item)
    else:
      groups.append([item])
  named = [
    sorted((i[1][0][1], i[1][1]) for i in group if i[0] == "rel" and i[1][0][0] == "var" and i[2] == ("=",))
    for group in groups
  ]
  names = {tuple(name for name, _ in group) for group in named}
  if sum(map(len, named)) != len(items) or len(names) != 1 or len(set(min(names))) != len(groups[0]):
    return items
  return [("tuple", "(", ")", tuple(value for _, value in group)) for group in named]


class Parser(Expressions):
  """The upper half: lists, relations, sets, tuples, matrices, units."""

  def answer(self) -> Tree:
    """Items separated by commas, semicolons, `and`, `or`; a single item stands for itself."""
    with self.deeper():
      items, joiners = [self.item()], []
      while (joiner := self.take(",", ";", "and", "or")) is not None:
        joiners.append(self.take("and", "or") or joiner)
        items.append(self.item())
    if len(items) == 1:
      return items[0]
    items = _grouped(items, joiners)
    return ("list", "or" if "or" in joiners else "and" if "and" in joiners else ",", tuple(items))

  def item(self) -> Tree:
    if (head := self.function_head()) is not None:
      return ("rel", (head, self.sets()), ("=",))
    parts, operators = [self.sets()], []
    while self.kind() in _RELATIONS or self.kind() == "in":
      operator = self.next().kind
      if operator == "in":
        parts[-1] = ("in", parts[-1], self.sets())
      else:
        operators.append(operator)
        parts.append(self.sets())
    return ("rel", tuple(parts), tuple(operators)) if operators else parts[0]

  def function_head(self) -> Tree | None:
    r"""`f(x) =`, `g'(t) =`, `f^{-1}(x) =`: the name, with the position after the equals sign."""
    start = self.position
    if self.kind() != "var":
      return None
    name = self.next().value
    while self.kind() in _HEAD_MARKS or (self.kind() in {"num", "-"} and self.kind(-1) in {"{", "-", "^", "_"}):
      name += self.next().value
    if self.kind() == "(" and self.kind(1) == "var":
      name += self.next().value + self.next().value
      while self.kind() == "," and self.kind(1) == "var":
        name += self.next().value + self.next().value
      if self.take(")") and self.take("="):
        return ("head", name)
    self.position = start
    return None

  def sets(self) -> Tree:
    tree = self.ratio()
    if self.take("to") or (tree[0] == "unit" and self.take("-")):
      tree = ("range", tree, self.ratio())
    while (operator := self.take("cup", "cap", "setminus")) is not None:
      tree = (operator, tree, self.ratio())
    return tree

  def ratio(self) -> Tree:
    digits = [self.tokens[self.position + i].value if self.kind(i) == "num" else "" for i in (0, 2)]
    if self.kind(1) == ":" and self.kind(3) != ":" and _is_time(*digits):
      self.position += 3
      clock = ("clock", *digits)
      return ("unit", clock, self.words()) if self.kind() == "text" else clock
    items = [self.measured()]
    while self.kind() == ":":
      self.next()
      items.append(self.measured())
    return items[0] if len(items) == 1 else ("ratio", tuple(items))

  def measured(self) -> Tree:
    """A sum, perhaps with a unit after it, or words alone."""
    if self.kind() == "text":
      words = self.words()
      if self.kind() in {"num", "frac"} and words.lower() in _CURRENCIES:
        return self.measured()
      return ("text", words)
    tree = self.sum()
    if self.kind() == "text":
      return ("unit", tree, self.words())
    return tree

  def words(self) -> str:
    """Consecutive words with the powers and strokes between them: `cm^2`, `miles per hour`, `m / s`."""
    words = [self.next().value]
    while self.kind() == "text" or (
      self.kind(1) in {"num", "{", "text"}
      if self.kind() in {"^", "/"}
      else self.kind() in {"-", "*"} and self.kind(1) == "text"
    ):
      token = self.next()
      if token.kind == "^":
        braced = self.take("{")
        words[-1] += "^" + self.next().value
        if braced:
          self.expect("}")
      else:
        words.append(token.value)
    return " ".join(words)

  def brackets(self) -> Tree:
    opener = self.next().kind
    inner = self.enclosed(*CLOSERS[opener])
    closer = self.tokens[self.position - 1].kind
    if inner[0] == "list":
      items = inner[2]
      if opener == "[" and closer == "]" and all(i[0] == "tuple" and i[1:3] == ("[", "]") for i in items):
        return ("matrix", tuple(i[3] for i in items))
      return ("tuple", *(("(", ")") if opener == "langle" else (opener, closer)), items)
    if (opener, closer) in {("(", "]"), ("[", ")")}:
      raise UnreadableError("brackets do not match")
    return inner

  def braces(self) -> Tree:
    r"""`\{…\}`: a set, a set-builder, or the empty set."""
    self.next()
    if self.take("\\}"):
      return ("empty",)
    if (builder := self.builder("\\}")) is not None:
      return builder
    inner = self.enclosed("\\}")
    return ("set", inner[2] if inner[0] == "list" else (inner,))

  def builder(self, closer: str) -> Tree | None:
    """The rest of `{x | condition}` or `{x in R : condition}`; None, and nothing read, if it is not one."""
    start = self.position, self.depth, len(self.in_bars)
    try:
      if self.kind() not in {"var", "("}:
        return None
      tree = self.variable() if self.kind() == "var" else self.brackets()
      if self.take("in"):
        tree = ("in", tree, self.sets_before_bar())
      if not self.take("|", "mid", ":"):
        raise UnreadableError("no set-builder")
      condition = self.enclosed(closer)
    except UnreadableError:
      self.position, self.depth = start[:2]
      del self.in_bars[start[2] :]
      return None
    return ("builder", tree, condition)

  def sets_before_bar(self) -> Tree:
    if self.take("reals"):
      return ("reals",)
    if self.kind() in CLOSERS:
      return self.brackets()
    raise UnreadableError("set")

  def matrix(self) -> Tree:
    token = self.next()
    if "matrix" not in token.value and "array" not in token.value:
      raise UnreadableError("environment")
    determinant = "vmatrix" in token.value
    rows: list[list[Tree]] = [[]]
    while self.kind() != "end":
      rows[-1].append(self.sum())
      if self.take("row"):
        rows.append([])
      elif self.kind() != "end":
        self.expect("&")
    self.next()
    rows = [row for row in rows if row]
    if not rows or len({len(row) for row in rows}) != 1:
      raise UnreadableError("ragged matrix")
    return ("det" if determinant else "matrix", tuple(tuple(row) for row in rows))
