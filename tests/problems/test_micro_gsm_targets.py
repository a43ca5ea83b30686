"""The training text of the micro models: every completion obeys its prompt, judged by the oracle."""

import operator
import re
import sys
from collections import Counter, defaultdict

import pytest

from skymath_jax import prompts
from skymath_jax.problems.micro_gsm import draw, lexicon, oracle, targets

COUNT = 2000
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
SPLIT_SENTENCES = re.compile(r"(?<=[.?]) ")


@pytest.fixture(scope="module")
def examples():
  found = defaultdict(list)
  for name, fields, completion in targets.teacher_examples(COUNT, 11):
    found[name].append((fields, completion))
  return found


@pytest.fixture(scope="module")
def texts():
  return list(targets.base_examples(1200, 1))


def pairs(examples, name):
  """(oracle on the given question, oracle on the written one, given, written)."""
  for fields, completion in examples[name]:
    written = completion.split("FINAL CREATED QUESTION:\n")[-1]
    before, after = oracle.solve(fields["question"]), oracle.solve(written)
    assert before is not None and after is not None, (fields, completion)
    yield before, after, fields["question"], written


def test_shares(examples):
  assert set(examples) == set(targets.SHARES)
  assert abs(sum(targets.SHARES.values()) - 1) < 1e-9
  for name, share in targets.SHARES.items():
    assert abs(len(examples[name]) / COUNT - share) < 0.03
  words = {name: round(sum(len(c.split()) for _, c in found) / len(found), 1) for name, found in examples.items()}
  print(words)
  assert max(words.values()) < 130


def test_the_prompts_take_the_fields(examples):
  for name, found in examples.items():
    fields, completion = found[0]
    text = prompts.load(name).render(**fields)
    assert str(fields["question"]) in text and text.endswith("\n")
    assert completion == completion.strip()


@pytest.mark.parametrize("name", ["metamath/solve", "metamath/solve_backward", "xwin/solve"])
def test_solutions_are_right(examples, name):
  levels, backward = Counter(), 0
  for fields, completion in examples[name]:
    solved = oracle.solve(fields["question"])
    assert solved is not None and solved.split == "train"
    if name == "xwin/solve":
      body, answer = re.fullmatch(r"SOLUTION:\n(.+)\nFINAL ANSWER:\n(\d+)", completion).groups()
    else:
      body, answer = re.fullmatch(r"(.+)\nThe answer is (\d+)", completion).groups()
    assert int(answer) == solved.answer
    assert_equations_hold(body)
    levels[solved.level] += 1
    backward += solved.backward
  assert set(levels) == set(draw.LEVELS)
  if name == "metamath/solve_backward":
    assert backward == len(examples[name])
  else:
    assert levels[5] > levels[1] and 0 < backward / len(examples[name]) < 0.3


def assert_equations_hold(text):
  """Every `a op b = c` between plain numbers is right."""
  for left, op, right, out in re.findall(r"\b(\d+) ([-+*/]) (\d+) = (\d+)", text):
    assert OPERATIONS[op](int(left), int(right)) == int(out), text


def test_backward_solutions_cover_forks(examples):
  texts = [completion for _, completion in examples["metamath/solve_backward"]]
  assert any("Let " in text and " have m " in text for text in texts)
  assert any(re.search(r"\d \* X", text) for text in texts)
  questions = [fields["question"] for fields, _ in examples["metamath/solve_backward"]]
  fobar = sum("We are told that the answer to this is" in question for question in questions)
  assert 0.3 < fobar / len(questions) < 0.7
  assert any("X%" in question for question in questions)


def test_rephrasing_keeps_the_problem(examples):
  for before, after, given, written in pairs(examples, "metamath/rephrase"):
    assert (before.key, before.answer) == (after.key, after.answer) and given != written
    assert scene_words(given) == scene_words(written)


def scene_words(text):
  names = {name for name in lexicon.PERSONS if re.search(rf"\b{name}\b", text, re.IGNORECASE)}
  return names, {noun for noun in lexicon.SUBJECT_OF if re.search(rf"\b{noun}\b", text)}


def test_statements(examples):
  for fields, completion in examples["metamath/declare"]:
    assert fields["question"].endswith("?") and completion.endswith(".")
    assert re.findall(r"\d+", completion) == [str(fields["answer"])]
    assert scene_words(fields["question"]) == scene_words(completion)


@pytest.mark.parametrize("name", ["evol/add_constraint", "evol/add_reasoning", "evol/deepen"])
def test_harder_problems_are_harder(examples, name):
  for before, after, given, written in pairs(examples, name):
    assert after.level > before.level or before.level == after.level == 5
    assert after.level <= 5 and after.split == "train"
    assert len(written.split()) - len(given.split()) <= 20, "the prompt asks for twenty words at most"
    assert scene_words(given)[1] == scene_words(written)[1]
    kept = set(SPLIT_SENTENCES.split(given)) & set(SPLIT_SENTENCES.split(written))
    assert kept or before.level == 1


