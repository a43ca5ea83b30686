import contextlib
import time

import pytest

from skymath_jax import prompts
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis import Rejected, Rejection
from skymath_jax.synthesis.methods import metamath
from tests.support.methods import FINAL, GOOD, MIA, XWIN, augment, chosen, refused

SOLUTIONS = [
  (GOOD, "5 + 3 = 8\nThe answer is 8", "8"),
  ("  a\r\nb\n\nThe answer is: \\frac{1}{2}.\n\n", "a\nb\nThe answer is \\frac{1}{2}", "\\frac{1}{2}"),
  ("So.\n**The answer is 1,234.**", "So.\nThe answer is 1,234", "1,234"),
  ("So.\nThe answer is 3.5", "So.\nThe answer is 3.5", "3.5"),
  ("So.\nThe answer is $x=2$.", "So.\nThe answer is $x=2$", "$x=2$"),
  ("It is 8. The answer is 8.", "It is 8.\nThe answer is 8", "8"),
  # what real models write instead
  ("Sum.\nThe answer is 8.\n\nI hope this helps!", "Sum.\nThe answer is 8", "8"),
  *(
    (f"Sum.\nThe answer is{form}", "Sum.\nThe answer is 8", "8")
    for form in (
      " ${8}$",
      " \\fbox{8}",
      " 8</answer>",
      " $\\boxed{\\text{8}}$.",
      " 8\n\n---",
      " $\\color{red}{8}$.",
      " <b>8</b>.",
      " $\\mathbf{8}$.",
      " \\textbf{8}.",
      "：8",
      " 8。",
    )
  ),
  ("Sum.\n\\boxed{The answer is 8}", "Sum.\nThe answer is 8", "8"),
  ("Sum.\nThe answer is $\\mathbf{i}$", "Sum.\nThe answer is $\\mathbf{i}$", "$\\mathbf{i}$"),
  ("Sum.\n**The answer is:** **8**", "Sum.\nThe answer is 8", "8"),
  ("Sum.\nThe answer is 8.\n\nThe answer is 8", "Sum.\nThe answer is 8", "8"),
  ("Solution:\n5 + 3 = 8\n\nThe answer is `8`.", "5 + 3 = 8\nThe answer is 8", "8"),
  ("```\n5 + 3 = 8\nThe answer is 8\n```", "5 + 3 = 8\nThe answer is 8", "8"),
  ("Sum.\n\nThe answer is:\n\\[\n\\boxed{8}\n\\]", "Sum.\nThe answer is 8", "8"),
  ("Sum.\nThe answer is \\(\\frac{1}{2}\\).", "Sum.\nThe answer is $\\frac{1}{2}$", "$\\frac{1}{2}$"),
  ("So.\nThe answer is $\\boxed{8}$ apples.", "So.\nThe answer is 8", "8"),
  ("She has \\(\\boxed{8}\\) apples.", "She has \\(\\boxed{8}\\) apples.\nThe answer is 8", "8"),
  ("Sum.\n\nThus \\boxed{1} and \\boxed{2}.", "Sum.\n\nThus \\boxed{1} and \\boxed{2}.\nThe answer is 1, 2", "1, 2"),
  ("5 + 3 = 8.\nSo the final answer is 8.", "5 + 3 = 8.\nThe answer is 8", "8"),
  ("5 + 3 = 8.\n\n### Final Answer\n8", "5 + 3 = 8.\nThe answer is 8", "8"),
  ("5 + 3 = 8.\n**Answer:** 8 apples", "5 + 3 = 8.\nThe answer is 8 apples", "8 apples"),
  ("5 + 3 = 8.\n#### 8", "5 + 3 = 8.\nThe answer is 8", "8"),
  # a small model repeats the order it was given, the answer, or adds a remark
  (
    '5 + 3 = 8.\n\n2. **Write the last line: "The answer is", then the answer.**\nThe answer is 8.',
    "5 + 3 = 8.\nThe answer is 8",
    "8",
  ),
  ('I end with "The answer is".\n\n5 + 3 = 8.\n\nThe answer is: 8', "5 + 3 = 8.\nThe answer is 8", "8"),
  ('5 + 3 = 8.\nAs the last line we write:\n"The answer is 8."', "5 + 3 = 8.\nThe answer is 8", "8"),
  ("5 + 3 = 8.\n\n3. **Final line:**\n   - The answer is \\(8\\).", "5 + 3 = 8.\nThe answer is 8", "8"),
  ("5 + 3 = 8.\n3. The answer is \\( 8 \\).\n\nThe answer is \\(\\boxed{8}\\).", "5 + 3 = 8.\nThe answer is 8", "8"),
  ("5 + 3 = 8. The answer is 8 apples.\n\nNothing more is needed.", "5 + 3 = 8.\nThe answer is 8 apples", "8 apples"),
  ("So \\[ X = 8 \\]\n\n\\[\n\\boxed{8}\n\\]", "So \\[ X = 8 \\]\n\n\\[\n\\boxed{8}\n\\]\nThe answer is 8", "8"),
  (
    "```\nprint(5 + 3)\n```\nShe has \\(\\boxed{8}\\).\n\nThe code adds both.",
    "```\nprint(5 + 3)\n```\nShe has \\(\\boxed{8}\\).\nThe answer is 8",
    "8",
  ),
]


