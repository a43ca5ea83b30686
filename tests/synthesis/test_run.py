import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.generation.types import RequestRejected
from skymath_jax.records import Instance, from_json, to_json
from skymath_jax.synthesis import (
  Lengths,
  ResponseStore,
  as_problems,
  hard_seeds,
  jobs,
  judge,
  plan,
  plan_judging,
  require_answers,
  total_cost,
)
from skymath_jax.synthesis import run as run_module
from skymath_jax.testing.teacher import ScriptedTeacher, reply, template_of
from tests.support.synthesis import EVERY_METHOD, SAMPLING, SETTINGS, Flaky, run_pass, toy_problems


@pytest.fixture
def store(tmp_path):
  with ResponseStore(tmp_path / "responses.sqlite") as opened:
    yield opened


def test_a_pass_makes_instances_of_every_method(store):
  result = run_pass(store, teacher := ScriptedTeacher())
  families = {instance.method.partition(".")[0] for instance in result.instances}
  assert families == {"metamath", "evol", "xwin"}
  assert result.summary()["by_method"]["metamath.fobar"] == 6
  assert len(result.instances) == 6 * (5 + 3) and not result.rejected
  assert result.requests == {"asked": 84, "replayed": 0, "sent": 84, "failed": 0}
  assert len(teacher.requests) == len(store) == 84
  assert result.tokens["completion"] == sum(stored.completion_tokens for stored in store) > 0
  for instance in result.instances:
    assert instance.response.endswith(f"\nThe answer is {instance.answer}")
    assert instance.response.count("The answer is") == 1
    assert from_json(Instance, to_json(instance)) == instance
    assert instance.teacher == "toy-teacher@0" and instance.sampling["temperature"] == 0.7


def test_a_pass_without_runs_is_empty(store):
  result = run_pass(store, ScriptedTeacher(), runs={"fobar": 0.0})
  assert result.instances == [] and result.requests["asked"] == 0
  assert result.summary()["rejected"] == {}


def test_every_request_has_a_seed_of_its_own(store):
  run_pass(store, teacher := ScriptedTeacher(), runs={"answer_augmentation": 3.0, "fobar": 3.0})
  assert len({request.sampling.seed for request in teacher.requests}) == 36
  assert all(0 <= request.sampling.seed < 2**31 for request in teacher.requests)


def test_a_second_run_asks_nothing_and_makes_the_same(store):
  first = run_pass(store, ScriptedTeacher())
  second = run_pass(store, silent := ScriptedTeacher(answer=None))
  assert silent.requests == []
  assert second.instances == first.instances and second.rejected == first.rejected
  assert second.requests == {"asked": 84, "replayed": 84, "sent": 0, "failed": 0}
  assert second.tokens == {"prompt": 0, "completion": 0}


def test_the_result_does_not_depend_on_the_order_of_events(tmp_path):
  results = []
  for number, concurrency in enumerate((1, 3, 50)):
    with ResponseStore(tmp_path / f"{number}.sqlite") as store:
      result = run_pass(store, ScriptedTeacher(delay=random.Random(number)), concurrency=concurrency)
      results.append((result.instances, result.rejected))
  assert results[0] == results[1] == results[2]


def test_other_problems_change_nothing_for_a_problem(tmp_path):
  def made(problems, name):
    with ResponseStore(tmp_path / name) as store:
      return {instance.id for instance in run_pass(store, ScriptedTeacher(), problems=problems).instances}

  three = toy_problems(3)
  assert made(three[:1], "a") | made(three[1:], "b") == made(three[::-1], "c")


@pytest.mark.parametrize(
  "change", [{"rng_seed": 8}, {"stage": 2}, {"synthesis_pass": 2}, {"sampling": SAMPLING.__class__()}]
)
def test_seed_stage_pass_and_sampling_each_ask_anew(store, change):
  run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 1.0})
  run_pass(store, teacher := ScriptedTeacher(), runs={"answer_augmentation": 1.0}, **change)
  assert len(teacher.requests) == 6


