"""One form for what can be written in several: matrix expressions, approximations, plus-or-minus signs, names."""

import itertools
from collections.abc import Iterator

from skymath_jax.grading.symbolic import matrices
from skymath_jax.grading.symbolic.names import is_name
from skymath_jax.grading.symbolic.tree import Tree, renamed, walk

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


def with_imaginary_unit(tree: Tree) -> Tree:
  """`2 + 3I` as `2 + 3i`."""
  return renamed(tree, {"I": ("const", "i")})