@pytest.mark.parametrize(("text", "response", "answer"), SOLUTIONS)
def test_good_solutions_get_the_one_response_format(text, response, answer):
  [made], _ = augment("answer_augmentation", text)
  assert (made.response, made.answer) == (response, answer)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (None, "truncated"),
    ("", "empty"),
    (" \n ", "empty"),
    ("It is 8.", "no_answer_line"),
    ("So the answer is 8.", "no_solution"),
    ("Sum.\nThe answer is 8.\nBut 5 + 3 = 9.", "answer_not_on_last_line"),
    ("The answer is 7.\nNo:\nThe answer is 8.", "several_answer_lines"),
    ("Sum.\nThe answer is 7. The answer is 8.", "several_answer_lines"),
    ("Sum.\nThe answer is .", "empty_answer"),
    ("Sum.\nThe answer is", "empty_answer"),
    ("The answer is 8.", "no_solution"),
    ("Sum.\nThe answer is 5.\nThe answer is 5 + 3 = 8.\n\nThe answer is 8.", "several_answer_lines"),
    ("Sum.\nThe answer is 8.\n\nWait, that is wrong.", "answer_not_on_last_line"),
    ("Sum.\nThe answer is 8.\n\nHence all have 3 more.", "answer_not_on_last_line"),
  ],
)
def test_bad_solutions_are_rejected_by_every_method_that_solves(text, reason):
  question, statement = "Mia has 5 and gets 3 apples. How many?", "She has 8 apples now."
  assert refused("answer_augmentation", text) == reason
  assert refused("rephrase", question, text) == reason
  assert refused("fobar", text) == reason
  assert refused("self_verification", statement, text) == reason
  [made], _ = augment("evol", question, text)
  assert isinstance(made, Rejected) and made.reason == reason


@pytest.mark.parametrize(
  "piece", ["a", '"', "1", "\n\n", "The answer is ", '"The answer is" ', "final answer ", "- ", "<b>"]
)
def test_reading_takes_time_by_the_length_alone(piece):
  text = piece * (30_000 // len(piece))
  start = time.process_time()
  with contextlib.suppress(Rejection):
    augment("answer_augmentation", f"{text}\nThe answer is 8")
  assert time.process_time() - start < 2  # seconds; by the square it was seven and more


def test_answer_augmentation():
  [made], ask = augment("answer_augmentation", GOOD)
  assert ask.asked == [("metamath/solve", {"question": MIA.question})]
  assert isinstance(made, Instance)
  assert (made.query, made.method, made.parents) == (MIA.question, "metamath.answer_augmentation", (MIA.id,))
  assert (made.gold_match, made.pseudo_gold, made.level, made.tokens) == (True, False, 2, 7)
  assert made.prompt == {"name": "metamath/solve", "hash": prompts.load("metamath/solve").hash}
  assert made.sampling == {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "seed": 0, "max_tokens": 256}
  assert (made.teacher, made.stage, made.synthesis_pass) == ("t@0", 1, 1)


@pytest.mark.parametrize(("answer", "match"), [("8", True), ("8 apples", True), ("9", False), (None, None)])
def test_gold_match_says_what_is_known(answer, match):
  problem = Problem.create("toy", MIA.question, answer=answer)
  [made], _ = augment("answer_augmentation", GOOD, problem=problem)
  assert made.gold_match is match


def test_rephrase_solves_the_new_wording():
  new = "Mia starts with 5 apples and gets 3 more. How many does that make?"
  [made], ask = augment("rephrase", f" {new}\n", GOOD)
  assert ask.asked == [("metamath/rephrase", {"question": MIA.question}), ("metamath/solve", {"question": new})]
  assert (made.query, made.method, made.gold_match) == (new, "metamath.rephrase", True)
  assert made.prompt["question"] == f"metamath/rephrase@{prompts.load('metamath/rephrase').hash}"


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (None, "truncated"),
    ("", "empty"),
    (MIA.question.replace(" ", "  "), "unchanged"),
    ("Mia gets 8.\nThe answer is 8.", "answer_in_question"),
    ("To find it, add: \\(5 + 3 = \\boxed{8}\\)", "answer_in_question"),
    ("Mia has 5.\n\nproblem:\nMia", "label_in_question"),
    ("Mia has 5. New wording: Mia has 6.", "label_in_question"),
  ],
)
def test_bad_rephrasings_are_rejected_before_a_solution_is_paid_for(text, reason):
  assert refused("rephrase", text) == reason


