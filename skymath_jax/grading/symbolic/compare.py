"""When two parsed answers are the same answer: lists in any order, tuples in order, sets of reals, equations."""

from collections.abc import Sequence

from skymath_jax.grading.symbolic import numbers, reals, rewrite, units
from skymath_jax.grading.symbolic.clock import same_time
from skymath_jax.grading.symbolic.expressions import literal
from skymath_jax.grading.symbolic.names import Assignment, assignment
from skymath_jax.grading.symbolic.ranges import range_of
from skymath_jax.grading.symbolic.tree import Tree, renamed, variables
from skymath_jax.grading.symbolic.words import parts_of, words_of

MAX_MEMBERS = 40

_COLLECTIONS = frozenset({"list", "set"})
_LETTER_UNITS = tuple(("*", ("var", letter)) for letter in "mghslLNJWVKT")
_SOLVED_FOR = frozenset({"y", "rho", "r"})
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def same(a: Tree, b: Tree) -> bool:
  """Whether two trees are the same answer; symmetric."""
  if a == b:
    return True
  if (verdict := _same_range(a, b)) is not None:
    return verdict
  if _marks_differ(a, b):
    return False
  if "unit" in (a[0], b[0]):
    return _same_measured(_with_letter_unit(a), _with_letter_unit(b))
  if "text" in (a[0], b[0]):
    return bool(left := _words(a)) and left == _words(b)
  a, b = rewrite.plain(a), rewrite.plain(b)
  a, b = (rewrite.as_list(tree) if other[0] in _COLLECTIONS else tree for tree, other in ((a, b), (b, a)))
  if _labelled(a) != _labelled(b):
    a, b = (tree[1][1] if _labelled(tree) else tree for tree in (a, b))
    return same(a, b)
  if {a[0], b[0]} & {"ratio", "clock"} and "rel" not in (a[0], b[0]):
    return _same_ratio(a, b)
  if (reals.is_range(a) or reals.is_range(b)) and (verdict := reals.same_set(a, b)) is not None:
    return verdict
  if _is_many(a) or _is_many(b):
    return _same_members(a, b)
  if "rel" in (a[0], b[0]):
    return _same_relation(a, b)
  if {a[0], b[0]} & {"tuple", "matrix"}:
    a, b = (rewrite.as_vector(tree, other) for tree, other in ((a, b), (b, a)))
    return _same_ordered(a, b)
  if (first := _named_by_points(a)) and (second := _named_by_points(b)):
    return _same_points(first, second)
  if a[0] != b[0] and {a[0], b[0]} & {"builder", "cup", "cap", "setminus", "in", "head"}:
    return False
  if a[0] in {"cup", "cap", "setminus", "in", "builder"}:
    return _pairwise(a[1:], b[1:])
  return numbers.equal(a, b)


def _pairwise(a: Sequence[Tree], b: Sequence[Tree]) -> bool:
  return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def _same_range(a: Tree, b: Tree) -> bool | None:
  """The verdict where both are ranges, or one can be nothing else; None where there is none."""
  first, second = range_of(a), range_of(b)
  if first and second:
    return same(first.low, second.low) and same(first.high, second.high)
  found, other = (first, b) if first else (second, a)
  if found is None:
    return None
  as_interval = other[:3] == ("tuple", "[", "]") and _pairwise((found.low, found.high), other[3])
  return as_interval if found.certain or as_interval else None


# Units and words


def _same_measured(a: Tree, b: Tree) -> bool:
  """Numbers with units: both units must agree where both are there."""
  value_a, unit_a = a[1:] if a[0] == "unit" else (a, None)
  value_b, unit_b = b[1:] if b[0] == "unit" else (b, None)
  if any(unit is not None and _says_more(unit) for unit in (unit_a, unit_b)):
    return unit_a is not None and unit_b is not None and words_of(unit_a) == words_of(unit_b) and same(value_a, value_b)
  if (times := same_time(value_a, unit_a, value_b, unit_b)) is not None:
    return times
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


def _words(tree: Tree) -> list[str] | None:
  """The tree as words: a text, a variable, a product of variables (letters that were a word), or a list of such."""
  if tree[0] == "text":
    return parts_of(tree[1])
  if tree[0] == "list":
    parts = [_words(item) for item in tree[2]]
    return None if any(part is None for part in parts) else sorted(word for part in parts for word in part or [])
  if tree[0] == "var":
    return [words_of(tree[1])]
  if tree[0] == "const" and tree[1] in "ei":
    return [tree[1]]
  if tree[0] == "prod" and all(operator == "*" and factor[0] in {"var", "const"} for operator, factor in tree[1]):
    return [words_of("".join(factor[1] for _, factor in tree[1]))]
  return None


