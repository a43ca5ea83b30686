"""Every planted leak is found and names its test row; the anchor scan agrees with plain n-gram sets."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.curation import decontaminate
from skymath_jax.curation.decontaminate import TestIndex, normalize
from skymath_jax.problems.builder import rows_of
from skymath_jax.records import Problem

SHARED = Path(__file__).parents[3] / "shared" / "data"
LONG = (
  "A farmer has \\dfrac{3}{4} of a field planted with wheat, and $x$ rows of corn beside it. Every row holds 12 "
  "plants, of which he sells 5 on Monday and 3 on Tuesday to \\left( two \\right) neighbours. How many "
  "plants are left in the corn field at the end of the week?"
)
SHORT = "Find $x$ such that $\\dfrac{x}{3} = 7 + \\left(2\\right)$."
SOLUTION = "We write " + " ".join(f"s{i}" for i in range(40)) + " and so the answer follows."


@pytest.fixture(scope="module")
def index():
  problems = [
    Problem.create("t", "An unrelated question about triangles and their areas?"),
    Problem.create("t", LONG, solution=SOLUTION, answer="5"),
    Problem.create("t", SHORT, answer="27"),
    Problem.create("t", "What is $2+3$?", answer="5"),
  ]
  return TestIndex({"other": problems[:1], "test": problems[1:]})


@pytest.mark.parametrize(
  "query, response, kind, field, row",
  [
    (LONG, "", "exact", "query", 0),
    (LONG.replace("\\dfrac", "\\frac").replace("\\left(", "(").replace("\\right)", ")"), "", "exact", "query", 0),
    (LONG.upper().replace(" ", "  \n"), "", "exact", "query", 0),
    (LONG.replace("$", ""), "", "exact", "query", 0),
    ("Consider this. " + LONG + " Explain.", "", "ngram", "query", 0),
    (
      "Consider this. " + LONG.replace("\\dfrac", "\\tfrac").replace(" ", "\n", 3) + " Explain.",
      "",
      "ngram",
      "query",
      0,
    ),
    ("New question?", "First. " + SOLUTION, "ngram", "response", 0),
    ("New question?", SOLUTION.replace(" ", "   "), "exact", "response", 0),
    (SHORT, "", "exact", "query", 1),
    ("Please: find x such that \\tfrac{x}{3}=7+(2). Thank you", "", "embedded", "query", 1),
    ("New question?", "The task says: " + SHORT.lower() + " We do so.", "embedded", "response", 1),
    ("what is 2 + 3?", "", "exact", "query", 2),
  ],
)
def test_planted_leaks_are_found(index, query, response, kind, field, row):
  hit = index.check(query, response).hit
  assert (hit.kind, hit.field, hit.row.test_set, hit.row.index) == (kind, field, "test", row)
  assert hit.to_json()["test_row"]["text"] in (LONG, SHORT, SOLUTION, "What is $2+3$?")


@pytest.mark.parametrize(
  "query, response",
  [
    ("", ""),
    ("What is $2+3+4$?", "We ask what is 2+3? It is 5."),  # too short to prove anything inside another text
    ("Find $x$ such that $\\frac{x}{3} = 7 + 2x$.", "The answer is 27"),
    (" ".join(LONG.split()[:29]), ""),  # 29 words are no 30-gram
    ("A new story with other words.", "5"),
  ],
)
def test_what_only_looks_alike_is_kept(index, query, response):
  assert index.check(query, response).hit is None


def test_a_number_that_goes_on_is_another_problem():
  index = TestIndex({"t": [Problem.create("t", "Evaluate the logarithm $\\log_3 27$.")]})
  assert index.check("Now evaluate the logarithm $\\log_3 27$. Then double it.", "").hit.kind == "embedded"
  assert index.check("Evaluate the logarithm $\\log_3 27\\sqrt3$.", "").hit is None
  assert index.check("Evaluate the logarithm $\\log_3 270$.", "").hit is None


def test_a_long_question_that_ends_in_a_number_is_whole_before_a_sentence_that_begins_with_one():
  question = "Solve the equation for all of the unknown lengths given that x = 12."
  index = TestIndex({"t": [Problem.create("t", question)]})
  assert index.check(f"Now this. {question} 5 more of them follow.", "").hit.kind == "embedded"
  short = TestIndex({"t": [Problem.create("t", "Evaluate the log of 27.")]})
  assert short.check("Now evaluate the log of 27.5 and stop.", "").hit is None


def test_thirty_words_decide_and_twenty_nine_do_not():
  words = [f"w{i}" for i in range(60)]
  index = TestIndex({"t": [Problem.create("t", " ".join(words))]})
  for length in range(10, 40):
    for start in (0, 7, 20):
      verdict = index.check("before " + " ".join(words[start : start + length]) + " after", "")
      assert (verdict.hit is not None) == (length >= 30)
      assert verdict.longest_run == length


WORDS = st.lists(st.sampled_from("abc"), max_size=40)


@settings(max_examples=150)
@given(tests=st.lists(WORDS, min_size=1, max_size=4), text=WORDS, n=st.integers(1, 12), other=st.integers(1, 12))
def test_runs_agree_with_sets_of_ngrams(tests, text, n, other):
  def grams(words, size):
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

  index = TestIndex({"t": [Problem.create("t", " ".join(words)) for words in tests]}, ngram=n, sensitivity=(other,))
  verdict = index.check("", " ".join(text))
  for size in {n, min(n, other)}:
    assert (verdict.longest_run >= size) == any(grams(text, size) & grams(words, size) for words in tests)


@settings(max_examples=150)
@given(st.text("ab1.", min_size=16, max_size=40), st.text("ab1.", max_size=20), st.text("ab1.", max_size=20))
def test_embedded_agrees_with_the_in_operator(pattern, before, after):
  found = decontaminate.EmbeddedIndex()
  found.add(pattern, 7)
  text = before + pattern + after
  whole = any(
    decontaminate.is_whole(text, i, i + len(pattern)) for i in range(len(text)) if text.startswith(pattern, i)
  )
  assert found.find(text) == (7 if whole else None)
  assert found.find(before + after) is None or pattern in before + after


def test_no_false_alarm_on_disjoint_words_and_all_of_a_thousand_leaks():
  rng = random.Random(0)

  def story(vocabulary, length):
    return " ".join(rng.choice(vocabulary) for _ in range(length))

  left, right = [[f"{side}{i}" for i in range(300)] for side in "lr"]
  problems = [Problem.create("t", story(left, rng.randint(8, 60)), solution=story(left, 50)) for _ in range(500)]
  index = TestIndex({"t": problems})
  assert all(index.check(story(right, 40), story(right, 80)).hit is None for _ in range(1000))
  for number, problem in enumerate(problems):
    for text in (problem.question.upper(), f"Well, {problem.question} so?"):
      assert index.check(text, story(right, 20)).hit.row.index == number
    assert index.check(story(right, 20), f"{story(right, 5)} {problem.solution}").hit.row.index == number


SPELLINGS = [
  ("\\dfrac{1}{2}", "\\frac12", "\\tfrac{1}2", "$\\frac 1 2$"),
  ("x^{2} \\leq 3", "x^2 \\le 3", "x² ≤ 3", "\\(x^2 \\le\\, 3\\)"),
  ("\\left( 3, \\infty \\right]", "(3,\\infty]", "\\big(3,\\;\\infty\\big]"),
  ("3 \\cdot 4 \\text{ cm}", "3 × 4 cm", "3 \\times 4\\mbox{ cm}", "3 \\times 4\\ \\mathrm{cm}"),
  ("1, 2, \\ldots", "1, 2, …", "1,\\,2,\\dots"),
  ("50\\% of it", "50% of it"),
  ("“Ann”–Bob", '"Ann"-Bob'),
]


@pytest.mark.parametrize("spellings", SPELLINGS)
def test_one_formula_in_many_spellings(spellings):
  assert len({normalize(text) for text in spellings}) == 1


def test_what_differs_stays_different():
  texts = ["\\frac{1}{2}", "\\frac{1}{3}", "\\sqrt{2}", "x^2", "x_2", "x\\le 2", "x\\ge 2", "x \\ne 2", "\\leftarrow A",
           "\\rightarrow A", "2 + 3", "2 - 3"]  # fmt: skip
  assert len({normalize(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("folder", [SHARED] if (SHARED / "agieval" / "math.jsonl").exists() else [])
def test_real_sets_give_the_known_counts(folder):
  """AGIEval's math subset is MATH test; counts as in an independent measurement (exact / 30 / 13 / 10 words)."""
  test = [Problem.create("math", row["problem"]) for row in rows_of(folder / "math" / "test.jsonl")]
  index = TestIndex({"math": test})
  agieval = [index.check(row["question"], "") for row in rows_of(folder / "agieval" / "math.jsonl")]
  assert [verdict.hit.kind for verdict in agieval] == ["exact"] * 1000
  assert [sum(v.longest_run >= n for v in agieval) for n in (30, 13, 10)] == [405, 805, 873]
  train = [index.check(row["problem"], "") for row in rows_of(folder / "math" / "train.jsonl.gz")]
  assert [sum(v.longest_run >= n for v in train) for n in (30, 13, 10)] == [90, 517, 1096]
  # three that a plain normaliser sees, and two that differ in x^{2} / x^2 and \\ne / \\neq only
  assert sum(v.hit is not None and v.hit.kind == "exact" for v in train) == 5


def test_seed_problems_that_are_test_problems_are_counted():
  tests = {"a": [Problem.create("a", "What is $\\frac12$ of 8?"), Problem.create("a", "2 + 2 = ?")], "b": []}
  seeds = [Problem.create("s", "What is \\dfrac{1}{2}  of 8?"), Problem.create("t", "2+2=?"), Problem.create("t", "3?")]
  assert decontaminate.exact_overlap(seeds, tests) == {"s": {"a": 1}, "t": {"a": 1}}
  assert decontaminate.exact_overlap(seeds[2:], tests) == {}