@pytest.mark.parametrize(
  "text",
  [
    "New wording: {}",
    "**New wording:**\n{}",
    "Sure! Here is the problem in other words:\n\n{}",
    "Here's a new wording:\n{}",
    "To say it in other words, we keep all numbers. Here's the new problem:\n\n{}",
    '"{}"',
    "**{}**",
    "{}\n\nSolution:\n5 + 3 = 8",
    "{}\n\n**Answer:** 8",
  ],
)
def test_what_stands_around_a_question_is_not_part_of_it(text):
  question = "Mia starts with 5 apples and gets 3 more. How many does that make?"
  [made], _ = augment("rephrase", text.format(question), GOOD)
  assert made.query == question


@pytest.mark.parametrize(
  "start", ["Consider the following numbers:\n1, 2", "Here is Mia: 5 apples", "Mia has:\n- 5 apples"]
)
def test_a_question_that_begins_like_a_greeting_stays_whole(start):
  [made], _ = augment("rephrase", f"{start}\nand 3 more. How many?", GOOD)
  assert made.query == f"{start}\nand 3 more. How many?"


def test_fobar_hides_one_number_and_tells_the_answer():
  queries = set()
  for rng_seed in range(8):
    [made], ask = augment("fobar", "So 5.\nThe answer is 5", rng_seed=rng_seed)
    assert ask.asked == [("metamath/solve_backward", {"question": made.query})]
    assert made.gold_match is ("Mia has X" in made.query) and not made.pseudo_gold
    queries.add(made.query)
  tail = " How many apples has she now? We are told that the answer to this is 8. What is the value of X?"
  assert queries == {f"Mia has X apples. She buys 3 more.{tail}", f"Mia has 5 apples. She buys X more.{tail}"}
  assert made.method == "metamath.fobar" and made.parents == (MIA.id,)
  assert made.prompt["name"] == "metamath/solve_backward"
  assert made.prompt["question"].startswith("metamath/fobar_question@")


@pytest.mark.parametrize(
  ("answer", "told"),
  [
    ("\\frac{1}{2}", "$\\frac{1}{2}$"), ("2x-8", "$2x-8$"), ("x^2", "$x^2$"), ("$x$ = 1", "$x$ = 1"), ("8", "8"),
    ("8 apples", "8 apples"), ("-3.5", "-3.5"), ("\\text{Evelyn}", "Evelyn"), ("well-known", "well-known"),
    ("1/2", "1/2"), ("A", "A"), ("2677_9", "$2677_9$"), ("\\text{B,E}", "B,E"), ("(\\text{H})", "(H)"),
    ("7\\text{ hours}.", "7 hours"), ("2, 3, \\text{ and } 4", "2, 3, and 4"), ("10,\\!000", "10,000"),
    ("1.85\\ \\text{USD}", "1.85 USD"), ("\\text{A5}_{11}", "$\\text{A5}_{11}$"), ("\\$18.90", "\\$18.90"),
    ("\\frac{11}{15}\\text{ days}", "$\\frac{11}{15}\\text{ days}$"), ("8\\!:\\!34 \\text{ p.m.}", "8:34 p.m."),
  ],
)  # fmt: skip
def test_a_formula_is_told_between_dollar_signs(answer, told):
  [made], _ = augment("fobar", "So.\nThe answer is 5", problem=Problem.create("toy", MIA.question, answer=answer))
  assert f"the answer to this is {told}. What" in made.query