def test_another_teacher_or_prompt_is_asked_anew(store, monkeypatch):
  runs = {"answer_augmentation": 1.0}
  run_pass(store, ScriptedTeacher(), runs=runs)
  other = ScriptedTeacher()
  other.model_id = "toy-teacher@1"
  assert run_pass(store, other, runs=runs).requests["sent"] == 6
  edited = dataclasses.replace(
    prompts.load("metamath/solve"), text="You are a careful mathematics teacher. {{ question }}\n"
  )
  monkeypatch.setattr(prompts, "load", lambda name: edited)
  assert run_pass(store, ScriptedTeacher(lambda prompt, seed: "So.\nThe answer is 1"), runs=runs).requests["sent"] == 6


def test_more_runs_keep_the_ones_there_were(store):
  first = run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 2.0, "evol": 1.0})
  more = run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 3.0, "evol": 1.0, "xwin": 1.0})
  assert {i.id for i in first.instances} <= {i.id for i in more.instances}
  assert more.requests["replayed"] == first.requests["sent"]


def test_no_more_requests_are_open_than_allowed(store):
  run_pass(store, teacher := ScriptedTeacher(delay=random.Random(0)), concurrency=5)
  assert teacher.most_open == 5


def test_jobs_are_drawn_as_they_are_worked_on(store, monkeypatch):
  drawn = []
  original = run_module.jobs

  def counted(*args, **options):
    for job in original(*args, **options):
      drawn.append(job)
      yield job

  monkeypatch.setattr(run_module, "jobs", counted)

  class Stuck(ScriptedTeacher):
    async def complete(self, request):
      self.requests.append(request)
      if len(self.requests) == 4:
        raise UserError("the teacher is gone")
      await asyncio.sleep(60)

  with pytest.raises(UserError, match="the teacher is gone"):
    run_pass(store, Stuck(), problems=toy_problems(50), concurrency=4)
  assert len(drawn) == 50 * len(EVERY_METHOD) + 4 + 1  # once to count them, then one for each worker, one ahead


def test_the_workers_are_the_only_live_tasks(store):
  most = 0

  class Counting(ScriptedTeacher):
    async def complete(self, request):
      nonlocal most
      most = max(most, len(asyncio.all_tasks()))
      return await super().complete(request)

  run_pass(store, Counting(delay=random.Random(1)), problems=toy_problems(30), concurrency=4)
  assert most <= 4 + 1


def test_fractions_of_a_run_are_a_share_of_the_problems_that_stays():
  problems = toy_problems(2000)

  def chosen(average, problems=problems, **options):
    options = {"rng_seed": 0, "stage": 1, "synthesis_pass": 1, **options}
    return [(job.problem.id, job.sample) for job in jobs(problems, {"fobar": average}, **options)]

  third = chosen(0.3)
  assert 500 < len(third) < 700 and third == chosen(0.3)
  assert set(third) < set(chosen(0.6)) and set(third) != set(chosen(0.3, rng_seed=1))
  assert set(chosen(0.3, problems[:100])) == {pair for pair in third if pair[0] in {p.id for p in problems[:100]}}
  assert 2000 * 2 + 500 < len(chosen(2.3)) < 2000 * 2 + 700
  assert chosen(0.0) == [] and len(chosen(2.0)) == 4000


def test_plan_counts_the_jobs_and_bounds_the_requests(store):
  runs = {"fobar": 0.5, "evol": 1.0, "rephrase": 2.0}
  planned = plan(toy_problems(40), runs, settings=SETTINGS, rng_seed=7)
  result = run_pass(store, ScriptedTeacher(), problems=toy_problems(40), runs=runs)
  counts = {name: (row["runs"], row["requests"]) for name, row in planned.items()}
  assert counts["evol"] == (40, 240) and counts["rephrase"] == (80, 160)
  assert sum(requests for _, requests in counts.values()) == result.requests["asked"]
  expected = plan(1000, runs, settings=SETTINGS)["fobar"]
  assert (expected["runs"], expected["requests"]) == (500, 500)
  twice = plan(toy_problems(40), runs, settings=dataclasses.replace(SETTINGS, samples=2), rng_seed=7)
  assert twice["evol"]["requests"] == 360 and twice["rephrase"]["requests"] == 240


