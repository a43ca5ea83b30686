"""When two parsed answers are the same answer: lists in any order, tuples in order, sets of reals, equations."""

import itertools
from collections.abc import Iterator, Sequence

from skymath_jax.grading import numbers, reals, units
from skymath_jax.grading.evaluate import Tree
from skymath_jax.grading.normalize import words_of

MAX_MEMBERS = 40
MAX_SIGNS = 3  # plus-or-minus signs that are expanded

_COLLECTIONS = frozenset({"list", "set"})
_LETTER_UNITS = tuple(("*", ("var", letter)) for letter in "mghslLNJWVKT")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
Assignment = tuple[Tree, Tree]  # what is named, its value


def same(a: Tree, b: Tree) -> bool:
  """Whether two trees are the same answer; symmetric."""
  if a == b:
    return True
  if _marks_differ(a, b):
    return False
  if "unit" in (a[0], b[0]):
    return _same_measured(_with_letter_unit(a), _with_letter_unit(b))
  if "text" in (a[0], b[0]):
    return (left := _words(a)) is not None and left == _words(b)
  a, b = _plain(a), _plain(b)
  if (reals.is_range(a) or reals.is_range(b)) and (verdict := reals.same_set(a, b)) is not None:
    return verdict
  if _is_many(a) or _is_many(b):
    return _same_members(a, b)
  if "rel" in (a[0], b[0]):
    return _same_relation(a, b)
  if {a[0], b[0]} & {"tuple", "matrix"}:
    return _same_ordered(a, b)
  if a[0] != b[0] and {a[0], b[0]} & {"ratio", "builder", "cup", "cap", "setminus", "in", "head"}:
    return False
  if a[0] in {"ratio", "cup", "cap", "setminus", "in", "builder"}:
    left, right = (tree[1] if tree[0] == "ratio" else tree[1:] for tree in (a, b))
    return _pairwise(left, right)
  return numbers.equal(a, b)


def _pairwise(a: Sequence[Tree], b: Sequence[Tree]) -> bool:
  return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


# Units and words


def _same_measured(a: Tree, b: Tree) -> bool:
  """Numbers with units: both units must agree where both are there."""
  value_a, unit_a = a[1:] if a[0] == "unit" else (a, None)
  value_b, unit_b = b[1:] if b[0] == "unit" else (b, None)
  if any(unit is not None and _says_more(unit) for unit in (unit_a, unit_b)):
    return unit_a is not None and unit_b is not None and words_of(unit_a) == words_of(unit_b) and same(value_a, value_b)
  if a[0] == b[0] and value_a == value_b and words_of(str(unit_a)) == words_of(str(unit_b)):
    return True
  factor = units.conversion(unit_a, unit_b)
  if factor is None:
    return False
  if b[0] != "unit" and b[0] in _COLLECTIONS | {"tuple", "text", "matrix"}:
    return False
  return same(value_a if factor == 1 else ("prod", (("*", ("num", factor, None, 0)), ("*", value_a))), value_b)


def _marks_differ(a: Tree, b: Tree) -> bool:
  """Whether one is a percentage, an angle or a measure and the other is another of these: 30 % is not 30 degrees."""
  a, b = (tree[1] if tree[0] == "unit" and (tree[1][0] == "deg" or "rad" in tree[2]) else tree for tree in (a, b))
  return a[0] != b[0] and {a[0], b[0]} <= {"pct", "deg", "unit"}


def _with_letter_unit(tree: Tree) -> Tree:
  """`3 m` as a number with a unit; asked for only where the other answer has a unit."""
  if tree[0] == "prod" and len(tree[1]) == 2 and tree[1][0][1][0] == "num" and tree[1][1] in _LETTER_UNITS:
    return ("unit", tree[1][0][1], tree[1][1][1][1])
  return tree


def _says_more(unit: str) -> bool:
  return bool(units.NOT_UNITS.intersection(unit.lower().split()))


def _words(tree: Tree) -> str | None:
  """The tree as words: a text, a variable, or a product of variables (letters that were a word)."""
  if tree[0] == "text":
    return words_of(tree[1]) or None
  if tree[0] == "var":
    return words_of(tree[1])
  if tree[0] == "const" and tree[1] in "ei":
    return tree[1]
  if tree[0] == "prod" and all(operator == "*" and factor[0] in {"var", "const"} for operator, factor in tree[1]):
    return words_of("".join(factor[1] for _, factor in tree[1]))
  return None


# One form for what can be written in several