def test_all_numbers_can_be_hidden_in_one_run():
  texts = ["So.\nThe answer is 5", "So.\nThe answer is 4"]
  made, _ = augment("fobar", *texts, settings=chosen(mask_all=True))
  assert [instance.gold_match for instance in made] == [True, False] and made[0].query != made[1].query


def test_a_teachers_answer_makes_a_pseudo_gold():
  problem = Problem(id="i", source="synthetic:xwin", question=MIA.question, answer="8")
  for method, replies in [
    ("fobar", ["So.\nThe answer is 5"]),
    ("self_verification", ["She has 8 apples.", "So.\nThe answer is 5"]),
    ("answer_augmentation", [GOOD]),
  ]:
    [made], _ = augment(method, *replies, problem=problem)
    assert made.pseudo_gold and made.gold_match is not None and made.parents == ("i",)


@pytest.mark.parametrize("method", ["fobar", "self_verification"])
@pytest.mark.parametrize(
  ("question", "answer", "reason"),
  [
    ("Mia has five apples. How many?", "5", "no_number_to_hide"),
    ("Mia has 5 apples. How many?", None, "no_answer_to_tell"),
    ("Mia has 5 apples. How many?", " ", "no_answer_to_tell"),
    ("Mia has X apples and 5 pens. How many?", "5", "no_number_to_hide"),
  ],
)
def test_what_cannot_be_turned_backward_is_rejected_without_a_request(method, question, answer, reason):
  assert refused(method, problem=Problem.create("toy", question, answer=answer)) == reason


def test_self_verification_hides_in_the_body_and_declares_the_question():
  queries = set()
  for rng_seed in range(8):
    [made], ask = augment("self_verification", "Mia has 8 apples now", "So.\nThe answer is 3.", rng_seed=rng_seed)
    assert ask.asked[0] == ("metamath/declare", {"question": "How many apples has she now?", "answer": "8"})
    assert ask.asked[1] == ("metamath/solve_backward", {"question": made.query})
    assert made.gold_match is ("buys X" in made.query)
    queries.add(made.query)
  tail = " Mia has 8 apples now. What is the value of X?"
  assert queries == {f"Mia has X apples. She buys 3 more.{tail}", f"Mia has 5 apples. She buys X more.{tail}"}
  assert made.method == "metamath.self_verification"
  assert "metamath/declare@" in made.prompt["question"] and "self_verification_question@" in made.prompt["question"]


def test_self_verification_never_hides_a_number_of_the_closing_question_if_the_body_has_one():
  problem = Problem.create("toy", "Mia has 5 apples. How many has she after 3 days?", answer="8")
  for rng_seed in range(6):
    [made], _ = augment("self_verification", "She has 8.", "So.\nThe answer is 5", problem=problem, rng_seed=rng_seed)
    assert made.query == "Mia has X apples. She has 8. What is the value of X?"


def test_self_verification_keeps_a_drawing_out_of_the_statement_and_in_the_question():
  drawing = '[asy]\ndraw((0,0)--(3,4)); label("5");\n[/asy]'
  problem = Problem.create(
    "toy", f"A square has side 5. Find $a$.\n\n{drawing}\n\nExpress the answer in feet.", answer="25"
  )
  [made], ask = augment("self_verification", "The value of $a$ is 25.", "So.\nThe answer is 5", problem=problem)
  assert ask.asked[0][1]["question"] == "Find $a$. Express the answer in feet."
  assert made.query == f"A square has side X. The value of $a$ is 25.\n{drawing} What is the value of X?"


@pytest.mark.parametrize("choices", ["(A) 7\n(B) 21\n(C) 9", r"$\textbf{(A)}\ 7\qquad\textbf{(B)}\ 21$"])
def test_self_verification_keeps_the_choices(choices):
  problem = Problem.create("toy", f"Tom walks 3 miles a day. How far does he walk in a week?\n{choices}", answer="B")
  [made], ask = augment("self_verification", "He walks B miles in a week.", "So.\nThe answer is 3", problem=problem)
  assert ask.asked[0][1]["question"] == "How far does he walk in a week?"
  assert made.query == f"Tom walks X miles a day. He walks B miles in a week.\n{choices} What is the value of X?"


