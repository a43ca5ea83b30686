"""The micro world: programs, wording, equations, splits, and the data set."""

import random
import subprocess
import sys
from collections import Counter

import pytest

from skymath_jax.errors import UserError
from skymath_jax.problems.micro_gsm import algebra, builder, draw, grammar, lexicon, oracle, program, solution, wording
from skymath_jax.problems.micro_gsm.program import Program, Relation
from skymath_jax.problems.micro_gsm.story import Choice, Scene, Story, draw_scene

SHELLS = Scene("beach", "shells", ("Mia", "Leo"))


def stories(count, seed, levels=draw.LEVELS):
  rng = random.Random(seed)
  for i in range(count):
    yield Story.draw(draw.draw_program(rng, levels[i % len(levels)]), draw_scene(rng), rng)


def told(*relations, final=("own", 0), scene=SHELLS):
  made = Program(tuple(Relation(*r) for r in relations), Relation(*final))
  return Story(made, scene, (Choice(),) * (len(relations) + 2))


def test_a_story_reads_as_written():
  story = told(("start", 0, (14,)), ("gain", 0, (9,)), ("more", 1, (5,)), final=("total", 2))
  assert story.question == (
    "Mia has 14 shells. Mia finds 9 more shells. Leo has 5 more shells than Mia. How many shells do they have together?"
  )
  assert solution.solution(story.program, story.scene) == (
    "Mia has 14 + 9 = 23 shells. Leo has 23 + 5 = 28 shells. Together they have 23 + 28 = 51 shells.\nThe answer is 51"
  )
  assert story.statement(51) == "They have 51 shells together."


def test_every_wording_of_every_relation_is_read_back():
  """All templates of all kinds, with all fraction phrases, pronouns and verbs, not only those a sample happens on."""
  for kind in wording.BODY:
    numbers = {1: ((2,), (4,), (5,)), 2: ((3, 4),)}[2 if kind in ("groups", "rate", "ggain", "rgain", "rloss") else 1]
    for number in numbers:
      if kind == "cfrac" and number == (5,):
        continue  # a fifth has no word
      for i in range(48):
        choice = Choice(i % 4, bool(i & 4), i & 1, i % 3, (i >> 3) & 1)
        start = Relation("start", 0, (60,))
        second = kind in program.COMPARISONS
        relation = Relation(kind, int(second), number)
        chain = (relation,) if kind in program.STARTS else (start, relation)
        story = Story(
          Program(chain, Relation("own", int(second))), SHELLS, (Choice(), choice, Choice(), choice)[-len(chain) - 2 :]
        )
        solved = oracle.solve(story.question)
        if kind == "start":
          assert solved is None, "nothing to compute"
        else:
          assert solved is not None, story.question
          assert solved.key == story.program.key


def test_no_sentence_has_two_meanings():
  for table in (grammar.BODY, grammar.QUESTIONS, grammar.STATEMENTS):
    for shape, rules in table.items():
      kinds = {rule.kind for rule in rules}
      assert len(kinds) == 1 or kinds == {"rate", "rloss"}, shape  # those two differ by the verb
  assert not {v for s in lexicon.SUBJECTS for v in s.gains} & {v for s in lexicon.SUBJECTS for v in s.losses}


def test_variety():
  assert all(len(templates) >= 3 for templates in wording.BODY.values())
  assert len(lexicon.GIRLS + lexicon.BOYS) == 20 and 30 <= len(lexicon.SUBJECT_OF) <= 36
  seen = Counter(r.kind for story in stories(2000, 1) for r in (*story.program.relations, story.program.final))
  assert set(seen) == set(wording.BODY) | set(wording.QUESTION)
  assert min(seen.values()) >= 20


@pytest.mark.parametrize("level", draw.LEVELS)
def test_quantities_are_small_positive_integers(level):
  for story in stories(300, 2, (level,)):
    built = algebra.system(story.program)
    values = algebra.forward(built)
    assert len(built.equations) == level
    assert all(isinstance(v, int) and 0 < v <= draw.LARGEST for v in values)


def test_questions_are_compact():
  words = {level: [len(s.question.split()) for s in stories(200, 3, (level,))] for level in draw.LEVELS}
  means = {level: sum(counts) / len(counts) for level, counts in words.items()}
  print(means)
  assert means[3] <= 40 and means[5] <= 55
  steps = [len(solution.solution(s.program, s.scene).split()) for s in stories(200, 4, (3,))]
  assert sum(steps) / len(steps) <= 40


def test_more_than_a_million_problems():
  """One shape of many alone, start then gain then loss then goal, counted exactly within the drawn ranges."""
  count = sum(39 * (min(60, a + b - 1) - 1) for a in range(3, 61) for b in range(2, min(60, 150 - a) + 1) if a + b >= 3)
  assert count > 5_000_000
  keys = [s.program.key for s in stories(6000, 5, (3, 4, 5))]
  assert len(set(keys)) > 0.995 * len(keys)


def test_splits_are_disjoint_by_key():
  rng = random.Random(6)
  for split in program.SPLITS:
    for level in draw.LEVELS:
      assert all(draw.draw_program(rng, level, split).split == split for _ in range(10))
  share = sum(program.split_of(f"key {i}") == "test" for i in range(5000)) / 5000
  assert 0.08 < share < 0.12


def test_the_key_ignores_wording_names_and_objects_only():
  rng = random.Random(7)
  for story in stories(100, 8):
    other = Story.draw(story.program, draw_scene(rng), rng)
    assert oracle.solve(other.question).key == story.program.key
  one, two = told(("start", 0, (5,)), ("gain", 0, (3,))), told(("start", 0, (5,)), ("gain", 0, (4,)))
  assert one.program.key != two.program.key


def test_problems():
  train, test = builder.problems("train"), builder.problems("test")
  assert (len(train), len(test)) == (1200, 500)
  assert Counter(p.level for p in test) == dict.fromkeys(draw.LEVELS, 100)
  assert Counter(p.level for p in train) == {1: 360, 2: 324, 3: 240, 4: 156, 5: 120}
  keys = {}
  for problem in train + test:
    solved = oracle.solve(problem.question)
    assert (str(solved.answer), solved.level) == (problem.answer, problem.level)
    assert problem.solution.endswith(f"\nThe answer is {problem.answer}")
    assert problem.license == "Apache-2.0" and problem.subject and problem.source == "micro_gsm"
    keys[solved.key] = problem
  assert len(keys) == 1700 and len({p.id for p in train + test}) == 1700
  assert all(oracle.solve(p.question).split == "test" for p in test)


def test_problems_depend_on_the_seed_only():
  first = builder.problems("train", 20, rng_seed=3)
  for other in range(4, 20):  # more than are remembered
    builder.problems("train", 1, rng_seed=other)
  assert builder.problems("train", 20, rng_seed=3) == first
  assert builder.problems("train", 20, rng_seed=4) != first
  assert builder.problems("train", 0) == [] and len(builder.problems("test", 7)) == 7
  first.clear()
  assert len(builder.problems("train", 20, rng_seed=3)) == 20, "the caller's list is its own"


def test_unknown_split():
  with pytest.raises(UserError, match=r"no split 'dev'.*train or test"):
    builder.problems("dev")


def test_tfds_without_tensorflow(tmp_path):
  code = f"""
import sys
from skymath_jax.problems.micro_gsm import builder
assert builder.read({str(tmp_path)!r}, "test") == builder.problems("test")
source = builder.prepare({str(tmp_path)!r}).as_data_source("train")
assert len(source) == 1200 and source[5]["question"].decode() == builder.problems("train")[5].question
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
  assert list(tmp_path.rglob("*.array_record*"))