def _plain(tree: Tree) -> Tree:
  """Matrices with their factor multiplied in; what comes after an approximation sign dropped."""
  if tree[0] == "rel" and "approx" in tree[2]:
    cut = tree[2].index("approx") + 1
    if cut == 1 and _is_name(tree[1][0]):
      return ("rel", tree[1][:2], ("=",))
    return tree[1][0] if cut == 1 else ("rel", tree[1][:cut], tree[2][: cut - 1])
  if tree[0] == "in" and (tree[2][0] in _COLLECTIONS):
    return ("rel", (tree[1], tree[2]), ("=",))
  factors = tree[1] if tree[0] == "prod" else tuple((sign, t) for sign, t in tree[1]) if tree[0] == "sum" else ()
  blocks = [factor for _, factor in factors if factor[0] == "matrix"]
  if (
    len(blocks) != 1 or (tree[0] == "sum" and len(factors) != 1) or any(op == "/" and f in blocks for op, f in factors)
  ):
    return tree
  if tree[0] == "sum":
    return ("matrix", tuple(tuple(("sum", (("-", cell),)) for cell in row) for row in blocks[0][1]))
  scalar = tuple(factor for factor in factors if factor[1][0] != "matrix")
  return ("matrix", tuple(tuple(("prod", (*scalar, ("*", cell))) for cell in row) for row in blocks[0][1]))


def _signs(tree: Tree) -> int:
  return sum(sign in {"pm", "mp"} for node in numbers.walk(tree) if node[0] == "sum" for sign, _ in node[1])


def expanded(tree: Tree) -> list[Tree]:
  r"""The values that plus-or-minus signs stand for; `\mp` takes the other sign of the `\pm` beside it."""
  count = _signs(tree)
  if count == 0 or count > MAX_SIGNS:
    return [tree]
  linked = any(sign == "mp" for node in numbers.walk(tree) if node[0] == "sum" for sign, _ in node[1])
  choices = [signs * count for signs in ("+", "-")] if linked else itertools.product("+-", repeat=count)
  return [_with_signs(tree, iter(chosen)) for chosen in choices]


def _with_signs(tree: Tree, signs: Iterator[str]) -> Tree:
  if not isinstance(tree, tuple):
    return tree
  if tree and tree[0] == "sum":
    terms = []
    for sign, term in tree[1]:
      if sign in {"pm", "mp"}:
        chosen = next(signs)
        sign = chosen if sign == "pm" else {"+": "-", "-": "+"}[chosen]
      terms.append((sign, _with_signs(term, signs)))
    return ("sum", tuple(terms))
  return tuple(_with_signs(part, signs) if isinstance(part, tuple) else part for part in tree)


# Lists and sets


def _is_many(tree: Tree) -> bool:
  if tree[0] in _COLLECTIONS or (tree[0] not in {"tuple", "matrix"} and _signs(tree) > 0):
    return True
  found = assignment(tree)
  return found is not None and found[1] is not tree and _is_many(found[1])


def _members(tree: Tree) -> list[Tree]:
  """The alternatives that a list, a set, a plus-or-minus sign or `x = 1, 2` offers, each once."""
  found = assignment(tree)
  if found is not None and _is_many(found[1]):
    return _members(found[1])
  if tree[0] in _COLLECTIONS:
    items = [member for item in tree[-1] for member in (_members(item) if _is_many(item) else [item])]
    items = _without_names(items)
  else:
    items = expanded(tree)
  return items


def _without_names(items: list[Tree]) -> list[Tree]:
  """`x = 1, x = 2` as 1, 2; `x_1 = 1, x_2 = 2` too. Values of different unknowns keep their names."""
  found = [assignment(item) for item in items]
  names = {str(f[0][1]).partition("_")[0] for f in found if f is not None and f[0][0] == "var"}
  if len(names) != 1 or any(f is not None and f[0][0] != "var" for f in found):
    return items
  return [item if f is None else f[1] for item, f in zip(items, found, strict=True)]


def _same_members(a: Tree, b: Tree) -> bool:
  if (ordered := _as_tuple(a)) is not None and b[0] != "set":
    return _same_values(ordered, a, b)
  if (ordered := _as_tuple(b)) is not None and a[0] != "set":
    return _same_values(ordered, b, a)
  first, second = _members(a), _members(b)
  if (first, second) == ([a], [b]):
    return False  # more signs than are expanded
  if max(len(first), len(second)) > MAX_MEMBERS:
    return False
  if "set" in (a[0], b[0]):
    first, second = _distinct(first), _distinct(second)
  first, second = (_distinct(items) if tree[1] == "or" else items for tree, items in ((a, first), (b, second)))
  if len(first) != len(second):
    return False
  rest = list(second)
  for item in first:
    match = next((i for i, other in enumerate(rest) if same(item, other)), None)
    if match is None:
      return False
    del rest[match]
  return True


def _distinct(items: list[Tree]) -> list[Tree]:
  kept: list[Tree] = []
  for item in items:
    if not any(same(item, other) for other in kept):
      kept.append(item)
  return kept


