"""The verdict on two texts: the same words or choice, the same cases, or two parsed answers that are the same."""

import re

from skymath_jax.grading.extract import extract
from skymath_jax.grading.symbolic import limits, numbers, rewrite
from skymath_jax.grading.symbolic.cases import cases_of, same_cases
from skymath_jax.grading.symbolic.choices import same_choice, same_choices
from skymath_jax.grading.symbolic.compare import same
from skymath_jax.grading.symbolic.congruences import same_congruence
from skymath_jax.grading.symbolic.lexer import UnreadableError
from skymath_jax.grading.symbolic.names import assignment
from skymath_jax.grading.symbolic.normalize import clean, joined_thousands, rows_in_brackets, spelled_out
from skymath_jax.grading.symbolic.parse import parse
from skymath_jax.grading.symbolic.tree import Tree, renamed, variables, walk
from skymath_jax.grading.symbolic.words import of_integers, same_truth, says_little, without_qualifier, words_of

MAX_ANSWER = 2_000  # characters; a longer answer must be spelled like the gold

_MARKED = re.compile(r"\\(?:boxed|fbox)\b|</?(?:think|answer)>|####|\banswer\**\s*(?:is|:)", re.IGNORECASE)
_WRAPPING = re.compile(r"^(?:[\s$]|\\[(\[]|\\displaystyle(?![a-z])(?:\{\})?)+|(?:[\s$]|\\[)\]])+$")
_BEYOND = re.compile(r"\\(?:begin|int|oint|iint|lim|det|bmod|mod)(?![a-z])")  # what the parser leaves alone
_SENTENCE = re.compile(r";|(?<!\\)\b[A-Za-z]{4,} |,(?![^{(]*[})])")
_DECIMAL_COMMA = re.compile(r"-?(?:\d+,(?!\d{3}$)\d{2,}|0,\d{2,})")
_INTEGERS = frozenset("klmn")
_CONSTANTS = frozenset("cCkK")


def symbolic_equal(gold: str, pred: str) -> bool:
  """Whether two bare answers are the same; symmetric, never raises, within about a second whatever the text."""
  try:
    return verdict(gold.strip(), pred.strip())
  except Exception:  # no text, whatever it says, may stop a run of a million answers; `verdict` is what tests call
    return False


def verdict(gold: str, pred: str) -> bool:
  """`symbolic_equal` without its guarantee that nothing is raised."""
  if not gold or not pred:
    return False
  if gold == pred:
    return True
  gold, pred = (_found(text) if len(text) > MAX_ANSWER else text for text in (gold, pred))
  if max(len(gold), len(pred)) > MAX_ANSWER:
    return _squeezed(gold) == _squeezed(pred)
  limits.start()
  return _same_answer(gold, pred) or _same_answer(_found(gold), _found(pred))


def _found(text: str) -> str:
  """The answer in a whole response or solution, which says where it is; any other text as it is."""
  return (extract(text, last_number=False) or text) if _MARKED.search(text) else text


def _same_answer(gold: str, pred: str) -> bool:
  bare = [_WRAPPING.sub("", text) for text in (gold, pred)]
  verdict = same_choice(bare[0], bare[1], _same_text)
  if verdict is None and same_choices(bare[0], bare[1]):
    return True
  return _same_text(gold, pred) if verdict is None else verdict


def _same_text(gold: str, pred: str) -> bool:
  first, second = spelled_out(clean(gold)), spelled_out(clean(pred))
  if not first or not second:
    return False
  if _squeezed(first) == _squeezed(second) or same_truth(first, second):
    return True
  if (mine := cases_of(first)) and (theirs := cases_of(second)):
    return same_cases(mine, theirs, _same_text)
  if (congruent := same_congruence(first, second, _same_text)) is not None:
    return congruent
  (first, of_first), (second, of_second) = _without_qualifiers(first, second)
  integers = of_integers(of_first) or of_integers(of_second)
  return any(same(x, y) for a in _readings(first) for b in _readings(second) for x, y in _names_matched(a, b, integers))


def _without_qualifiers(first: str, second: str) -> tuple[tuple[str, str], tuple[str, str]]:
  """Both texts without their qualifiers, and these; as they are where a qualifier says something that differs."""
  left, right = without_qualifier(first), without_qualifier(second)
  if words_of(left[1]) == words_of(right[1]) or (says_little(left[1]) and says_little(right[1])):
    return left, right
  return (first, ""), (second, "")


def _names_matched(a: Tree, b: Tree, integers: bool) -> list[tuple[Tree, Tree]]:
  """The pair as it is, and with a name made the same that is free: of an integer, a constant of integration, `i`."""
  pairs = [(a, b)]
  mine, theirs = variables(a), variables(b)
  if ("I" in mine) != ("I" in theirs):
    pairs.append((rewrite.with_imaginary_unit(a), rewrite.with_imaginary_unit(b)))
  mine, theirs = mine - _named(a), theirs - _named(b)
  if len(mine - theirs) == len(theirs - mine) == 1:
    (old,), (new,) = theirs - mine, mine - theirs
    periodic = {old, new} <= _INTEGERS and _turns(a, new) and _turns(b, old)
    constant = {name.partition("_")[0] for name in (old, new)} <= _CONSTANTS and all(
      _adds(tree, name) for tree, name in ((a, new), (b, old))
    )
    if integers or periodic or constant or ({old, new} == {"c", "C"} and a[0] != "var"):
      pairs.append((a, renamed(b, {old: ("var", new)})))
  return pairs


def _turns(tree: Tree, name: str) -> bool:
  """Whether `name` counts turns: it stands in products with pi only, and in no power."""
  nodes = list(walk(tree))
  if any(node[0] == "pow" and name in variables(node) for node in nodes):
    return False
  return any(node[0] == "prod" and {("*", ("var", name)), ("*", ("const", "pi"))} <= set(node[1]) for node in nodes)


def _named(tree: Tree) -> set[str]:
  """The unknowns that `tree` gives values to."""
  items = tree[2] if tree[0] == "list" else (tree,)
  found = [assignment(item) for item in items]
  names = [
    (name, value) for outer, value in filter(None, found) for name in (outer[3] if outer[0] == "tuple" else (outer,))
  ]
  return {name[1] for name, value in names if name[0] == "var" and name not in set(walk(value))}


def _adds(tree: Tree, name: str) -> bool:
  """Whether `tree` is a sum that ends in `+ name`."""
  return tree[0] == "sum" and tree[1][-1] == ("+", ("var", name))


def _readings(text: str) -> list[Tree]:
  """The trees that a text may be: `1,234` as one number and as two, `1,25` also as 1.25; words where it is no maths."""
  trees: list[Tree] = []
  decimal = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else None
  rows = rows_in_brackets(text)
  for reading in (rows,) if rows else (joined_thousands(text), text, decimal):
    if reading is None:
      continue
    try:
      trees.append(parse(reading))
    except UnreadableError:
      trees.append(_value_of_chain(reading) or ("text", reading))
  return trees


def _value_of_chain(text: str) -> Tree | None:
  """The number at the end of `… = 3` where the left side is beyond the parser (a determinant, an integral)."""
  left, equals, right = text.rpartition("=")
  if not equals or left[-1:] in "<>!:=" or _SENTENCE.search(left) or not ("=" in left or _BEYOND.search(left)):
    return None
  try:
    tree = parse(right)
  except UnreadableError:
    return None
  return None if variables(tree) or numbers.number(tree) is None else tree


def _squeezed(text: str) -> str:
  """Without white space that separates nothing."""
  return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", text)
