"""Which worked examples a problem gets in few-shot mode: those with formulas, or the stories; money is no formula."""

from pathlib import Path

import pytest

from skymath_jax.problems import sources
from skymath_jax.records import Problem
from skymath_jax.synthesis import methods

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
  ("question", "style"),
  [
    ("Mia has 5 apples.", "word"),
    ("It costs $5.", "word"),
    ("A pen costs $5 and a book $10.", "word"),
    ("The pen costs $5, the tax is $2, so $7 in all.", "word"),
    ("They cost $5/$7 or $3-$4 (that is $20).", "word"),
    ("6 cans at 2$, 2 loaves at 5$ and 3 boxes at 4$.", "word"),
    (r"It costs \$5 or \$6, 20\% off.", "word"),
    ("It costs $5 to send $x$ letters.", "math"),
    ("What is $2 + 3$?", "math"),
    (r"Find \(x\).", "math"),
    (r"Simplify \frac{3}{6}.", "math"),
    ("If x = 3, what is x + 1?", "math"),
  ],
)
def test_examples_are_chosen_by_the_style_of_the_problem(question, style):
  assert methods.style(Problem.create("toy", question)) == style


def test_a_solution_in_latex_makes_a_problem_without_formulas_mathematics():
  question = "How many primes are less than 10?"
  assert methods.style(Problem.create("toy", question)) == "word"
  assert methods.style(Problem.create("toy", question, solution="$2 and $3 are four.", answer="4")) == "word"
  assert methods.style(Problem.create("toy", question, solution=r"They are $2, 3, 5, 7$: $\boxed{4}$.")) == "math"
  assert methods.style(Problem.create("toy", question, answer=r"\frac{1}{2}")) == "math"


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data beside the clone")
def test_the_style_of_the_real_seeds():
  assert {methods.style(problem) for problem in sources.Math.parse(SHARED / "math" / "train.jsonl.gz")} == {"math"}
  stories = [methods.style(problem) for problem in sources.Gsm8k.parse(SHARED / "gsm8k" / "train.jsonl")]
  assert stories.count("math") <= 2  # of 7,473: "750m^2", and prices written both ways, "2$ … $5 … 3$"
