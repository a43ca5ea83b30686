"""The oracle: forward and backward questions, and everything that is not a question of the world."""

import random
import time

import pytest

from skymath_jax.problems.micro_gsm import algebra, draw, lexicon, oracle, puzzle
from skymath_jax.problems.micro_gsm.story import Story, draw_scene


def stories(count, seed):
  rng = random.Random(seed)
  for i in range(count):
    yield Story.draw(draw.draw_program(rng, 1 + i % 5), draw_scene(rng), rng), rng


def test_forward_on_a_thousand_problems():
  for story, _ in stories(1000, 0):
    solved = oracle.solve(story.question)
    assert solved is not None, story.question
    assert (solved.answer, solved.key) == (draw.answer_of(story.program), story.program.key)
    assert solved.level == draw.level_of(story.program) and not solved.backward


def test_parsing_restores_scene_and_program():
  for story, _ in stories(300, 1):
    parsed = oracle.parse(story.question)
    assert parsed.program == story.program
    assert (parsed.scene.objects, parsed.scene.subject) == (story.scene.objects, story.scene.subject)
    assert parsed.scene.persons[: story.program.persons] == story.scene.persons[: story.program.persons]


def test_backward_finds_the_hidden_number():
  forms = set()
  for story, rng in stories(1200, 2):
    hidden = puzzle.hide(story, rng)
    if hidden is None:
      continue
    solved = oracle.solve(hidden.question)
    i, j = hidden.place
    relation = story.program.final if i == puzzle.FINAL else story.program.relations[i]
    number = relation.numbers[j]
    expected = 100 // number if relation.kind in ("keep", "lossf") else number
    assert solved is not None, hidden.question
    assert solved.answer == expected and solved.backward
    assert solved.problem_key == story.program.key and solved.split == "train"
    assert solved.key != solved.problem_key
    forms.add((hidden.verification, relation.kind))
  assert len(forms) > 25


SOLVED = [
  ("Mia has 4 bags of 6 shells each. How many shells does Mia have now?", 24, 1),
  ("The girl has 40 things. She loses 25% of the things. How many things does she have now?", 30, 2),
  ("Mia has 40 shells. Leo has half as many shells as Mia. How many more shells does Mia have than Leo?", 20, 2),
  ("Mia has 30 shells. She keeps only 30% of the shells. How many shells does she have now?", 9, 1),
  ("Mia has X shells. Mia finds 9 more shells. Mia has 23 shells now. What is the value of X?", 14, 1),
  ("Leo has 40 eggs. He uses X% of the eggs. How many eggs does he have now? We are told that the answer to this is 30."
   " What is the value of X?", 25, 2),
  ("Mia has X shells. Leo has 3 times as many shells as Mia. They have 80 shells together. What is the value of X?",
   20, 2),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "level"), SOLVED)
def test_solved_by_hand(question, answer, level):
  solved = oracle.solve(question)
  assert (solved.answer, solved.level) == (answer, level)
  assert oracle.check(question, f" {answer}") == (True, True)
  assert oracle.check(question, answer + 1) == (True, False)