def test_the_plan_guesses_tokens_and_money_by_the_lengths_of_the_problems():
  problems = [dataclasses.replace(p, solution="x" * 320) for p in toy_problems(10)]
  runs = {"answer_augmentation": 2.0, "rephrase": 1.0}
  planned = plan(problems, runs, settings=SETTINGS)
  question = sum(len(p.question) for p in problems) / 10 / 3.2
  assert planned["answer_augmentation"]["completion_tokens"] == 20 * 100
  assert planned["rephrase"]["completion_tokens"] == pytest.approx(10 * (100 + question), abs=1)
  asked = "".join(prompts.load("metamath/solve").render(question=p.question) for p in problems)
  assert planned["answer_augmentation"]["prompt_tokens"] == pytest.approx(2 * len(asked) / 3.2, rel=0.01)
  few = plan(problems, runs, settings=dataclasses.replace(SETTINGS, prompts="few_shot"))
  assert few["rephrase"]["prompt_tokens"] > 3 * planned["rephrase"]["prompt_tokens"]
  judged = plan_judging(7, ("verdict", "difficulty"), Lengths.of(problems))
  assert (
    judged["verdict"]["requests"] == 7 and judged["verdict"]["prompt_tokens"] > judged["difficulty"]["prompt_tokens"]
  )
  money = total_cost({"pass1": planned, "judge": judged}, max_tokens=1000, prices=(2.0, 10.0))
  assert money["requests"] == 20 + 20 + 14
  assert money["cost"] == round((money["prompt_tokens"] * 2 + money["completion_tokens"] * 10) / 1e6, 2)
  assert money["cost_at_most"] == round((money["prompt_tokens"] * 2 + 54 * 1000 * 10) / 1e6, 2)


def judgement(prompt, seed):
  if prompt.startswith("You check"):
    return "Fine.\nThe verdict is right." if "Mia has 3 " in prompt else "No: 4.\n**The verdict is: wrong**"
  if prompt.startswith("You judge"):
    return "Hm.\nThe difficulty is 4" if "Mia has 3 " in prompt else "No idea."
  return reply(prompt, seed)


def test_the_teachers_judgement_becomes_a_label(store):
  made = run_pass(store, ScriptedTeacher(judgement), runs={"answer_augmentation": 2.0}).instances

  def judged(teacher):
    options = {"stage": 1, "sampling": SAMPLING, "rng_seed": 7, "concurrency": 4}
    return asyncio.run(judge(iter(made), len(made), ("verdict", "difficulty"), teacher, store, **options))

  labels, counts = judged(ScriptedTeacher(judgement))
  assert len(labels) == len(made) and counts["requests"]["sent"] == 24 and counts["unread"] == 10
  for instance, said in zip(made, labels, strict=True):
    assert said == ({"verdict": True, "difficulty": 4} if "Mia has 3 " in instance.query else {"verdict": False})
  assert judged(silent := ScriptedTeacher(answer=None))[0] == labels and not silent.requests


@pytest.mark.parametrize("runs", [{"rephrase": -1.0}, {"rephrase": float("nan")}, {"rephrases": 1.0}])
def test_bad_runs_are_refused(runs):
  with pytest.raises(UserError, match="rephrase"):
    plan(3, runs, settings=SETTINGS)


def test_rejections_are_counted_by_reason_and_kept(store):
  def answer(prompt, seed):
    if template_of(prompt) == "metamath/solve" and "Mia has 3 " in prompt:
      return "No idea." + "x" * 2000
    return reply(prompt, seed)

  result = run_pass(store, ScriptedTeacher(answer), runs={"answer_augmentation": 2.0})
  summary = result.summary()
  assert summary["rejected"] == {"no_answer_line": 2}
  assert summary["rejected_by_method"] == {"metamath.answer_augmentation": {"no_answer_line": 2}}
  assert result.rejected[0].problem_id == toy_problems()[1].id
  assert result.rejected[0].text.startswith("No idea.") and len(result.rejected[0].text) == 500


