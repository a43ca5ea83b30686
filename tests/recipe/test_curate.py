"""Curation as a stage: a workdir whose curation kept nothing goes on with other keys, nothing else is done again."""

import pytest

from skymath_jax import config, files, integrity, records
from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.recipe import curate, seeds, stages
from tests.support.curation import instance, story
from tests.support.synthesis import toy_problems


def test_other_curation_keys_curate_anew_until_a_model_was_trained(tmp_path):
  problems, workdir = tmp_path / "problems.jsonl", tmp_path / "run"
  rows = [{"question": p.question, "answer": p.answer} for p in toy_problems(3)]
  records.write_lines(problems, rows)
  made = workdir / "synthesis" / "stage1"
  wrong = [instance(story(animal), gold_match=False) for animal in ("snail", "goose", "horse")]
  records.write_lines(made / "instances.jsonl", wrong)
  files.write_json(made / "summary.json", {"teacher": "t"})

  def perform(quality):
    keys = {"seeds.sources": (str(problems),), "curation.test_sets": (), "curation.quality": quality}
    chosen = config.changed(Experiment(), keys)
    with stages.opened(chosen, workdir) as run:
      integrity.complete(made, {"inputs": stages.inputs_of(stages.recipe(chosen)[1], run), "output": "x"})
    return stages.perform([seeds.STAGE, curate.STAGES[0]], chosen, workdir)

  with pytest.raises(UserError, match=r"kept none of 3 instances \(gold_mismatch 3\).*config\.curation"):
    perform(("gold",))
  assert perform(())["curate stage 1"]["kept"] == 3
  (workdir / "checkpoints").mkdir()
  with pytest.raises(UserError, match=r"what is in checkpoints was made with config\.curation\.quality = \[\]"):
    perform(("gold",))
