"""The worked examples of the few-shot prompts: in the form the parsers want, and right, as computed here."""

import ast
import operator
import re
from fractions import Fraction
from math import isqrt

import pytest

from skymath_jax import prompts
from skymath_jax.curation import hashing
from skymath_jax.synthesis import Reply
from skymath_jax.synthesis.methods import evol, metamath, parse, xwin
from tests.support.synthesis import SAMPLING


def shots(name):
  """The worked examples of a prompt, one {label: text} each."""
  text = prompts.load(name).text
  first = next(line for line in text.splitlines() if line in ("Problem:", "Question:", "Given question:"))
  parts = text.split(f"{first}\n")[1:-1]
  assert len(parts) >= 2
  return [
    dict(re.findall(r"(?ms)^([A-Z][\w ]+:)\n(.*?)\n*(?=^[A-Z][\w ]+:\n|\Z)", f"{first}\n{part}")) for part in parts
  ]


def spoken(text, name="metamath/solve"):
  return Reply(text=text, prompt=prompts.load(name), sampling=SAMPLING, tokens=1)


@pytest.mark.parametrize("style", prompts.STYLES)
def test_the_examples_are_what_the_parsers_want_of_the_teacher(style):
  folder = f"few_shot/{style}"
  for name in ("solve", "solve_backward"):
    for shot in shots(f"{folder}/metamath/{name}"):
      worked = parse.solution(spoken(shot["Solution:"]))
      assert worked.answer.strip("$")[-3:] in worked.response.partition("\nThe answer")[0]
      assert (name == "solve") != shot["Problem:"].endswith("What is the value of X?")
  for shot in shots(f"{folder}/metamath/rephrase"):
    assert hashing.numbers(shot["New wording:"]) == hashing.numbers(shot["Problem:"])
    assert parse.question(spoken(shot["New wording:"], "metamath/rephrase")) != shot["Problem:"]
  for shot in shots(f"{folder}/metamath/declare"):
    assert metamath.checked_statement(shot["Statement:"], shot["Answer:"]) == shot["Statement:"]
  for operation in evol.OPERATIONS:
    for shot in shots(f"{folder}/evol/{operation}"):
      evolved = parse.question(spoken(shot["New problem:"], f"evol/{operation}"))
      added = len(evolved.split()) - len(shot["Problem:"].split())
      assert evol.gains(evolved, shot["Problem:"]) and (operation == "new_problem" or added <= 20)
  for shot in shots(f"{folder}/xwin/create"):
    labels = xwin.CREATE_HEADINGS
    assert len(parse.sections(spoken("\n".join(f"{label}\n{shot[label]}" for label in labels)), *labels)) == 3
  for shot in shots(f"{folder}/xwin/solve"):
    assert shot["SOLUTION:"] and "\n" not in shot["FINAL ANSWER:"]


OPERATORS = {
  ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
  ast.Pow: lambda a, b: a ** int(b),
}  # fmt: skip


def value(text):
  """The exact value of arithmetic written plainly or in LaTeX; None of anything else."""
  text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text.strip(" $.,;:"))
  text = text.replace("\\cdot", "*").replace("^", "**").removesuffix("\\%").strip()

  def of(node):
    if isinstance(node, ast.BinOp):
      return OPERATORS[type(node.op)](of(node.left), of(node.right))
    if not isinstance(node, ast.Constant):
      raise ValueError(node)  # "+ 1" is the end of something longer
    return Fraction(str(ast.literal_eval(node)))

  try:
    return of(ast.parse(text, mode="eval").body)
  except (SyntaxError, ValueError, KeyError, TypeError, MemoryError):
    return None


ARITHMETIC = r"(?:[\d\s.+*/()^-]|\\cdot|\\frac\{[^{}]*\}\{[^{}]*\})+"
EQUATION = re.compile(rf"(?<![A-Za-z\d.\\}}])(?<!of )({ARITHMETIC})=(?=({ARITHMETIC}))")  # "40% of 250 =" is none