END = " How many shells does Mia have now?"
REFUSED = {
  "no text": "",
  "no question": "Mia has 14 shells. Mia finds 9 more shells.",
  "question only": "How many shells does Mia have now?",
  "nothing to compute": "Mia has 14 shells." + END,
  "word missing": "Mia has 14. Mia finds 9 more shells." + END,
  "word twice": "Mia has has 14 shells. Mia finds 9 more shells." + END,
  "broken number": "Mia has 1 4 shells. Mia finds 9 more shells." + END,
  "leading zero": "Mia has 014 shells. Mia finds 9 more shells." + END,
  "endless number": f"Mia has {'9' * 5000} shells. Mia finds 9 more shells." + END,
  "endless answer": f"Mia has X shells. Mia finds 9 more shells. {END[1:]} We are told that the answer to this is "
  f"{'9' * 5000}. What is the value of X?",
  "foreign digits": "Mia has 1\u0664 shells. Mia finds 9 more shells." + END,
  "zero": "Mia has 14 shells. Mia finds 0 more shells." + END,
  "decimal": "Mia has 1.5 shells. Mia finds 9 more shells." + END,
  "negative number": "Mia has -14 shells. Mia finds 9 more shells." + END,
  "negative result": "Mia has 14 shells. Mia loses 15 shells." + END,
  "result zero": "Mia has 14 shells. Mia loses 14 shells." + END,
  "negative on the way": "Mia has 14 shells. Mia loses 20 shells. Mia finds 30 more shells." + END,
  "uneven": "Mia has 15 shells. She keeps only half of the shells." + END,
  "uneven percent": "Mia has 15 shells. She keeps only 25% of the shells." + END,
  "all of it": "Mia has 15 shells. She keeps only 100% of the shells." + END,
  "other objects": "Mia has 14 shells. Mia finds 9 more stones." + END,
  "other colour": "Mia has 14 red shells. Mia finds 9 more shells." + END,
  "unknown word": "Mia has 14 zebras. Mia finds 9 more zebras. How many zebras does Mia have now?",
  "unknown name": "Zelda has 14 shells. Zelda finds 9 more shells. How many shells does Zelda have now?",
  "wrong pronoun": "Mia has 14 shells. He finds 9 more shells." + END,
  "pronoun for two": "Mia has 14 shells. Leo has 9 shells. She finds 9 more shells. "
  "How many shells do they have together?",
  "three persons": "Mia has 14 shells. Leo has 9 shells. Ben has 3 shells. How many shells do they have together?",
  "second start": "Mia has 14 shells. Mia has 9 shells. Mia finds 9 more shells." + END,
  "gain of nothing": "Mia finds 9 more shells." + END,
  "compared with nobody": "Mia has 14 shells. Mia finds 9 more shells. How many shells does Leo have now?",
  "together with nobody": "Mia has 14 shells. Mia finds 9 more shells. How many shells do they have together?",
  "more than herself": "Mia has 14 shells. Mia has 9 more shells than Mia." + END,
  "difference the wrong way": "Mia has 14 shells. Leo has 9 shells. How many more shells does Leo have than Mia?",
  "units mixed": "Mia finds 4 shells per day for 3 weeks." + END,
  "loss for gain": "Mia has 14 shells. Mia loses 9 more shells." + END,
  "condition of another question": "Mia has 14 shells. Mia sells all the shells for 3 dollars each." + END,
  "packs of another kind": "Mia has 14 shells. Mia puts the shells in bags of 7. How many boxes does Mia fill?",
  "two conditions": "Mia has 14 shells. Mia needs 20 shells in all. Mia needs 20 shells in all. "
  "How many more shells does Mia need?",
  "after the condition": "Mia has 14 shells. Mia needs 20 shells in all. Mia finds 2 more shells. "
  "How many more shells does Mia need?",
  "another eats for money": "Mia has 14 shells. Mia eats all the shells for 3 dollars each. "
  "How many dollars does Mia get in all?",
  "X without tail": "Mia has X shells. Mia finds 9 more shells." + END,
  "tail without X": "Mia has 14 shells. Mia finds 9 more shells. Mia has 23 shells now. What is the value of X?",
  "two X": "Mia has X shells. Mia finds X more shells. Mia has 23 shells now. What is the value of X?",
  "no such X": "Mia has X shells. Mia finds 9 more shells. Mia has 5 shells now. What is the value of X?",
  "fractional X": "Mia has X bags of 6 shells each. Mia has 23 shells now. What is the value of X?",
  "X does not matter": "Mia has X shells. Leo has 5 shells. Leo finds 4 more shells. Leo has 9 shells now. "
  "What is the value of X?",
  "FOBAR answer no number": "Mia has X shells. Mia finds 9 more shells."
  + END
  + " We are told that the answer to this is"
  " many. What is the value of X?",
  "answer given away": "Mia has 14 shells. Mia finds 9 more shells." + END + " The answer is 23",
  "joined sentences": "Mia has 14 shells.Mia finds 9 more shells." + END,
  "small letter": "mia has 14 shells. then Mia finds 9 more shells." + END,
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
  assert oracle.solve(REFUSED[case]) is None
  assert oracle.check(REFUSED[case], "23") == (False, False)


def test_a_dropped_word_is_noticed():
  """Without one of its words a question is refused, or means the same; the words that may go are few."""
  harmless = []
  for story, rng in stories(400, 3):
    words = story.question.split(" ")
    i = rng.randrange(len(words))
    solved = oracle.solve(" ".join(words[:i] + words[i + 1 :]))
    if solved is not None:
      assert solved.key == story.program.key, (words[i], story.question)
      harmless.append(words[i])
  assert len(harmless) < 40 and set(harmless) <= {"Then", "After", "At", *lexicon.ADJECTIVES}


@pytest.mark.parametrize(
  "text", ["X", "What is the value of X?", "\x00" * 50, "😀 has 3 shells.", "a " * 5000, ". . ? "]
)
def test_noise_is_refused(text):
  assert oracle.solve(text) is None


def test_space_around_is_ignored():
  assert oracle.solve("  Mia has 4 bags of 6 shells each. How many shells does Mia have now?\n").answer == 24


def test_hidden_value_equals_exhaustive_search():
  """Solving equations backward agrees with trying every X."""
  for story, rng in stories(150, 4):
    hidden = puzzle.hide(story, rng)
    if hidden is None:
      continue
    built = algebra.system(hidden.hidden.program)
    answer = hidden.answer

    def fits(x, built=built, answer=answer):
      values = algebra.forward(built, x)
      return values is not None and values[built.answer] == answer

    assert [x for x in range(1, 301) if fits(x)] == [algebra.hidden_value(built, answer)]


def test_fast_enough():
  questions = [story.question for story, _ in stories(300, 5)]
  before = time.process_time()
  for question in questions:
    oracle.solve(question)
  assert len(questions) / (time.process_time() - before) > 1000  # 5,000 on a quiet core
