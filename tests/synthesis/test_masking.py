import time

import pytest

from skymath_jax.synthesis.methods.masking import continued, masks, set_apart, split_question, uses_x

HIDDEN = [
  # prose
  ("Mia has 5 apples and buys 3.", ["5", "3"]),
  ("It costs $5, or $1,234.50 in all.", ["5", "1234.50"]),
  ("She saves 25% of 3.5 liters.", ["25", "3.5"]),
  ("He ate 1/6 of it and 3/4 of the rest.", ["1/6", "3/4"]),
  ("A 5-year-old with $.50", ["5", ".50"]),
  ("Is it -5 degrees?", ["5"]),
  ("A ratio from 3:30 on 1/2/2010", []),
  ("It took 2 1/2 hours.", []),
  ("The 3rd of 20th place, 5cm, A4, room B12, COVID-19", []),
  ("1. How many?\n(2) How much?\n3) Why?", []),
  ("version 1.2.3", []),
  ("12345678 people", ["12345678"]),
  ("她有5个苹果，买了3个。", ["5", "3"]),
  # LaTeX
  (r"What is $120\%$ of 30?", ["120", "30"]),
  (r"$\frac{1}{2} + \sqrt{7}$", ["1", "2", "7"]),
  (r"$x^2 + x^{10} + x^{2n+1} + a_1 + a_{12} + x^{-3} + x^-4$", []),
  (r"$x^{a_{3}+4} + 5$", ["5"]),
  (r"$2x + 3y = 4$", ["4"]),
  (r"$2^{10}$ and $3\sqrt{2}$ and $5\pi$", ["2", "3", "2", "5"]),
  (r"$\frac12$ and $1\frac{3}{4}$", ["3", "4"]),
  (r"$10,\!000$ and $20{,}000$ and $30,000$", ["10000", "20000", "30000"]),
  (r"$(100,200)$ and $(-28,784)$ and $(3,4)$", ["3", "4"]),
  (r"$1011_2$ in base 2, $\log_{10} 7$, $\log_3 9$", ["2", "7", "9"]),
  (r"$\sqrt[3]{8}$, $\hspace{2mm}$, \phantom{0}", ["8"]),
  (r"$30^\circ$ and $\angle A = 60^{\circ}$", ["30", "60"]),
  ("[asy] draw((0,0)--(3,4)); [/asy] The side is 5.", ["5"]),
  ("The side is 5. [asy] draw((0,0));", ["5"]),
  ("Of 5 pens 3 are red. Others?\n(A) 1\n(B) 2\n(C) 8", ["5", "3"]),
  (r"If $n=7$, $n+1$ is $\textbf{(A) }6\qquad\textbf{(B) }8$", ["7", "1"]),
  ("Are there 5? [A] 126 [B] 198", ["5"]),
  ("See part (A) of 3 and 4.", ["3", "4"]),
  (r"$\angle 1 = 9 \cdot \angle A$, $\angle12 = 3$", ["9", "3"]),
  (r"$f(2) = \text{3 cm}$", ["2", "3"]),
  # the letter is taken, or there is nothing to hide
  ("Let X be 5.", []),
  (r"Solve $X + 5 = 7$", []),
  (r"Xavier has 5 pens", ["5"]),
  ("No number here", []),
  ("", []),
]


@pytest.mark.parametrize(("question", "hidden"), HIDDEN)
def test_which_numbers_can_be_hidden(question, hidden):
  found = masks(question)
  assert [mask.hidden for mask in found] == hidden
  for mask in found:  # only the digits go: what stands around them stays
    rest = question[mask.start :]
    assert mask.question.startswith(question[: mask.start] + "X")
    assert rest.endswith(mask.question[mask.start + 1 :]) and uses_x(mask.question)


def test_signs_and_percent_stay():
  assert [m.question for m in masks(r"$5 and -7, 25\% or 1,234%")] == [
    r"$X and -7, 25\% or 1,234%",
    r"$5 and -X, 25\% or 1,234%",
    r"$5 and -7, X\% or 1,234%",
    r"$5 and -7, 25\% or X%",
  ]