# Ratios and times of day


def _same_ratio(a: Tree, b: Tree) -> bool:
  """Ratios up to a common factor, `3:4` also as the quotient; two times of day only when they are the same."""
  if a[0] == b[0] == "clock":
    return [int(part) for part in a[1:]] == [int(part) for part in b[1:]]
  left, right = (_terms(tree) for tree in (a, b))
  if left and right:
    return len(left) == len(right) and all(
      numbers.equal(_product(x, right[0]), _product(y, left[0])) for x, y in zip(left, right, strict=True)
    )
  terms, other = (left, b) if left else (right, a)
  if len(terms) != 2 or other[0] in _COLLECTIONS | {"tuple", "matrix", "text"}:
    return False
  return numbers.equal(("prod", (("*", terms[0]), ("/", terms[1]))), other)


def _labelled(tree: Tree) -> bool:
  """Whether `tree` is a value with a word before it, as in `Area: 12`."""
  return tree[0] == "ratio" and len(tree[1]) == 2 and tree[1][0][0] == "text"


def _terms(tree: Tree) -> tuple[Tree, ...]:
  if tree[0] == "clock":
    return tuple(literal(part) for part in tree[1:])
  return tree[1] if tree[0] == "ratio" else ()


def _product(a: Tree, b: Tree) -> Tree:
  return ("prod", (("*", a), ("*", b)))


# Lists and sets


def _is_many(tree: Tree) -> bool:
  if tree[0] in _COLLECTIONS or (tree[0] not in {"tuple", "matrix"} and rewrite.signs(tree) > 0):
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
    items = rewrite.expanded(tree)
  return items


def _bases(tree: Tree) -> set[str]:
  """The unknowns that the items of a list are values of, without their indices."""
  found = [assignment(item) for item in tree[2]] if tree[0] == "list" else [assignment(tree)]
  return {str(f[0][1]).partition("_")[0] for f in found if f is not None and f[0][0] == "var"}


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
  if (pair := _list_and_tuple(a, b)) is not None and not (rewrite.signs(a) or rewrite.signs(b)):
    return _pairwise(*pair)
  if ("empty",) in (a, b):
    return a == b
  if (mine := _bases(a)) and (theirs := _bases(b)) and mine != theirs:
    return False
  first, second = _members(a), _members(b)
  if (first, second) == ([a], [b]):
    return False  # more signs than are expanded
  if max(len(first), len(second)) > MAX_MEMBERS:
    return False
  if "set" in (a[0], b[0]):
    first, second = _distinct(first), _distinct(second)
  points = all(item[0] == "tuple" for item in (*first, *second))
  if points or any(tree[0] == "list" and tree[1] == "or" for tree in (a, b)):
    first, second = _distinct(first), _distinct(second)
  if len(first) != len(second):
    return False
  rest = list(second)
  for item in first:
    match = next((i for i, other in enumerate(rest) if _same_words(item, other) and same(item, other)), None)
    if match is None:
      return False
    del rest[match]
  return True


def _same_words(a: Tree, b: Tree) -> bool:
  """Whether two items of lists name the same where both name something in words: `boys = 3, girls = 5`."""
  first, second = assignment(a), assignment(b)
  if first is None or second is None or not first[0][0] == second[0][0] == "text":
    return True
  return words_of(first[0][1]) == words_of(second[0][1])


def _list_and_tuple(a: Tree, b: Tree) -> tuple[Sequence[Tree], Sequence[Tree]] | None:
  """The items of `1, 2` and of `(1, 2)` or `(x, y) = (1, 2)`, as written; None unless it is one of each."""
  items: dict[str, Sequence[Tree]] = {}
  for tree in (a, b):
    found = assignment(tree)
    value = found[1] if found is not None and found[0][0] == "tuple" else tree
    if value[0] == "tuple" and value[1:3] == ("(", ")"):
      items["tuple"] = value[3]
    elif value[0] == "list" and value[1] in {",", ";"}:
      items["list"] = value[2]
  return (items["list"], items["tuple"]) if len(items) == 2 else None


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
  if any(f is None or f[0][0] not in {"var", "const", "head"} for f in found):
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
  if other[0] == "list" and not _bases(other):
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
  if len(rows) > 1 and all(item[0] == "tuple" for item in other[3]):
    return len(rows) == len(other[3]) and all(_pairwise(x, y[3]) for x, y in zip(rows, other[3], strict=True))
  vector = rows[0] if len(rows) == 1 else [row[0] for row in rows] if len(rows[0]) == 1 else []
  return _pairwise(list(vector), other[3])