def test_truncated_replies_are_stored_and_rejected(store):
  result = run_pass(store, ScriptedTeacher(finish_reason="length"), runs={"xwin": 1.0})
  assert result.summary()["rejected"] == {"truncated": 6} and len(store) == 6


def test_the_same_text_twice_is_one_instance(store):
  same = ScriptedTeacher(lambda prompt, seed: "So.\nThe answer is 1")
  result = run_pass(store, same, runs={"answer_augmentation": 3.0})
  assert len(result.instances) == 6 and result.summary()["rejected"] == {"duplicate": 12}
  assert len({instance.id for instance in result.instances}) == 6


def test_a_problem_given_twice_counts_once(store):
  result = run_pass(store, ScriptedTeacher(), problems=toy_problems(2) * 2, runs={"answer_augmentation": 1.0})
  assert len(result.instances) == 2


def test_the_few_shot_set_asks_with_examples_and_is_a_question_of_its_own(store):
  def answer(prompt, seed):
    assert prompt.count("Problem:") + prompt.count("Question:") + prompt.count("Given question:") >= 3
    return reply(prompt, seed)

  run_pass(store, ScriptedTeacher(), runs=EVERY_METHOD)
  few = run_pass(
    store,
    teacher := ScriptedTeacher(answer),
    runs=EVERY_METHOD,
    settings=dataclasses.replace(SETTINGS, prompts="few_shot"),
  )
  assert few.requests["sent"] == len(teacher.requests) == 84 and len(few.instances) == 48
  assert {i.prompt["name"] for i in few.instances} == {
    "few_shot/word/metamath/solve", "few_shot/word/metamath/solve_backward", "few_shot/word/xwin/solve"
  }  # fmt: skip


@pytest.mark.parametrize("error", [RequestRejected("too long", where="r"), ConnectionResetError("gone")])
def test_a_request_without_an_answer_is_a_rejection_and_asked_again_later(store, error):
  runs = {"answer_augmentation": 1.0}
  first = run_pass(store, Flaky("Mia has 3 ", error), runs=runs)
  assert len(first.instances) == 5 and first.summary()["rejected"] == {"error": 1}
  assert first.requests == {"asked": 6, "replayed": 0, "sent": 6, "failed": 1}
  second = run_pass(store, ScriptedTeacher(), runs=runs)
  assert second.requests == {"asked": 6, "replayed": 5, "sent": 1, "failed": 0} and len(second.instances) == 6


def test_a_teacher_that_never_answers_ends_the_pass(store):
  with pytest.raises(UserError, match=r"32 requests in a row.*every answer so far is kept"):
    run_pass(store, Flaky("", OSError("no route")), problems=toy_problems(100))
  assert len(store) == 0


