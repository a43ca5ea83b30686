"""The two synthesis stages as the pipeline runs them: files, counts, labels, with a teacher in memory."""

from types import SimpleNamespace

import pytest

from skymath_jax import config as config_lib
from skymath_jax import files, records
from skymath_jax.errors import UserError
from skymath_jax.recipe import synthesize
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.records import Instance
from skymath_jax.testing.teacher import ScriptedTeacher, reply
from tests.support.synthesis import toy_problems

RUNS = {"answer_augmentation": 2.0, "rephrase": 1.0, "self_verification": 1.0, "fobar": 1.0, "evol": 1.0, "xwin": 1.0}


def judging(prompt, seed):
  if prompt.startswith("You check"):
    return "Fine.\nThe verdict is right."
  return "Hm.\nThe difficulty is 4" if prompt.startswith("You judge") else reply(prompt, seed)


@pytest.fixture
def run(tmp_path):
  runs = {f"synthesis.{name}": RUNS for name in ("pass1", "pass2", "hard")}
  config = config_lib.changed(config_lib.Experiment(), {"synthesis.coreset_size": 5, **runs})
  records.write_lines(tmp_path / "seeds" / "problems.jsonl", toy_problems(4))
  # all that the stages use of a run
  return SimpleNamespace(config=config, workdir=Workdir(tmp_path), teacher=asking(ScriptedTeacher(judging)))


def asking(teacher):
  """A run's teacher whose clients are `teacher`."""
  return SimpleNamespace(client=lambda: teacher, requests_served=lambda: 0)


@pytest.mark.parametrize("labels", [(), ("verdict", "difficulty")])
def test_a_stage_leaves_what_its_passes_made(run, labels):
  run.config = config_lib.changed(run.config, {"synthesis.judge": labels})
  facts, folder = synthesize.normal(run), run.workdir / "synthesis" / "stage1"
  made, summary = records.read(Instance, folder / "instances.jsonl"), files.read_json(folder / "summary.json")
  assert len(made) == facts["instances"] == summary["instances"] == sum(summary["by_method"].values()) > 50
  passes = [instance.synthesis_pass for instance in made]
  assert passes == sorted(passes) and set(passes) == {1, 2}
  assert sum(found["instances"] for found in summary["passes"]) == len(made)
  rejected = list(records.read_lines(folder / "rejected.jsonl"))
  assert len(rejected) == sum(sum(found["rejected"].values()) for found in summary["passes"])
  assert summary["coreset"] == 5 and summary["stored"] > len(made)
  for instance in made:
    said = {key: value for key, value in instance.quality.items() if key != "said"}
    assert said == ({"verdict": True, "difficulty": 4} if labels else {})
  assert ("judging" in summary) == bool(labels)
  assert {path.name for path in folder.iterdir()} == {
    "coreset.jsonl", "instances.jsonl", "rejected.jsonl", "responses.sqlite", "summary.json"
  }  # fmt: skip
  run.teacher = asking(ScriptedTeacher(answer=None))  # a second run asks nothing and leaves the same
  assert synthesize.normal(run)["output"] == facts["output"]


def test_seeds_that_one_pass_cannot_use_stop_the_stage_before_a_request(run):
  run.config = config_lib.changed(run.config, {"synthesis.hard_levels": (9,)})
  silent = ScriptedTeacher(answer=None)
  run.teacher = asking(silent)
  with pytest.raises(UserError, match=r"no seed problem has a level of \[9\]"):
    synthesize.normal(run)
  assert not silent.requests
  run.config = config_lib.changed(run.config, {"synthesis.hard": dict.fromkeys(RUNS, 0.0)})  # levels do not matter
  run.teacher = asking(ScriptedTeacher(judging))
  assert synthesize.normal(run)["instances"] > 50


def test_the_student_answers_in_stage_2_and_every_instance_says_who_did(run, monkeypatch):
  rounds = {"answer_augmentation": 4.0}
  changes = {
    "synthesis.student": True,
    "synthesis.rounds": 1,
    "synthesis.hard": rounds,
    "synthesis.judge": ("verdict",),
  }
  run.config = config_lib.changed(run.config, changes)
  student = ScriptedTeacher(lambda prompt, seed: "Count.\nThe answer is 17.", model_id="stage1@7")
  monkeypatch.setattr(synthesize, "student_of", lambda run: asking(student))
  seeds = {p.question: p.answer for p in toy_problems(8)}
  records.write_lines(run.workdir / "seeds" / "problems.jsonl", toy_problems(8))
  synthesize.hard(run)
  made = records.read(Instance, run.workdir / "synthesis" / "stage2" / "instances.jsonl")
  assert {request.prompt for request in student.requests} == {i.query for i in made} < set(seeds)
  assert {(i.teacher, i.stage, i.quality["verdict"]) for i in made} == {("stage1@7", 2, True)}  # judged by the teacher
  right = [i for i in made if seeds[i.query] == "17"]
  assert [(i.gold_match, i.quality["round"]) for i in right] == [(True, 1)]
  assert len(student.requests) == 1 + 4 * (len({i.query for i in made}) - 1)


def test_what_a_student_cannot_do_is_refused_before_a_request(run):
  run.config = config_lib.changed(run.config, {"synthesis.student": True})
  with pytest.raises(UserError, match=r"does no rephrase"):
    synthesize.normal(run)


def test_rounds_say_that_wrong_answers_stay(run, capsys):
  run.config = config_lib.changed(run.config, {"synthesis.rounds": 2})
  synthesize.normal(run)
  assert "set config.curation.quality=gold" in capsys.readouterr().err
