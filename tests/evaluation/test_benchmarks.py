"""Benchmarks by name: options, MATH-500, distractors that leave the answer alone, files in any language, task files."""

import json
import re
from pathlib import Path

import pytest

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.evaluation import folder_name, lm_eval, load_benchmark
from skymath_jax.evaluation.benchmarks import math500_ids
from skymath_jax.evaluation.distractors import PERSONS, SENTENCES, weave
from skymath_jax.evaluation.template import Template
from skymath_jax.problems import catalog
from skymath_jax.records import Problem, stable_id

MATH_TEST = Path(__file__).parents[3] / "shared" / "data" / "math" / "test.jsonl"
STORY = Problem.create("t", "Mr. Lee has 4 pens. He buys 3.5 more boxes! How many pens has Esi?", answer="7")


def test_a_file_in_any_language(tmp_path):
  path = tmp_path / "zh.jsonl"
  lines = [{"id": "a", "question": "小明有3支笔，又买了4支。他一共有几支笔？", "answer": "#### 7", "language": "zh"}]
  path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
  [problem] = load_benchmark(str(path), catalog.load)
  assert (problem.id, problem.answer) == ("a", "7")
  [woven] = load_benchmark(f"{path}@distractors2", catalog.load)
  assert woven.question.endswith("他一共有几支笔？") and len(woven.question) > len(problem.question) + 20


def test_bad_benchmarks_are_refused():
  with pytest.raises(UserError, match="no problems"):
    load_benchmark("x", lambda name: [])
  with pytest.raises(UserError, match="no option 'distractors6'"):
    load_benchmark("x@distractors6", lambda name: [STORY])
  with pytest.raises(UserError, match="no answer"):
    load_benchmark("x", lambda name: [Problem.create("t", "q")])


def test_any_number_of_micro_problems():
  found = load_benchmark("micro_gsm:test*30", catalog.load)
  assert len(found) == 30 and len({p.id for p in found}) == 30
  for bad in ("micro_gsm:test*", "micro_gsm:test*0", "micro_gsm:test*-3"):
    with pytest.raises(UserError, match="no number of problems"):
      catalog.load(bad)


@pytest.mark.parametrize("count", range(1, 6))
def test_distractors_leave_the_problem_whole(count):
  woven = weave(STORY, count)
  assert (woven.id, woven.answer) == (STORY.id, STORY.answer)
  rest = woven.question
  for sentence in ("Mr. Lee has 4 pens.", "He buys 3.5 more boxes!", "How many pens has Esi?"):
    assert sentence in rest
    rest = rest.replace(sentence, "")
  assert woven.question.endswith("How many pens has Esi?")
  assert len(re.findall(r"[.]", rest)) == count and "Esi" not in rest  # a person of the problem is never one of theirs
  assert weave(STORY, count) == woven and weave(STORY, count, rng_seed=1) != woven


def test_distractors_are_nested_and_varied():
  five = weave(STORY, 5).question
  for count in range(1, 5):
    kept = weave(STORY, count).question
    extra = kept
    for sentence in ("Mr. Lee has 4 pens.", "He buys 3.5 more boxes!", "How many pens has Esi?"):
      extra = extra.replace(sentence, "|")
    assert all(piece.strip() in five for piece in extra.split("|"))
  others = {weave(Problem.create("t", f"A is {i}. What is A?", answer="1"), 1).question for i in range(60)}
  assert len(others) == 60 and len(SENTENCES) >= 15 and len(PERSONS) >= 10


def test_math500_is_found_by_id_and_only_whole():
  assert len(math500_ids()) == 500 and all(re.fullmatch(r"[0-9a-f]{8}", id) for id in math500_ids())
  problems = [Problem(id=f"{id}00000000", source="math", question="q", answer="1") for id in sorted(math500_ids())]
  others = [Problem.create("math", f"other {i}", answer="1") for i in range(20)]
  assert load_benchmark("math500", lambda name: [*others, *problems] if name == "math:test" else []) == problems
  with pytest.raises(UserError, match="499 of the 500"):
    load_benchmark("math500", lambda name: problems[1:])


@pytest.mark.skipif(not MATH_TEST.exists(), reason="needs ../shared/data/math/test.jsonl beside the clone")
def test_math500_in_the_real_set():
  def load(name):
    assert name == "math:test"
    rows = [json.loads(line) for line in MATH_TEST.read_text().splitlines()]
    return [
      Problem(id=stable_id("math", r["problem"].strip()), source="math", question=r["problem"], answer="1",
              level=int(r["level"][-1]))
      for r in rows
    ]  # fmt: skip

  found = load_benchmark("math500", load)
  assert [sum(p.level == level for p in found) for level in range(1, 6)] == [43, 90, 105, 128, 134]


def test_folder_names():
  assert folder_name("micro_gsm:test*50@distractors2") == "micro_gsm_test_50_distractors2"
  assert folder_name("/data/my set.jsonl") == "my_set"


def test_lm_eval_task_holds_the_prompt_the_problems_and_the_pattern(tmp_path):
  frame = prompts.load("sft/alpaca")
  names = lm_eval.write(tmp_path, {"micro_gsm:test": [STORY]}, Template(frame), max_tokens=160)
  assert names == ["skymath_micro_gsm_test"]
  task = (tmp_path / "lm_eval" / f"{names[0]}.yaml").read_text()
  fields = dict(re.findall(r"^\s*-?\s*(\w+): (\".*\")$", task, re.MULTILINE))
  prompt = json.loads(fields["doc_to_text"])
  assert prompt.replace("{{ question }}", STORY.question) == frame.render(query=STORY.question)
  [row] = [json.loads(line) for line in (tmp_path / "lm_eval" / f"{names[0]}.jsonl").read_text().splitlines()]
  assert (row["question"], row["answer"]) == (STORY.question, "7")
  pattern = json.loads(fields["regex_pattern"])
  for text, answer in (
    ("So 3 + 4.\nThe answer is 7", "7"),
    ("The answer is 3. The answer is 7.", "7"),
    ("The answer is 1,200.5.\nDone", "1,200.5"),
    ("The answer is 5\nThe answer is 6\n", "6"),
  ):
    assert re.findall(pattern, text)[-1] == answer
  assert not re.findall(pattern, "I do not know.")