def _as_tuple(tree: Tree) -> list[Assignment] | None:
  """`x = 1, y = 2` as assignments in the order of the names; None unless all names are there and differ."""
  if tree[0] != "list":
    return None
  found = [assignment(item) for item in tree[2]]
  if any(f is None or f[0][0] not in {"var", "const"} for f in found):
    return None
  pairs = sorted((f for f in found if f is not None), key=lambda f: str(f[0][1]))
  names = [str(name[1]) for name, _ in pairs]
  bases = {name.partition("_")[0] for name in names}
  return pairs if len(set(names)) == len(names) and len(bases) > 1 else None


def _same_values(pairs: list[Assignment], tree: Tree, other: Tree) -> bool:
  """Named values against the other answer: named too, a tuple in the order of the names, or a list as written."""
  if (named := _as_tuple(other)) is not None:
    return [p[0] for p in pairs] == [p[0] for p in named] and _pairwise([p[1] for p in pairs], [p[1] for p in named])
  found = assignment(other)
  if found is not None and found[0][0] == "tuple":
    other = found[1]
  if other[0] == "tuple":
    return _pairwise([value for _, value in pairs], other[3])
  if other[0] == "list":
    written = [f[1] for item in tree[2] if (f := assignment(item)) is not None]
    return _pairwise(written, other[2])
  return False


# Tuples and matrices


def _same_ordered(a: Tree, b: Tree) -> bool:
  if a[0] == b[0] == "matrix":
    return len(a[1]) == len(b[1]) and all(_pairwise(x, y) for x, y in zip(a[1], b[1], strict=True))
  if a[0] == b[0] == "tuple":
    return (a[1:3] == b[1:3] or len(a[3]) > 2) and _pairwise(a[3], b[3])
  block, other = (a, b) if a[0] == "matrix" else (b, a)
  if block[0] != "matrix" or other[0] != "tuple":
    return False
  rows = block[1]
  vector = rows[0] if len(rows) == 1 else [row[0] for row in rows] if len(rows[0]) == 1 else []
  return _pairwise(list(vector), other[3])


# Equations and inequalities


def _is_name(tree: Tree) -> bool:
  """Whether `tree` names something: a variable, `f(x)`, words, capitals as for a segment, or a tuple of names."""
  if tree[0] in {"var", "head", "text"} or tree == ("const", "i"):
    return True
  if tree[0] == "tuple":
    return all(_is_name(item) for item in tree[3])
  if tree[0] == "fn" and tree[1] in {"abs", "norm"}:
    return _is_name(tree[2]) and tree[2][0] == "prod"
  if tree[0] == "prod":
    return all(op == "*" and f[0] == "var" and f[1][:1].isupper() for op, f in tree[1])
  return False


def assignment(tree: Tree) -> Assignment | None:
  """(name, value) of `x = 3`, `3 = x`, `f(x) = …`, `x = 1/2 = 0.5`; a true numeric equation counts as its value."""
  if tree[0] != "rel" or any(operator != "=" for operator in tree[2]):
    return None
  parts = tree[1]
  if _is_name(parts[0]):
    return parts[0], parts[-1]
  if _is_name(parts[-1]):
    return parts[-1], parts[0]
  if all(not numbers.variables(part) for part in parts) and all(numbers.equal(parts[-1], part) for part in parts[:-1]):
    return ("text", ""), parts[-1]
  return None


def _same_relation(a: Tree, b: Tree) -> bool:
  left, right = assignment(a), assignment(b)
  if a[0] != "rel" or b[0] != "rel":
    found, other = (left, b) if a[0] == "rel" else (right, a)
    return found is not None and same(found[1], other)
  if left is not None and right is not None and _compatible(left[0], right[0]) and same(left[1], right[1]):
    return True
  if "head" in {part[0] for tree in (a, b) for part in tree[1]}:
    return False
  return len(a[1]) == len(b[1]) and (_same_chain(a, b) or _same_chain(a, _reversed(b)))


def _compatible(a: Tree, b: Tree) -> bool:
  """Whether two names may mean the same: equal, words, or functions and `y`, which all name what is plotted."""
  functions = [name[0] == "head" or name == ("var", "y") for name in (a, b)]
  return a == b or "text" in (a[0], b[0]) or all(functions)


def _reversed(tree: Tree) -> Tree:
  return ("rel", tree[1][::-1], tuple(_FLIPPED[op] if op in _FLIPPED else op for op in tree[2][::-1]))


def _same_chain(a: Tree, b: Tree) -> bool:
  """Relations link by link: the sides' differences must be proportional, with a positive factor if order matters."""
  if len(a[2]) > 1:
    return a[2] == b[2] and _pairwise(a[1], b[1])
  operator, other = a[2][0], b[2][0]
  first, second = (("sum", (("+", tree[1][0]), ("-", tree[1][1]))) for tree in (a, b))
  sign = numbers.ratio(first, second)
  if operator in {"=", "!="}:
    return operator == other and sign != 0
  return sign != 0 and operator == (other if sign > 0 else _FLIPPED[other] if other in _FLIPPED else None)
