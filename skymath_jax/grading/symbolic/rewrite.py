"""One form for what can be written in several: matrix expressions, approximations, plus-or-minus signs, names."""

import itertools
from collections.abc import Iterator
from fractions import Fraction

from skymath_jax.grading.symbolic import matrices
from skymath_jax.grading.symbolic.names import is_name
from skymath_jax.grading.symbolic.tree import Tree, renamed, variables, walk

_AXES: tuple[Tree, ...] = (("const", "i"), ("var", "j"), ("var", "k"))
_ONE: Tree = ("num", Fraction(1), None, 1)
MAX_SIGNS = 3  # plus-or-minus signs that are expanded


def plain(tree: Tree) -> Tree:
  """Matrix expressions carried out; what comes after an approximation sign dropped."""
  if tree[0] == "rel" and "approx" in tree[2]:
    cut = tree[2].index("approx") + 1
    if cut == 1 and is_name(tree[1][0]):
      return ("rel", tree[1][:2], ("=",))
    return tree[1][0] if cut == 1 else ("rel", tree[1][:cut], tree[2][: cut - 1])
  if tree[0] == "in" and tree[2][0] in {"list", "set"}:
    return ("rel", (tree[1], tree[2]), ("=",))
  if tree[0] in {"sum", "prod", "pow"} and any(node[0] == "matrix" for node in walk(tree)):
    return matrices.carried_out(tree) or tree
  return tree


def as_list(tree: Tree) -> Tree:
  """`[1, 2, 3]`, as programs print a list, which with three items or more cannot be an interval."""
  return ("list", ",", tree[3]) if tree[0] == "tuple" and tree[1:3] == ("[", "]") and len(tree[3]) > 2 else tree


def signs(tree: Tree) -> int:
  """How many plus-or-minus signs `tree` has."""
  return sum(sign in {"pm", "mp"} for node in walk(tree) if node[0] == "sum" for sign, _ in node[1])


def expanded(tree: Tree) -> list[Tree]:
  r"""The values that plus-or-minus signs stand for; `\mp` takes the other sign of the `\pm` beside it."""
  count = signs(tree)
  if count == 0 or count > MAX_SIGNS:
    return [tree]
  linked = any(sign == "mp" for node in walk(tree) if node[0] == "sum" for sign, _ in node[1])
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


def as_vector(tree: Tree, other: Tree) -> Tree:
  r"""`2i - 3j` as (2, -3), where the other answer is a vector of two or three components; else as it is."""
  width = len(other[3]) if other[0] == "tuple" else max(len(other[1]), len(other[1][0])) if other[0] == "matrix" else 0
  if tree[0] != "sum" or width not in {2, 3} or len(tree[1]) > width:
    return tree
  found = {}
  for sign, term in tree[1]:
    factors = term[1] if term[0] == "prod" else (("*", term),)
    along = [axis for axis, name in enumerate(_AXES) if ("*", name) in factors]
    if len(along) != 1 or along[0] in found or along[0] >= width:
      return tree
    rest = [factor for factor in factors if factor != ("*", _AXES[along[0]])]
    found[along[0]] = ("sum", ((sign, ("prod", (("*", _ONE), *rest))),))
  return (
    "tuple",
    "(",
    ")",
    tuple(found[axis] if axis in found else ("num", Fraction(0), None, 0) for axis in range(width)),
  )


def without_denominators(tree: Tree) -> Tree:
  """The numerator of `tree` as one fraction, as far as sums, products and whole powers go."""
  return _fraction(tree)[0]


def _fraction(tree: Tree) -> tuple[Tree, Tree]:
  """(numerator, denominator); only what has an unknown becomes a denominator."""
  if tree[0] == "sum" and all(sign in "+-" for sign, _ in tree[1]):
    parts = [(sign, *_fraction(term)) for sign, term in tree[1]]
    terms = tuple(
      (sign, ("prod", (("*", top), *(("*", d) for j, (_, _, d) in enumerate(parts) if j != i and d != _ONE))))
      for i, (sign, top, _) in enumerate(parts)
    )
    return ("sum", terms), ("prod", (("*", _ONE), *(("*", d) for _, _, d in parts if d != _ONE)))
  if tree[0] == "prod":
    pairs = [_fraction(factor)[:: 1 if operator == "*" else -1] for operator, factor in tree[1]]
    tops, bottoms = ([("*", pair[k]) for pair in pairs] for k in (0, 1))
    return ("prod", tuple(tops)), ("prod", (("*", _ONE), *(b for b in bottoms if b[1] != _ONE)))
  if tree[0] == "pow" and (exponent := _negated(tree[2])) is not None and variables(tree[1]):
    return _ONE, ("pow", tree[1], exponent)
  return tree, _ONE


def _negated(exponent: Tree) -> Tree | None:
  """What follows the minus sign of an exponent."""
  return exponent[1][0][1] if exponent[0] == "sum" and len(exponent[1]) == 1 and exponent[1][0][0] == "-" else None


def with_imaginary_unit(tree: Tree) -> Tree:
  """`2 + 3I` as `2 + 3i`."""
  return renamed(tree, {"I": ("const", "i")})