def test_some_deeper_problems_ask_for_more(examples):
  asked = [(g.rsplit(". ", 1)[1], w.rsplit(". ", 1)[1]) for *_, g, w in pairs(examples, "evol/deepen")]
  assert sum(one != two for one, two in asked) > len(asked) / 3


def test_concrete_problems_are_more_specific(examples):
  kinds = Counter()
  for before, after, given, written in pairs(examples, "evol/concretize"):
    general = oracle.parse(given).scene.general
    assert not oracle.parse(written).scene.general or general is False
    if before.key == after.key:
      assert oracle.parse(written).scene.objects != oracle.parse(given).scene.objects
      kinds["general" if general else "adjective"] += 1
    else:
      assert (after.answer, after.level) == (before.answer, before.level + 1)
      kinds["groups"] += 1
  assert min(kinds[kind] for kind in ("general", "adjective", "groups")) >= 3


def test_new_problems_stay_in_their_field(examples):
  for before, after, given, written in pairs(examples, "evol/new_problem"):
    assert before.key != after.key and before.level == after.level
    assert oracle.parse(given).scene.subject == oracle.parse(written).scene.subject
    assert not after.backward


def test_created_questions_are_verified_and_mended(examples):
  flawed = 0
  form = r"CREATED QUESTION:\n(.+)\nVERIFICATION AND MODIFICATION:\n(.+)\nFINAL CREATED QUESTION:\n(.+)"
  for _, completion in examples["xwin/create"]:
    created, verdict, final = re.fullmatch(form, completion).groups()
    assert oracle.solve(final).split == "train"
    if created == final:
      assert verdict.endswith("The question makes sense.")
      continue
    flawed += 1
    assert oracle.solve(created) is None
    wrong, right = re.search(r" Change (\d+) to (\d+)\.$", verdict).groups()
    assert re.search(rf"\b{wrong}\b", created) and re.search(rf"\b{right}\b", final)
    assert re.search(r"\d+ [-/] \d+ is (no whole number|too small)\.", verdict)
  assert 0.1 < flawed / len(examples["xwin/create"]) < 0.4


def test_no_text_holds_a_test_problem(examples, texts):
  for name, found in examples.items():
    for fields, completion in found:
      for text in (fields["question"], *completion.split("\n")):
        solved = oracle.solve(str(text))
        assert solved is None or solved.split == "train", (name, text)
  for text in texts:
    solved = oracle.solve(text)
    assert solved is None or solved.split == "train"


def test_base_text_answers_nothing(texts):
  assert not any("he answer is" in text or "SOLUTION" in text or "ANSWER" in text for text in texts)
  asked = [text for text in texts if "?" in text]
  assert 0.2 < len(asked) / len(texts) < 0.4
  assert all("=" not in text for text in asked)  # what asks is never computed, what is computed never asks
  for text in asked:
    answers = {oracle.solve(line).answer for line in text.split("\n")}
    assert len(answers) == 1, text
  for text in texts:
    assert_equations_hold(text)
  computed = [text for text in texts if "?" not in text]
  assert all("=" in text for text in computed)
  assert any(re.search(r": \d+ / \d+ = \d+ and \d+ - \d+ = \d+\.", text) for text in computed)


def test_stories_that_are_told_and_then_computed_are_short(texts):
  found = [text for text in texts if text.count("\n") == 1 and "?" not in text]
  assert found
  for text in found:
    story, computation = text.split("\n")
    assert "=" not in story and 1 <= computation.count("=") <= 2, text


def test_deterministic():
  assert list(targets.teacher_examples(40, 5)) == list(targets.teacher_examples(40, 5))
  assert list(targets.teacher_examples(40, 5)) != list(targets.teacher_examples(40, 6))
  assert list(targets.base_examples(40, 5)) == list(targets.base_examples(40, 5))
  assert list(targets.teacher_examples(40, 5))[:10] == list(targets.teacher_examples(10, 5))
  assert list(targets.teacher_examples(0, 5)) == []


def test_few_words_are_enough(examples):
  """The vocabulary beyond numbers and the prompts' own text."""
  words = set()
  for fields, completion in (example for found in examples.values() for example in found):
    words |= set(re.findall(r"[A-Za-z]+", f"{fields['question']} {completion}"))
  print(len(words), "words")
  assert len(words) <= 350


def test_sentences_show_the_whole_language():
  text = "\n".join(targets.sentences(900, 0))
  for name in prompts.names():
    if name.startswith(("evol", "xwin", "metamath/s", "metamath/r")) and not name.endswith("_question"):
      assert prompts.load(name).literals[0][:40] in text
  assert all(noun in text for noun in lexicon.SUBJECT_OF)
  assert all(name in text for name in (*lexicon.GIRLS, *lexicon.BOYS))
  assert "tensorflow" not in sys.modules
