"""Rounds: a problem is asked until enough answers are right or its runs are spent, and a kill costs nothing."""

import random

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation.types import RequestRejected
from skymath_jax.synthesis import ResponseStore, Settings, plan
from skymath_jax.testing.teacher import ScriptedTeacher
from tests.support.synthesis import run_pass, toy_problems

BUDGET, RIGHT = 12, 3
RUNS = {"answer_augmentation": float(BUDGET)}
ROUNDS = Settings(evol_steps=1, evol_elimination=True, samples=1, prompts="plain", rounds=RIGHT)
GOLD = {p.question: p.answer for p in toy_problems(40)}


def teacher(chance, **options):
  """One that is right with this chance, drawn by the request."""

  def answer(prompt, seed):
    gold = next(answer for question, answer in GOLD.items() if question in prompt)
    right = random.Random(f"{prompt} {seed}").random() < chance
    return f"Way {seed}.\nThe answer is {gold if right else -1}."

  return ScriptedTeacher(answer, **options)


@pytest.fixture
def store(tmp_path):
  with ResponseStore(tmp_path / "responses.sqlite") as opened:
    yield opened


def by_problem(result):
  found = {}
  for each in result.instances:
    found.setdefault(each.parents[0], []).append(each)
  return found


@pytest.mark.parametrize("chance, draws", [(1.0, RIGHT), (0.0, BUDGET)])
def test_easy_problems_end_with_enough_right_answers_and_hopeless_ones_with_their_runs(store, chance, draws):
  result = run_pass(store, asked := teacher(chance), runs=RUNS, settings=ROUNDS)
  assert len(asked.requests) == len(store) == len(result.instances) == 6 * draws
  assert {each.gold_match for each in result.instances} == {chance == 1.0}


def test_the_harder_the_more_draws_and_each_is_the_one_that_is_made_without_rounds(store, tmp_path):
  result = run_pass(store, teacher(0.4), problems=toy_problems(40), runs=RUNS, settings=ROUNDS)
  for answers in by_problem(result).values():
    right = [each.gold_match for each in answers]
    assert len(right) == BUDGET or (sum(right) == RIGHT and right[-1])
    assert [each.quality["round"] for each in answers] == list(range(1, len(answers) + 1))
    assert {(each.teacher, each.stage) for each in answers} == {("toy-teacher@0", 1)}
  assert 40 * RIGHT < len(store) < 40 * BUDGET
  with ResponseStore(tmp_path / "all.sqlite") as other:
    everything = run_pass(other, teacher(0.4), problems=toy_problems(40), runs=RUNS)
  assert {each.id for each in result.instances} < {each.id for each in everything.instances}
  assert not any(each.quality for each in everything.instances)


def test_what_was_answered_before_a_kill_is_not_paid_again(store, tmp_path):
  options = {"problems": toy_problems(40), "runs": RUNS, "settings": ROUNDS}
  with ResponseStore(tmp_path / "undisturbed.sqlite") as other:
    expected = run_pass(other, whole := teacher(0.4), **options)
  for most in (7, 50):
    stopped = teacher(0.4, delay=random.Random(most))
    stopped.complete = _until(stopped, most)
    with pytest.raises(UserError, match="killed"):
      run_pass(store, stopped, **options)
  answered, in_flight = len(store), 8
  assert answered >= 7 + 50 - 2 * in_flight
  resumed = run_pass(store, last := teacher(0.4), **options)
  assert resumed.instances == expected.instances and len(store) == len(whole.requests)
  replayed = resumed.requests["replayed"]  # some more where an answer reached the disk after the kill
  assert answered <= replayed == len(whole.requests) - len(last.requests)
  assert run_pass(store, ScriptedTeacher(answer=None), **options).instances == expected.instances


def _until(asked, most):
  complete = asked.complete

  async def few(request):
    if len(asked.requests) >= most:
      raise UserError("killed")
    return await complete(request)

  return few


@pytest.mark.parametrize("fields", [{"answer": None}, {"source": "synthetic:metamath.rephrase"}])
def test_where_no_gold_is_known_all_runs_are_done(store, fields):
  problems = [p.__class__(**{**vars(p), **fields}) for p in toy_problems()]
  assert len(run_pass(store, teacher(1.0), problems=problems, runs=RUNS, settings=ROUNDS).instances) == 6 * BUDGET


def test_a_run_without_an_answer_is_one_of_the_budget_and_rounds_bind_no_other_method(store):
  class Silent(ScriptedTeacher):
    async def complete(self, request):
      self.requests.append(request)
      raise RequestRejected("no")

  result = run_pass(store, silent := Silent(), problems=toy_problems(1), runs={**RUNS, "fobar": 2.0}, settings=ROUNDS)
  assert len(silent.requests) == len(result.rejected) == BUDGET + 2


def test_the_plan_is_the_most_that_rounds_may_take(store):
  planned = plan(toy_problems(), RUNS, settings=ROUNDS)["answer_augmentation"]
  assert planned["requests"] == 6 * BUDGET == len(run_pass(store, teacher(0), runs=RUNS, settings=ROUNDS).instances)


def test_a_student_gets_the_question_and_nothing_else(store):
  alone = Settings(evol_steps=1, evol_elimination=True, samples=1, prompts="question", rounds=1)
  result = run_pass(store, student := teacher(1.0, model_id="stage1@7"), runs=RUNS, settings=alone)
  assert {request.prompt for request in student.requests} == {p.question for p in toy_problems()}
  assert {(each.teacher, each.prompt["name"]) for each in result.instances} == {("stage1@7", "raw")}
  for refused in (plan, lambda problems, runs, settings: run_pass(store, student, runs=runs, settings=settings)):
    with pytest.raises(UserError, match=r"does no rephrase.*give runs to none but answer_augmentation"):
      refused(toy_problems(), {"rephrase": 0.5}, settings=alone)