def test_self_verification_goes_on_behind_a_comma():
  problem = Problem.create("toy", "If Clover walks 3 miles a day, how far does he walk in a week?", answer="21")
  [made], _ = augment("self_verification", "He walks 21 miles in a week.", "So.\nThe answer is 3", problem=problem)
  assert made.query == "If Clover walks X miles a day, he walks 21 miles in a week. What is the value of X?"


def test_self_verification_of_a_single_sentence_puts_x_into_the_statement():
  problem = Problem.create("toy", r"What is the sum of 3 and $y$?", answer="8")
  [made], ask = augment("self_verification", "The sum of X and $y$ is 8.", "So.\nThe answer is 3", problem=problem)
  assert ask.asked[0][1]["question"] == "What is the sum of X and $y$?"
  assert made.query == "The sum of X and $y$ is 8. What is the value of X?" and made.gold_match
  assert refused("self_verification", "The sum of 3 and $y$ is 8.", problem=problem) == "statement_without_x"


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (None, "truncated"),
    ("Has she 8 apples now?", "not_a_statement"),
    ("She has 8.\nThat is all.", "not_a_statement"),
    ("She has many apples.", "statement_without_answer"),
    ("She says, Statement: she has 8.", "label_in_question"),
  ],
)
def test_bad_statements_are_rejected(text, reason):
  assert refused("self_verification", text) == reason


def test_the_id_is_the_content():
  [first], _ = augment("answer_augmentation", GOOD)
  [same], _ = augment("answer_augmentation", GOOD)
  [other], _ = augment("answer_augmentation", "Else.\n" + GOOD)
  assert first.id == same.id != other.id


def test_several_samples_are_several_instances_of_one_query_and_a_bad_one_costs_no_other():
  bad, other = "It is 8.", "Five and three.\nThe answer is 9"
  made, ask = augment("answer_augmentation", GOOD, bad, other, settings=chosen(samples=3))
  assert [i.answer for i in made] == ["8", "9"] and {i.query for i in made} == {MIA.question}
  assert len({i.id for i in made}) == 2 and [name for name, _ in ask.asked] == ["metamath/solve"] * 3
  for method, before in {
    "rephrase": ["How many are 5 and 3?"],
    "fobar": [],
    "self_verification": ["She has 8."],
  }.items():
    made, _ = augment(method, *before, GOOD, other, settings=chosen(samples=2))
    assert [i.answer for i in made] == ["8", "9"] and made[0].parents == made[1].parents == (MIA.id,)
  first, second = "Mia has 11 apples?", "Mia has 12 apples?"
  made, ask = augment("evol", first, GOOD, other, second, bad, GOOD, settings=chosen(samples=2, evol_steps=2))
  assert [i.query for i in made] == [first, first, second] and made[2].parents == (made[0].id,)
  solved = "SOLUTION:\nIt is 2.\nFINAL ANSWER: 2"
  assert len(augment("xwin", XWIN + FINAL, solved, solved + "5", settings=chosen(samples=2))[0]) == 2
  assert refused("answer_augmentation", bad, "", settings=chosen(samples=2)) == "no_answer_line"


@pytest.mark.parametrize(
  ("statement", "answer", "told"),
  [
    ("She has 3 apples", "3", True), ("She has 13 apples", "3", False), ("She has 3.5 apples", "3", False),
    ("It is 3.", "3", True), ("It is 1.3", "3", False), ("Of 5, 3 are red", "3", True), ("Of 5 $3$", "53", False),
    ("It costs $1,234", "1234", True), ("It costs 1,234,567 dollars", "234", False), ("It is 1234", "1,234", True),
    (r"It is $10,\!000$", "10,000", True), ("There are 1, 234 and 5", "1234", False), ("Roots: 1, 2", "1, 2", True),
    ("Nothing about choice", "B", False), ("It is B", "B", True), ("It is (B).", "(B)", True), ("b it is", "B", False),
    ("The function is Odd", "odd", True), ("Oddly not", "odd", False), (r"It is $\dfrac12$", r"$\frac12$", True),
    ("He needs 7 hours", "7 hours", True), ("It is -3", "-3", True), ("It is A, B and C", "A,B", True),
  ],
)  # fmt: skip
def test_a_statement_tells_the_whole_answer(statement, answer, told):
  assert metamath.tells(statement, answer) is told
