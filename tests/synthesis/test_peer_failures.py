"""Where the resumption of other synthesis tools has holes, ours has none: one test for each hole that we know of.

The tools are named in the tests; what happens in them was read in their sources.
"""

import dataclasses

import pytest

from skymath_jax.generation.types import RequestRejected
from skymath_jax.records import Problem
from skymath_jax.synthesis import ResponseStore
from skymath_jax.testing.teacher import ScriptedTeacher, reply, template_of
from tests.support.synthesis import SAMPLING, Flaky, run_pass, toy_problems

RUNS = {"answer_augmentation": 2.0, "rephrase": 1.0, "evol": 1.0}


@pytest.fixture
def store(tmp_path):
  with ResponseStore(tmp_path / "responses.sqlite") as opened:
    yield opened


def answers(result) -> dict[str, tuple[str, ...]]:
  """What was made, by parent."""
  return {i.id: (i.parents[0], i.query, i.response) for i in result.instances}


def test_a_sorted_or_edited_input_never_joins_old_answers_to_other_problems(store):
  """NeMo-Skills resumes by row position: after a re-sort, rows get each other's answers without a word."""
  problems = toy_problems(6)
  first = run_pass(store, ScriptedTeacher(), problems=problems, runs=RUNS)
  turned = run_pass(store, silent := ScriptedTeacher(answer=None), problems=problems[::-1], runs=RUNS)
  assert answers(turned) == answers(first) and not silent.requests
  edited = [Problem.create("toy", p.question.replace("Mia", "Ann"), answer=p.answer) for p in problems[:1]]
  run_pass(store, teacher := ScriptedTeacher(), problems=[*edited, *problems[1:]], runs=RUNS)
  assert teacher.requests and all("Ann" in r.prompt or "Bob" in r.prompt for r in teacher.requests)


def test_one_more_problem_asks_only_for_itself(store):
  """bespoke curator keys its cache by the hash of the whole data set: one new row, and everything is paid again."""
  run_pass(store, ScriptedTeacher(), problems=toy_problems(6), runs=RUNS)
  more = run_pass(store, ScriptedTeacher(), problems=toy_problems(7), runs=RUNS)
  alone = run_pass(store, ScriptedTeacher(), problems=toy_problems(7)[6:], runs=RUNS)
  assert more.requests["sent"] == alone.requests["asked"] and alone.requests["sent"] == 0


def test_one_more_sample_asks_only_for_itself_also_after_a_clean_end(store):
  """datatrove deletes its request cache after a clean end: one more roll-out pays for all of them again."""
  first = run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 2.0})
  more = run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 3.0})
  assert more.requests["sent"] == 6 and more.requests["replayed"] == first.requests["sent"] == 12


def test_a_request_that_fails_is_one_rejection_and_no_other_rows_loss(store):
  """NeMo-Skills: one row that raises ends the whole gather. distilabel: a failing batch becomes rows of None."""
  result = run_pass(store, Flaky("Mia has 3 ", RequestRejected("no", where="t")), runs=RUNS)
  whole = run_pass(store, ScriptedTeacher(), runs=RUNS)
  lost = set(answers(whole)) - set(answers(result))
  roots = {i.id: i for i in whole.instances}

  def root(id):
    parent = roots[id].parents[0]
    return root(parent) if parent in roots else parent

  assert lost and {root(id) for id in lost} == {toy_problems()[1].id}


def test_an_empty_reply_in_the_middle_of_a_chain_breaks_nothing(store):
  """distilabel: an LLM that returns None inside Evol-Instruct raises in the parser and takes the batch with it."""

  def answer(prompt, seed):
    return "" if template_of(prompt).startswith("evol/") and seed % 2 else reply(prompt, seed)

  result = run_pass(store, ScriptedTeacher(answer), runs={"evol": 2.0})
  assert result.summary()["rejected"]["empty"] and result.instances
  assert len(result.instances) + result.summary()["rejected"]["empty"] == 6 * 2 * 3


def test_a_failed_request_is_not_an_answer(store):
  """MetaMath's --continue trusts any text of more than ten letters; NeMo-Skills stores some errors as done."""
  run_pass(store, Flaky("Mia has 3 ", OSError("a long message of an error")), runs={"answer_augmentation": 1.0})
  assert len(store) == 5 and not any("error" in row.text for row in store)
  assert run_pass(store, ScriptedTeacher(), runs={"answer_augmentation": 1.0}).requests["sent"] == 1


def test_the_jobs_of_a_large_pass_are_never_all_in_memory(store):
  """NeMo-Skills makes one coroutine for each row before it waits for the first: 2.5 million at once."""
  teacher = ScriptedTeacher()
  run_pass(store, teacher, problems=toy_problems(60), runs={"answer_augmentation": 1.0}, concurrency=5)
  assert teacher.most_open <= 5


def test_another_sampling_setting_is_another_question_and_keeps_the_old_answers(store):
  """A resume that does not compare settings mixes temperatures in one set (NeMo-Skills checks none of them)."""
  runs = {"answer_augmentation": 1.0}
  first = run_pass(store, ScriptedTeacher(), runs=runs)
  warmer = dataclasses.replace(SAMPLING, temperature=1.0)
  assert run_pass(store, ScriptedTeacher(), runs=runs, sampling=warmer).requests["sent"] == 6
  assert run_pass(store, ScriptedTeacher(answer=None), runs=runs).instances == first.instances and len(store) == 12