# What is named by its points


def _named_by_points(tree: Tree) -> tuple[str, str] | None:
  """(what it is, points) of `\\angle ABC` and `\\vec{AB}`; the points alone of three and more capitals in a row."""
  if tree[0] == "var" and tree[1].partition("_")[0] in {"angle", "triangle", "vec"}:
    return tree[1].partition("_")[0], tree[1].partition("_")[2]
  if tree[0] == "prod" and all(op == "*" and f[0] == "var" and len(f[1]) == 1 and f[1].isupper() for op, f in tree[1]):
    return ("", "".join(factor[1] for _, factor in tree[1]))
  return None


def _same_points(a: tuple[str, str], b: tuple[str, str]) -> bool:
  """Whether two names mean the same: an angle from either side, a triangle in any order, others in their order."""
  if a[0] and b[0] and a[0] != b[0]:
    return False
  kind = a[0] or b[0]
  if kind == "triangle" or (not kind and len(a[1]) < 3):
    return sorted(a[1]) == sorted(b[1])
  return a[1] == b[1] or (a[1] == b[1][::-1] and (kind == "angle" or (not kind and len(a[1]) == 3)))


# Equations and inequalities


def _same_relation(a: Tree, b: Tree) -> bool:
  left, right = assignment(a), assignment(b)
  if a[0] != "rel" or b[0] != "rel":
    equation, found, other = (a, left, b) if a[0] == "rel" else (b, right, a)
    return same(found[1], other) if found is not None else _solves(other, equation)
  if left is not None and right is not None and _compatible(left[0], right[0]):
    if same(left[1], _with_arguments_of(left[0], *right)):
      return True
  if "head" in {part[0] for tree in (a, b) for part in tree[1]}:
    return False
  return len(a[1]) == len(b[1]) and (_same_chain(a, b) or _same_chain(a, _reversed(b)))


def _solves(value: Tree, equation: Tree) -> bool:
  """Whether an expression is what an equation, linear in `y` or a polar radius, gives for it: `6/x` of `xy = 6`."""
  left = variables(equation) - variables(value)
  if equation[2] != ("=",) or len(left) != 1 or not left <= _SOLVED_FOR or not variables(value):
    return False
  (name,) = left

  def at(step: int) -> Tree:
    moved = ("sum", (("+", value), ("+", literal(str(step)))))
    return ("sum", tuple(zip("+-", (renamed(part, {name: moved}) for part in equation[1]), strict=True)))

  return (
    numbers.equal(at(0), literal("0"))
    and not numbers.equal(at(1), literal("0"))
    and numbers.equal(at(2), _product(literal("2"), at(1)))
  )


def _compatible(a: Tree, b: Tree) -> bool:
  """Whether two names may mean the same: equal, words, or functions and `y`, which all name what is plotted."""
  functions = [name[0] == "head" or name == ("var", "y") for name in (a, b)]
  return a == b or "text" in (a[0], b[0]) or all(functions)


def _with_arguments_of(head: Tree, other: Tree, body: Tree) -> Tree:
  """The body of `f(m) = …` in the unknowns of `f(n)`."""
  if head[0] != "head" or other[0] != "head":
    return body
  mine, theirs = (tree[1].partition("(")[2].split(",") for tree in (head, other))
  if mine == theirs or len(mine) != len(theirs) or variables(body) & set(mine):
    return body
  return renamed(body, {old: ("var", new) for old, new in zip(theirs, mine, strict=True)})


def _reversed(tree: Tree) -> Tree:
  return ("rel", tree[1][::-1], tuple(_FLIPPED[op] if op in _FLIPPED else op for op in tree[2][::-1]))


def _same_chain(a: Tree, b: Tree) -> bool:
  """Relations link by link: the sides' differences must be proportional, with a positive factor if order matters."""
  if len(a[2]) > 1:
    return a[2] == b[2] and _pairwise(a[1], b[1])
  operator, other = a[2][0], b[2][0]
  if not variables(a) and not variables(b):  # any two wrong equations of numbers are proportional
    return operator == other and _pairwise(a[1], b[1])
  first, second = (("sum", (("+", tree[1][0]), ("-", tree[1][1]))) for tree in (a, b))
  sign = numbers.ratio(first, second)
  if sign == 0 and operator == other == "=":
    sign = numbers.ratio(rewrite.without_denominators(first), rewrite.without_denominators(second))
  if operator in {"=", "!="}:
    return operator == other and sign != 0
  return sign != 0 and operator == (other if sign > 0 else _FLIPPED[other] if other in _FLIPPED else None)
