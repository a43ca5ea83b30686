"""Matrix expressions as one matrix of trees: sums, products, scalar factors and small powers are carried out."""

from skymath_jax.grading.symbolic.tree import Tree

MAX_SIDE = 8  # rows or columns of a factor in a product
MAX_POWER = 4

Rows = tuple[tuple[Tree, ...], ...]


def carried_out(tree: Tree) -> Tree | None:
  """The matrix that `tree` is, or None where it is none or the shapes do not fit."""
  if tree[0] == "matrix":
    return tree
  rows: Rows | None = None
  if tree[0] == "sum":
    rows = _sum(tree)
  elif tree[0] == "prod":
    rows = _product(tree[1])
  elif tree[0] == "pow" and tree[1][0] == "matrix" and tree[2][0] == "num" and tree[2][1] in range(2, MAX_POWER + 1):
    rows = _product((("*", tree[1]),) * int(tree[2][1]))
  return None if rows is None else ("matrix", rows)


def _sum(tree: Tree) -> Rows | None:
  terms = [(sign, carried_out(term)) for sign, term in tree[1]]
  blocks = [(sign, block[1]) for sign, block in terms if block is not None and sign in {"+", "-"}]
  if not blocks or len(blocks) != len(terms):
    return None
  if len({(len(block), len(block[0])) for _, block in blocks}) != 1:
    return None
  height, width = len(blocks[0][1]), len(blocks[0][1][0])
  return tuple(
    tuple(("sum", tuple((sign, block[i][j]) for sign, block in blocks)) for j in range(width)) for i in range(height)
  )


def _product(factors: tuple[tuple[str, Tree], ...]) -> Rows | None:
  scalars, result = [], None
  for operator, factor in factors:
    block = carried_out(factor)
    if block is None:
      scalars.append((operator, factor))
    elif operator == "/":
      return None
    else:
      result = block[1] if result is None else _multiplied(result, block[1])
      if result is None:
        return None
  if result is None or not scalars:
    return result
  return tuple(tuple(("prod", (*scalars, ("*", cell))) for cell in row) for row in result)


def _multiplied(a: Rows, b: Rows) -> Rows | None:
  if len(a[0]) != len(b) or max(len(a), len(b), len(b[0])) > MAX_SIDE:
    return None
  return tuple(
    tuple(
      ("sum", tuple(("+", ("prod", (("*", x), ("*", y)))) for x, y in zip(row, column, strict=True)))
      for column in zip(*b, strict=True)
    )
    for row in a
  )