def test_bugs_are_not_swallowed(store):
  with pytest.raises(ZeroDivisionError):
    run_pass(store, ScriptedTeacher(lambda prompt, seed: 1 // 0))


def test_a_store_that_fails_ends_the_pass_with_its_message(store):
  store.connection.execute("PRAGMA query_only=1")
  with pytest.raises(UserError, match="the response store fails"):
    run_pass(store, ScriptedTeacher())


KILLED = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[2])
from skymath_jax.synthesis import ResponseStore
from skymath_jax.testing.teacher import ScriptedTeacher
from tests.support.synthesis import run_pass

class Mortal(ScriptedTeacher):
  async def complete(self, request):
    response = await super().complete(request)
    print(request.id, flush=True)
    if len(self.requests) >= 40:
      os.kill(os.getpid(), signal.SIGKILL)
    return response

with ResponseStore(sys.argv[1]) as store:
  run_pass(store, Mortal())
"""


def test_kill_9_in_the_middle_loses_nothing_and_asks_nothing_twice(tmp_path):
  path = tmp_path / "killed.sqlite"
  command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parents[2])]
  process = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TERM": "dumb"}, check=False)
  assert process.returncode == -signal.SIGKILL
  asked = process.stdout.split()
  with ResponseStore(path) as store:
    kept = {stored.key[:32] for stored in store}
    assert 40 - 8 <= len(kept) <= len(asked)  # all but those that were on their way to the disk
    result = run_pass(store, teacher := ScriptedTeacher())
    assert not kept & {request.id for request in teacher.requests}
    assert result.requests["replayed"] == len(kept) and len(store) == 84
  with ResponseStore(tmp_path / "whole.sqlite") as store:
    assert run_pass(store, ScriptedTeacher()).instances == result.instances


def test_two_runs_share_a_store_and_agree(tmp_path):
  code = KILLED.replace(">= 40", ">= 10_000")
  command = [sys.executable, "-c", code, str(tmp_path / "r.sqlite"), str(Path(__file__).parents[2])]
  runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
  assert [process.wait() for process in runs] == [0, 0]
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert len(store) == 84 and run_pass(store, ScriptedTeacher()).requests["sent"] == 0


def test_the_chain_from_the_second_pass_reaches_the_seeds(store):
  seeds = toy_problems()
  first = run_pass(store, ScriptedTeacher(), problems=seeds)
  synthetic = as_problems(first.instances)
  second = run_pass(store, ScriptedTeacher(), problems=synthetic, synthesis_pass=2)
  parents = {i.id: i.parents for i in [*first.instances, *second.instances]}
  roots = {problem.id for problem in seeds}
  assert len(parents) == len(first.instances) + len(second.instances)

  def depth(id):
    if id in roots:
      return 0
    return 1 + max(depth(parent) for parent in parents[id])

  assert max(depth(i.id) for i in first.instances) == 3 and max(depth(i.id) for i in second.instances) == 6
  backward = [i for i in second.instances if i.method in ("metamath.fobar", "metamath.self_verification")]
  assert backward and all(i.pseudo_gold and i.gold_match is not None and i.level for i in backward)
  assert not any(i.pseudo_gold for i in first.instances)


def test_as_problems_takes_distinct_new_questions_and_trusts_no_answer_known_to_be_wrong(store):
  made = run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 1.0, "xwin": 1.0}).instances
  assert {p.source for p in as_problems(made)} == {"synthetic:xwin"}
  one = next(i for i in made if i.method == "xwin")

  def variant(id, gold_match, query=one.query):
    return dataclasses.replace(one, id=id, gold_match=gold_match, answer=id, query=query)

  wrong, unknown, right = variant("w", False), variant("u", None), variant("r", True, f" {one.query}\n")
  [problem] = as_problems([wrong, unknown, right, unknown])
  assert (problem.id, problem.answer) == ("r", "r") and problem.level == one.level
  assert [(p.id, p.answer) for p in as_problems([unknown, wrong])] == [("u", "u")]
  assert [(p.id, p.answer) for p in as_problems([wrong])] == [("w", None)]


def test_hard_seeds_are_those_of_the_levels():
  problems = toy_problems(10)
  assert [p.level for p in hard_seeds(problems, (4, 5))] == [4, 5, 4, 5]
  with pytest.raises(UserError, match=r"no seed problem has a level of \[6\].*levels are \[1, 2, 3, 4, 5\]"):
    hard_seeds(problems, (6,))
  with pytest.raises(UserError, match="none of the 3 problems has a level"):
    hard_seeds(toy_problems(3, level=None), (4, 5))


def test_a_seed_without_the_answer_that_a_method_needs_is_named(store):
  problems = [*toy_problems(2), *toy_problems(3, answer=None)[2:]]
  with pytest.raises(UserError, match=rf"seeds\.jsonl: 1 of 3 problems have no answer, the first is {problems[2].id}"):
    require_answers(problems, EVERY_METHOD, where="seeds.jsonl")
  with pytest.raises(UserError, match=r"toy: .*self_verification and fobar cannot do without.*runs of"):
    run_pass(store, ScriptedTeacher(), problems=problems)
  assert len(store) == 0
  assert len(run_pass(store, ScriptedTeacher(), problems=problems, runs={"xwin": 1.0, "fobar": 0.0}).instances) == 3
