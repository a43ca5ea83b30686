"""What a relation names: `x = 3`, `f(x) = …`, `AB = 5`, `S : T = 2 : 3`, and the value that it gives."""

from skymath_jax.grading.symbolic import numbers
from skymath_jax.grading.symbolic.tree import Tree, variables

Assignment = tuple[Tree, Tree]  # what is named, its value


def is_name(tree: Tree) -> bool:
  """Whether `tree` names something: a variable, `f(x)`, words, capitals as for a segment, or a tuple of names."""
  if tree[0] in {"var", "head", "text"} or tree == ("const", "i"):
    return True
  if tree[0] in {"tuple", "ratio"}:
    return all(is_name(item) for item in tree[-1])
  if tree[0] == "fn" and tree[1] in {"abs", "norm"}:
    return is_name(tree[2]) and tree[2][0] == "prod"
  if tree[0] == "prod" and tree[1][0] == ("*", ("var", "Delta")):
    return all(op == "*" and f[0] == "var" for op, f in tree[1])
  return tree[0] == "prod" and _capitals(tree)


def _capitals(tree: Tree) -> bool:
  """Whether `tree` is a segment, an area or the quotient of two: capitals, perhaps with indices."""
  if tree[0] == "prod":
    return all(_capitals(factor) for _, factor in tree[1])
  return tree[0] in {"var", "text"} and tree[1][:1].isupper()


def assignment(tree: Tree) -> Assignment | None:
  """(name, value) of `x = 3`, `3 = x`, `f(x) = …`, `x = 1/2 = 0.5`; `1 + 2 = 3` counts as 3, `3 = 3` says nothing."""
  if tree[0] != "rel" or any(operator != "=" for operator in tree[2]) or tree[1][0] == tree[1][-1]:
    return None
  parts = tree[1]
  if is_name(parts[0]):
    return parts[0], parts[-1]
  if is_name(parts[-1]):
    return parts[-1], parts[0]
  if all(not variables(part) for part in parts) and all(numbers.equal(parts[-1], part) for part in parts[:-1]):
    return ("text", ""), parts[-1]
  return None