def equations(text):
  """(left, right) of the equalities in `text` with plain arithmetic on both sides."""
  sides = ((value(left), value(right)) for left, right in EQUATION.findall(text))
  return [pair for pair in sides if None not in pair]


def test_value_knows_arithmetic_from_the_rest():
  assert value(r"$2 \cdot 9 - 3 \cdot 3 + 1$") == 10 and value(r"\frac{12 - 4}{5 - 1}") == 2
  assert value("250 * 40 / 100") == 100 and value("2^3") == 8 and value("0.4") == Fraction(2, 5)
  assert value("x + 1") is None and value("") is None and value("3 4") is None


def test_every_equation_of_the_examples_holds():
  found = {name: equations(prompts.load(name).text) for name in prompts.names("few_shot")}
  assert sum(map(len, found.values())) >= 45
  for name, pairs in found.items():
    assert all(left == right for left, right in pairs), name


def divisors(n):
  return [d for d in range(1, n + 1) if n % d == 0]


def f(x):
  return 2 * x * x - 3 * x + 1


# The beginning of a problem → its answer, computed; {X: …} problems are checked by putting the answer in.
COMPUTED = {
  "Let $f(x) = 2x^2 - 3x + 1$. What": f(3) - f(1),
  "The line through $(1, 4)$ and": 4 - Fraction(12 - 4, 5 - 1),
  "How many positive divisors does $360$": len(divisors(360)),
  "Simplify $\\frac{\\sqrt{75}}{\\sqrt{12}}$": Fraction(isqrt(75 * 12), 12),
  "Let $f(x) = 2x^2 - Xx + 1$.": next(x for x in range(99) if (18 - 3 * x + 1) - (2 - x + 1) == 10),
  "The line through $(1, X)$": next(x for x in range(99) if x - Fraction(12 - x, 5 - 1) == 2),
  "Simplify $\\frac{\\sqrt{X}}": next(x for x in range(999) if Fraction(x, 12) == Fraction(5, 2) ** 2),
  "The sum of three consecutive even integers": 22 + 24 + 26,
  "A bakery sells 24": (24 + 3 * 24) * 2,
  "Lena reads 15": (180 - 60) // 15,
  "A tank holds 250 liters and is 40%": 250 - 250 * 40 // 100,
  "Tim has 7": next(tim for tim in range(44) if tim - (43 - tim) == 7),
  "A bakery sells X": next(x for x in range(999) if (x + 3 * x) * 2 == 192),
  "Lena reads X": next(x for x in range(1, 999) if x * 8 == 180 - 60),
  "A tank holds 250 liters and is X%": next(x for x in range(101) if 250 - Fraction(250 * x, 100) == 150),
  "Tim has X": 25 - (43 - 25),
}
VERIFIED = {  # the same for the final questions of `xwin/create`: what the verification comes to
  "The line through $(2, 3)$": Fraction(1, 2),
  "How many positive divisors of $540$": sum(d % 6 == 0 for d in divisors(540)),
  "Mira has 9": next(mira for mira in range(42) if mira - (41 - mira) == 9),
  "A class folds 45": (360 - 90) // 45,
}


def looked_up(table, problem):
  [found] = [answer for start, answer in table.items() if problem.startswith(start)]
  return found


@pytest.mark.parametrize("style", prompts.STYLES)
def test_the_answers_of_the_examples_are_right(style):
  for name, problem, answer in (
    ("metamath/solve", "Problem:", "Solution:"), ("metamath/solve_backward", "Problem:", "Solution:"),
    ("xwin/solve", "Question:", "FINAL ANSWER:"),
  ):  # fmt: skip
    for shot in shots(f"few_shot/{style}/{name}"):
      told = shot[answer].rpartition("The answer is ")[2]
      assert value(told) == looked_up(COMPUTED, shot[problem]), shot[problem]
  for shot in shots(f"few_shot/{style}/xwin/create"):
    expected = looked_up(VERIFIED, shot["FINAL CREATED QUESTION:"])
    numbers = re.findall(r"\\frac\{\d+\}\{\d+\}|\d+", shot["VERIFICATION AND MODIFICATION:"])
    assert expected in [value(number) for number in numbers]
