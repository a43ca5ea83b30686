r"""The symbolic grader: string rules first, then a parser and exact arithmetic of its own.

No text of a model's is ever handed to `eval` or to a computer algebra system. Conventions (they follow the MATH
benchmark; where sources contradict each other, what is refused is named):
- units, currency, degree and percent signs may be missing on one side; 28\% is 28 and 0.28, but 75 is not 0.75;
- lists and sets have no order, tuples and intervals have; an interval, an inequality and a set-builder may be the same;
- `x = 3` is 3, `f(x) = …` is its body; an equation is not one of its sides; equations are equal up to a factor;
- an exact value equals a decimal with nine or more right digits; integers are compared exactly;
- yes is true and no is false; `1,25` may be 1.25, `1,5` is a list; `12th` is 12;
- an equation that is linear in `y` is what it gives for it: `xy = 6` is `6/x`;
- refused: rounded values (6.46 for 84/13), number words, most sets in words;
- an ellipsis is what it is spelled like, but between whole numbers in even steps (`1, 2, …, 5`) a list.
"""

import re

from skymath_jax.grading import evaluate, numbers, rewrite
from skymath_jax.grading.compare import same
from skymath_jax.grading.evaluate import Tree
from skymath_jax.grading.extract import extract
from skymath_jax.grading.lexer import UnreadableError
from skymath_jax.grading.names import assignment
from skymath_jax.grading.normalize import clean, joined_thousands, spelled_out
from skymath_jax.grading.parse import parse
from skymath_jax.grading.words import of_integers, same_truth, says_little, without_qualifier, words_of

Cases = list[tuple[str, str]]

MAX_CASES = 8  # of a case distinction, that are compared one by one
MAX_ANSWER = 2_000  # characters; a longer answer must be spelled like the gold

_MARKED = re.compile(r"\\(?:boxed|fbox)\b|</?(?:think|answer)>|####|\banswer\**\s*(?:is|:)", re.IGNORECASE)
_WRAPPING = re.compile(r"^(?:[\s$]|\\[(\[]|\\displaystyle(?![a-z])(?:\{\})?)+|(?:[\s$]|\\[)\]])+$")
_BEYOND = re.compile(r"\\(?:begin|int|oint|iint|lim|det|bmod|mod)(?![a-z])")  # what the parser leaves alone
_SENTENCE = re.compile(r";|(?<!\\)\b[A-Za-z]{4,} |,(?![^{(]*[})])")
_CASES = re.compile(r"([^&]*?)\\begin\{cases\}(.*)\\end\{cases\}", re.DOTALL)
_IF = re.compile(r"^[\s,]*(?:\\text\{\s*)?(?:if|for|when)\b[\s}]*", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"-?(?:\d+,(?!\d{3}$)\d{2,}|0,\d{2,})")
_INTEGERS = frozenset("klmn")
_CONSTANTS = frozenset("cCkK")
_LETTER = re.compile(
  r"^[\s*$]*(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*\(?([A-Ja-j])\)?[.:)]?\s*\}?[\s*$.]*$"
)
_LETTER_AND_MORE = re.compile(
  r"^[\s*$]*(?:(?:option|choice)\s+)?(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*(?:\(([A-J])\)|([A-J])[.:)。])\}?(?:[\s.:,$*\\~]+|(?<=。))(\S.*)$",
  re.DOTALL | re.IGNORECASE,
)


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
  evaluate.start()
  return _same_answer(gold, pred) or _same_answer(_found(gold), _found(pred))


def _found(text: str) -> str:
  """The answer in a whole response or solution, which says where it is; any other text as it is."""
  return (extract(text, last_number=False) or text) if _MARKED.search(text) else text


def _same_answer(gold: str, pred: str) -> bool:
  verdict = _same_choice(*(_WRAPPING.sub("", text) for text in (gold, pred)))
  return _same_text(gold, pred) if verdict is None else verdict


def _same_choice(gold: str, pred: str) -> bool | None:
  """The verdict where both are choices, or one is a letter and the other that letter with its text; else None."""
  letters = [_LETTER.match(text) for text in (gold, pred)]
  longer = [_LETTER_AND_MORE.match(text) for text in (gold, pred)]
  found = [(m[1] if m else (n[1] or n[2]) if n else "").upper() for m, n in zip(letters, longer, strict=True)]
  if longer[0] and longer[1] and not _same_text(longer[0][3], longer[1][3]):
    return False if found[0] != found[1] else None
  if all(found):
    bare = all(letters) and not any("(" in text or "text" in text for text in (gold, pred))
    return found[0] == found[1] and (not bare or found[0] in "ABCDE" or letters[0][1] == letters[1][1])
  for match, other in ((longer[0], pred), (longer[1], gold)):
    if match and _same_text(match[3], other):
      return True
  return None


