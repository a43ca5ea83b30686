"""The student as the next teacher: asked as it was trained, and every instance says that it was the student."""

import json
import subprocess

import pytest

from skymath_jax import chat, models, prompts, records
from skymath_jax.chat import frames
from skymath_jax.records import Instance
from skymath_jax.synthesis import ResponseStore
from tests.support.small_recipe import command, environment


def test_the_question_alone_is_what_a_model_trained_here_saw():
  tokenizer = frames.dressed(models.tokenizer_of("asset:micro_base"), "sft/alpaca")
  question = "Mia has 5 apples. She buys 3 more. How many apples has she now?"
  asked = chat.question_encoder(tokenizer, "template")(prompts.load("raw").render(query=question))
  assert asked == tokenizer.encode(prompts.load("sft/alpaca").render(query=question), bos=True)


@pytest.mark.slow
def test_a_run_in_which_the_student_makes_stage_2(tmp_path):
  runs = {"pass1": 8.0, "pass2": 0.0, "hard": 8.0}  # of answer augmentation alone
  passes = [f"--config.synthesis.{name}={{'answer_augmentation': {count}}}" for name, count in runs.items()]
  changes = ["synthesis.rounds=2", "synthesis.student=true", "synthesis.hard_levels=(1, 2, 3)", "teacher.backend=local"]
  workdir = tmp_path / "run"
  done = subprocess.run(
    command(workdir, *passes, *(f"--config.{change}" for change in changes), "--config.training.stage1.epochs=3"),
    env=environment(tmp_path), capture_output=True, text=True, timeout=540, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  made = records.read(Instance, workdir / "synthesis" / "stage2" / "instances.jsonl")
  student = models.model_id(workdir / "checkpoints" / "stage1")
  assert {i.teacher for i in made} == {student} and any(i.gold_match for i in made)
  with ResponseStore(workdir / "synthesis" / "stage2" / "responses.sqlite") as store:
    assert {row.prompt for row in store} >= {i.query for i in made} and {row.teacher for row in store} == {student}
  assert student in (workdir / "sft" / "stage2" / "card.md").read_text()
  summary = json.loads((workdir / "summary.json").read_text())
  assert set(summary["accuracy"]) == {"base", "stage1", "stage2"}
