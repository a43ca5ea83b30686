"""Methods that make new questions: Xwin in one reply, Evol step by step."""

import pytest

from skymath_jax.records import Instance
from skymath_jax.synthesis import Rejected, Rejection
from tests.support.methods import FINAL, GOOD, MIA, XWIN, augment, chosen, refused


def test_xwin_takes_the_text_under_the_last_heading_and_joins_solution_and_answer():
  [made], ask = augment("xwin", XWIN + FINAL, "SOLUTION:\nIt is 2.\nFINAL ANSWER: 2.\n")
  assert made.query == "Ann has 2 pens.\nHow many pens?"
  assert (made.response, made.answer, made.method) == ("It is 2.\nThe answer is 2", "2", "xwin")
  assert made.gold_match is None and not made.pseudo_gold
  assert [name for name, _ in ask.asked] == ["xwin/create", "xwin/solve"]
  assert made.prompt["name"] == "xwin/solve" and made.prompt["question"].startswith("xwin/create@")


def test_headings_may_be_bold():
  bold = "**CREATED QUESTION:** a\n## VERIFICATION AND MODIFICATION: b\n**FINAL CREATED QUESTION:**\nWhat is 2?"
  [made], _ = augment("xwin", bold, "**SOLUTION:**\nIt is 2.\n**FINAL ANSWER:** 2")
  assert (made.query, made.answer) == ("What is 2?", "2")
  real = "Sure!\n\nCreated QUESTION:\na\n\n---\n### 2. Verification and Modification\nb\n**Final Created Question**:\n"
  [made], _ = augment("xwin", real + "What is 2?", "It is twice 1.\n\nThe final answer is:\n\\[ \\boxed{2} \\]")
  assert (made.query, made.answer) == ("What is 2?", "2")


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (None, "truncated"),
    ("Ann has 2 pens.", "section_missing"),
    (XWIN, "section_missing"),
    (FINAL, "section_missing"),
    (XWIN + FINAL + FINAL, "section_repeated"),
    (FINAL + XWIN, "sections_out_of_order"),
    ("Ann asks.\n" + XWIN + FINAL, "sections_out_of_order"),
    (XWIN + "FINAL CREATED QUESTION:\n", "empty_section"),
    (XWIN + FINAL + "The answer is 2.", "answer_in_question"),
    (XWIN + FINAL + "Ask this. SOLUTION: 2", "label_in_question"),
    (XWIN + "FINAL CREATED QUESTION: " + MIA.question.upper(), "unchanged"),  # seen of a real 0.5B teacher
  ],
)
def test_bad_creations_are_rejected(text, reason):
  assert refused("xwin", text) == reason


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (None, "truncated"),
    ("It is 2.", "no_answer_line"),
    ("SOLUTION: It is 2.", "no_answer_line"),
    ("FINAL ANSWER: 2\nSOLUTION: It is 2.", "sections_out_of_order"),
    ("SOLUTION:\nFINAL ANSWER: 2", "empty_section"),
    ("SOLUTION: a\nFINAL ANSWER:", "empty_section"),
    ("SOLUTION: a\nFINAL ANSWER: 2\nor 3", "answer_of_several_lines"),
    ("SOLUTION: a\nThe answer is 3\nFINAL ANSWER: 2", "several_answer_lines"),
    ("SOLUTION: a\nFINAL ANSWER: .", "empty_answer"),
  ],
)
def test_bad_xwin_solutions_are_rejected(text, reason):
  assert refused("xwin", XWIN + FINAL, text) == reason


def evolve(*replies, steps, elimination=True, rng_seed=0):
  settings = chosen(evol_steps=steps, evol_elimination=elimination)
  return augment("evol", *replies, settings=settings, rng_seed=rng_seed)


def test_evol_is_a_chain_in_which_each_problem_is_the_parent_of_the_next():
  questions = [f"Mia has {n} apples and sells some. How many?" for n in (11, 12, 13)]
  made, ask = evolve(questions[0], GOOD, questions[1], GOOD, questions[2], GOOD, steps=3)
  assert [instance.query for instance in made] == questions
  assert [instance.parents for instance in made] == [(MIA.id,), (made[0].id,), (made[1].id,)]
  evolutions = ask.asked[::2]
  assert [fields["question"] for _, fields in evolutions] == [MIA.question, questions[0], questions[1]]
  assert [instance.method for instance in made] == [name.replace("/", ".") for name, _ in evolutions]
  assert all(instance.gold_match is None and instance.level == 2 for instance in made)


def test_all_five_operations_are_drawn():
  drawn = set()
  for rng_seed in range(40):
    made, _ = evolve("A quite new one: 7?", GOOD, steps=1, rng_seed=rng_seed)
    drawn.add(made[0].method)
  assert drawn == {f"evol.{o}" for o in ("new_problem", "add_constraint", "deepen", "concretize", "add_reasoning")}


def test_after_a_failed_step_the_parent_stays():
  first, third = "Mia has 11 apples. How many?", "Mia has 12 apples. How many?"
  made, ask = evolve(first, GOOD, "", third, GOOD, steps=3)
  assert [type(m) for m in made] == [Instance, Rejected, Instance]
  assert made[1].problem_id == made[0].id and made[1].reason == "empty" and made[1].method.startswith("evol.")
  assert made[2].parents == (made[0].id,)
  assert ask.asked[3][1]["question"] == first


def test_a_step_that_the_teacher_did_not_answer_fails_alone():
  made, _ = evolve(Rejection("error: gone"), "Mia has 12 apples?", GOOD, steps=2)
  assert made[0].reason == "error: gone" and made[1].parents == (MIA.id,)


SORRY = "I am sorry, I cannot.\nThe answer is 0"
ELIMINATED = [
  (["mia has 5 APPLES; she buys 3 more! How many apples has she now"], "no_gain"),
  (["Mia has 5 apples. How many apples has she now?"], "no_gain"),
  (["Mia has 11 apples. New problem: Mia?"], "label_in_question"),
  (["Mia has 11 apples?", SORRY], "sorry"),
  (["Mia has 11 apples?", "... , and it is\nThe answer is that"], "only_stop_words"),
]


@pytest.mark.parametrize(("replies", "reason"), ELIMINATED)
def test_the_four_elimination_rules(replies, reason):
  [made], _ = evolve(*replies, steps=1)
  assert made.reason == reason
  replies = replies if len(replies) == 2 else [*replies, GOOD]
  [kept], _ = evolve(*replies, steps=1, elimination=False)
  assert isinstance(kept, Instance)


def test_a_long_solution_may_say_sorry():
  text = "sorry " + "word " * 90 + "\nThe answer is 3"
  [made], _ = evolve("Mia has 11 apples?", text, steps=1)
  assert isinstance(made, Instance)