def _same_text(gold: str, pred: str) -> bool:
  first, second = spelled_out(clean(gold)), spelled_out(clean(pred))
  if not first or not second:
    return False
  if _squeezed(first) == _squeezed(second) or same_truth(first, second):
    return True
  if (mine := _cases_of(first)) and (theirs := _cases_of(second)):
    return _same_cases(mine, theirs)
  (first, of_first), (second, of_second) = _without_qualifiers(first, second)
  integers = of_integers(of_first) or of_integers(of_second)
  return any(same(x, y) for a in _readings(first) for b in _readings(second) for x, y in _names_matched(a, b, integers))


def _cases_of(text: str) -> tuple[str, Cases] | None:
  """What a case distinction is given for, and its (value, condition) pairs; None where `text` is no such thing."""
  match = _CASES.fullmatch(text)
  rows = [row.split("&") for row in match[2].split("\\\\") if row.strip()] if match else []
  if match is None or len(rows) > MAX_CASES or any(len(row) != 2 for row in rows):
    return None
  return match[1].strip(" ="), [(value.strip(" ,;"), _IF.sub("", condition).strip(" ,;.")) for value, condition in rows]


def _same_cases(a: tuple[str, Cases], b: tuple[str, Cases]) -> bool:
  """Whether each case of one is a case of the other, in any order."""
  if len(a[1]) != len(b[1]) or (a[0] and b[0] and not _same_text(a[0], b[0])):
    return False
  rest = list(b[1])
  for value, condition in a[1]:
    same_case = (c for c in rest if _same_text(condition, c[1]) and _same_text(value, c[0]))
    if (match := next(same_case, None)) is None:
      return False
    rest.remove(match)
  return True


def _without_qualifiers(first: str, second: str) -> tuple[tuple[str, str], tuple[str, str]]:
  """Both texts without their qualifiers, and these; as they are where a qualifier says something that differs."""
  left, right = without_qualifier(first), without_qualifier(second)
  if words_of(left[1]) == words_of(right[1]) or (says_little(left[1]) and says_little(right[1])):
    return left, right
  return (first, ""), (second, "")


def _names_matched(a: Tree, b: Tree, integers: bool) -> list[tuple[Tree, Tree]]:
  """The pair as it is, and with a name made the same that is free: of an integer, a constant of integration, `i`."""
  pairs = [(a, b)]
  mine, theirs = numbers.variables(a), numbers.variables(b)
  if ("I" in mine) != ("I" in theirs):
    pairs.append((rewrite.with_imaginary_unit(a), rewrite.with_imaginary_unit(b)))
  mine, theirs = mine - _named(a), theirs - _named(b)
  if len(mine - theirs) == len(theirs - mine) == 1:
    (old,), (new,) = theirs - mine, mine - theirs
    periodic = {old, new} <= _INTEGERS and _turns(a, new) and _turns(b, old)
    constant = {old, new} <= _CONSTANTS and all(_adds(tree, name) for tree, name in ((a, new), (b, old)))
    if integers or periodic or constant or ({old, new} == {"c", "C"} and a[0] != "var"):
      pairs.append((a, rewrite.renamed(b, {old: ("var", new)})))
  return pairs


def _turns(tree: Tree, name: str) -> bool:
  """Whether `name` counts turns: it stands in products with pi only, and in no power."""
  nodes = list(numbers.walk(tree))
  if any(node[0] == "pow" and name in numbers.variables(node) for node in nodes):
    return False
  return any(node[0] == "prod" and {("*", ("var", name)), ("*", ("const", "pi"))} <= set(node[1]) for node in nodes)


def _named(tree: Tree) -> set[str]:
  """The unknowns that `tree` gives values to."""
  items = tree[2] if tree[0] == "list" else (tree,)
  found = [assignment(item) for item in items]
  names = [
    (name, value) for outer, value in filter(None, found) for name in (outer[3] if outer[0] == "tuple" else (outer,))
  ]
  return {name[1] for name, value in names if name[0] == "var" and name not in set(numbers.walk(value))}


def _adds(tree: Tree, name: str) -> bool:
  """Whether `tree` is a sum that ends in `+ name`."""
  return tree[0] == "sum" and tree[1][-1] == ("+", ("var", name))


def _readings(text: str) -> list[Tree]:
  """The trees that a text may be: `1,234` as one number and as two, `1,25` also as 1.25; words where it is no maths."""
  trees: list[Tree] = []
  decimal = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else None
  for reading in (joined_thousands(text), text, decimal):
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
  return None if numbers.variables(tree) or numbers.number(tree) is None else tree


def _squeezed(text: str) -> str:
  """Without white space that separates nothing."""
  return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", text)