SPLITS = [
  ("Mia has 5. She buys 3. How many now?", "Mia has 5. She buys 3.", "How many now?"),
  ("Mia has 5. If she buys 3, how many has she?", "Mia has 5.", "If she buys 3, how many has she?"),
  ("If $x = 3$, what is $x + 1$?", "If $x = 3$,", "what is $x + 1$?"),
  ("If $x = 3$, then find $x$.", "If $x = 3$,", "then find $x$."),
  ("How long is it till the age of driving, which is 18, if she is 13?",
   "", "How long is it till the age of driving, which is 18, if she is 13?"),
  ("Evaluate $2^3$. Enter it in the form $a$, which stands for a number.",
   "", "Evaluate $2^3$. Enter it in the form $a$, which stands for a number."),
  ("Without a calculator, compute $2^3$.", "", "Without a calculator, compute $2^3$."),
  ("When Ann is 9, how old is Tim?", "When Ann is 9,", "how old is Tim?"),
  ("Find $x$ if $2x = 4.$", "", "Find $x$ if $2x = 4.$"),
  ("Let $x=3.$ What is $x$? Express your answer as an integer.",
   "Let $x=3.$", "What is $x$? Express your answer as an integer."),
  ("A line meets point B. Compute its slope.", "A line meets point B.", "Compute its slope."),
  ("It costs 3.5 dollars. What did Mr. Hill pay?", "It costs 3.5 dollars.", "What did Mr. Hill pay?"),
  ("She left at 5 p.m. and ran. When was that?", "She left at 5 p.m. and ran.", "When was that?"),
  ("How far is it? It is 5 km to A and 3 to B.", "", "How far is it? It is 5 km to A and 3 to B."),
  ("他有5个苹果。他还有几个？", "他有5个苹果。", "他还有几个？"),
  ("Tom ran. He sat.", "Tom ran.", "He sat."),
  ("Let $n=3$. Then $n+1$ is\n\n(A) odd.\n\n(B) Even.", "Let $n=3$.", "Then $n+1$ is\n\n(A) odd.\n\n(B) Even."),
  ("Recall that\n\\[ x = 1 \\, .\n\\]Compute $x$.", "Recall that\n\\[ x = 1 \\, .\n\\]", "Compute $x$."),
  ("There are $a$ so that \\[a = 3.\\]Find $a.$", "There are $a$ so that \\[a = 3.\\]", "Find $a.$"),
  ("Let \\[\nx = 4.\n\\] What is $x?$", "Let \\[\nx = 4.\n\\]", "What is $x?$"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "body", "closing"), SPLITS)
def test_where_the_closing_question_begins(question, body, closing):
  assert split_question(question) == (body, closing)


@pytest.mark.parametrize(
  ("body", "statement", "follows"),
  [
    ("If Ann has X pens,", "She needs 9.", "she needs 9."),
    ("If $x = X$,", "The value of $x + 1$ is 4.", "the value of $x + 1$ is 4."),
    ("If $x = X$,", "$x + 1$ is 4.", "$x + 1$ is 4."),
    ("If Ann has X pens,", "Ann needs 9.", "Ann needs 9."),
    ("If Ann has X pens,", "Tim needs 9.", "Tim needs 9."),
    ("If X pens cost 8,", "Pens are 2 each.", "pens are 2 each."),
    ("If Will has X pens,", "Will gives 9 away.", "Will gives 9 away."),
    ("If I am X,", "I was 9 then.", "I was 9 then."),
    ("If A is X away from B,", "A is 9.", "A is 9."),
    ("Ann has X pens.", "She needs 9.", "She needs 9."),
    ("", "She needs 9.", "She needs 9."),
  ],
)
def test_a_statement_behind_a_comma_goes_on_in_lower_case(body, statement, follows):
  assert continued(body, statement) == follows


@pytest.mark.parametrize(
  "piece", ["^{", "_{^{", "^{1}", "\\label{", "(A)", "A. ", "Is it 5? ", "\t", "x, then what 5? ", "\n", "\n "]
)
def test_the_work_grows_with_the_length_of_the_problem_and_not_with_its_square(piece):
  def seconds(times: int) -> float:
    start = time.process_time()
    for work in (masks, split_question, set_apart):
      work(piece * times)
    return time.process_time() - start

  assert seconds(8_000) < 1 + 12 * seconds(2_000)  # squared, `^{` took nine seconds
  assert seconds(8_000) < 2
