"""Where answers are found in responses and references."""

import time

import pytest

from skymath_jax.grading import answer_of, extract, gold_answer, marked_answer


@pytest.mark.parametrize(
  ("response", "answer"),
  [
    ("So we add.\nThe answer is 42", "42"),
    ("The answer is: 42.", "42"),
    ("The answer is 1.\nNo, wait.\nThe answer is 2", "2"),
    ("The answer is 3.5", "3.5"),
    ("The answer is 7.\nThis is clear.", "7"),
    (r"The answer is $\frac{1}{2}$.", r"$\frac{1}{2}$"),
    ("the answer is 5", None),
    ("It is 5", None),
    ("The answer is", None),
    ("The answer isolated", None),
    ("<think>The answer is 1</think>\nThe answer is 2", "2"),
    ("<think>The answer is 1", None),
  ],
)
def test_the_papers_marker(response, answer):
  assert marked_answer(response) == answer
  assert answer_of(response, "strict") == answer


@pytest.mark.parametrize(
  ("response", "answer"),
  [
    (r"thus \boxed{12} and so", "12"),
    (r"\boxed{1} then \boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
    (r"\fbox{7}", "7"),
    (r"we get \boxed 9.", "9"),
    (r"first \boxed{4}, then \boxed{5 cut off", "4"),
    (r"\boxed{\boxed{3}}", "3"),
    (r"The answer is 5. Check: \boxed{6}", "6"),
    ("steps\n#### 1,234", "1,234"),
    ("#### 3\nmore\n#### 4\n", "4"),
    ("<answer> 17 </answer>", "17"),
    ("The final answer is 5.", "5"),
    ("Therefore, the answer is $x=5$.", "x=5"),
    ("**Answer:** 12", "12"),
    ("Final Answer:\n\n$\\frac{3}{4}$", r"\frac{3}{4}"),
    ("The answer is 3.5 apples. Good.", "3.5 apples"),
    ("A: 18", "18"),
    ("First step 3\nA: $1,200", "$1,200"),
    ("The correct answer is (B).", "B"),
    ("The answer is C. forty", "C"),
    ("I would go with (D)", "D"),
    ("答案是 8。", "8"),
    ("It costs 3 dollars and then 15 dollars", "15"),
    ("total = 1,250.50", "1,250.50"),
    ("she has -4 left", "-4"),
    (r"so we find $x=2$ and finally $y = \sqrt{3}$ here", r"\sqrt{3}"),
    ("We find\n\\[ x = \\frac{7}{2} \\]\nas wanted", r"\frac{7}{2}"),
    ("He pays $5 and she pays $ too, 12 in all", "12"),
    (r"\frac{1}{2}", r"\frac{1}{2}"),
    ("I cannot solve this.", None),
    ("", None),
    ("<think>maybe 5", None),
    ("<think>\\boxed{1}</think>It is \\boxed{2}", "2"),
    ("The answer is", None),
  ],
)
def test_extract(response, answer):
  assert extract(response) == answer


def test_the_last_number_can_be_switched_off():
  assert extract("It costs 3", last_number=False) is None
  assert extract("It costs 3\n#### 3", last_number=False) == "3"


def test_extract_takes_anything():
  assert extract(None) is None
  pieces = {"\\boxed{": 3000, "{": 10_000, "#### ": 5000, "The answer is ": 5000, "$": 5001, "1,": 50_000, "a": 10**6}
  tails = (
    "The answer is 3 (" + "a" * 5000,
    "**" + "1" * 150_000,
    "**1**" * 30_000,
    "**1**" + "!" * 150_000 + "a",
    "or," * 50_000,
  )
  for text in (*(piece * count for piece, count in pieces.items()), *tails):
    extract(text)
    marked_answer(text)


@pytest.mark.parametrize(
  ("text", "gold"),
  [
    (r"so $x=\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
    ("2+2=<<2+2=4>>4\n#### 4", "4"),
    ("step\nThe answer is 9", "9"),
    (" 12 ", "12"),
    (r"\dfrac{3}{4}", r"\dfrac{3}{4}"),
  ],
)
def test_gold_answer(text, gold):
  assert gold_answer(text) == gold


@pytest.mark.parametrize("piece", [" ", "\n", "\n ", "` ", "{ ", "} "])
def test_blanks_without_end_are_looked_through_once(piece):
  start = time.process_time()
  extract(piece * (100_000 // len(piece)) + "x")
  assert time.process_time() - start < 3  # squared, blanks took half a minute
