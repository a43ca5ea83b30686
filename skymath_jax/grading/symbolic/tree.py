"""What the parser makes of an answer.

Trees are nested tuples; the first entry is the kind:
  ("num", Fraction, ulp | None, significant digits)      ("var", name)   ("const", "pi" | "e" | "i" | "inf")
  ("sum", ((sign, tree), …)) with sign "+", "-", "pm", "mp"   ("prod", (("*" | "/", tree), …))   ("pow", base, exponent)
  ("fn", name, argument, …)   ("deg", tree)   ("pct", tree)   ("unit", tree, words)   ("text", words)
  ("tuple", open, close, items)   ("set", items)   ("list", joiner, items)   ("matrix", rows)   ("ratio", items)
  ("rel", parts, operators)   ("head", name)   ("cup" | "cap" | "setminus", a, b)   ("in", a, b)
  ("builder", item, condition)   ("reals",)   ("empty",)   ("big", "sum" | "prod" | "int", lower, upper, body)
  ("clock", hours, minutes)   ("det", rows)   ("range", low, high)
"""

from collections.abc import Iterator, Mapping
from typing import Any

Tree = tuple[Any, ...]


def walk(tree: Tree) -> Iterator[Tree]:
  """`tree` and everything below it."""
  stack: list[Any] = [tree]
  while stack:
    node = stack.pop()
    if isinstance(node, tuple):
      if (node and isinstance(node[0], str) and len(node) > 1) or node in (("reals",), ("empty",)):
        yield node
      stack.extend(node)


def variables(tree: Tree) -> set[str]:
  """Names of the variables in `tree`."""
  return {node[1] for node in walk(tree) if node[0] == "var"}


def replaced(tree: Tree, old: Tree, new: Tree) -> Tree:
  """`tree` with `new` wherever `old` stands in it."""
  if tree == old:
    return new
  return tuple(replaced(part, old, new) if isinstance(part, tuple) else part for part in tree)


def renamed(tree: Tree, names: Mapping[str, Tree]) -> Tree:
  """`tree` with other trees for these variables."""
  if not isinstance(tree, tuple):
    return tree
  if tree and tree[0] == "var":
    return names[tree[1]] if tree[1] in names else tree
  return tuple(renamed(part, names) for part in tree)
