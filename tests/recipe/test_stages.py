"""The list of stages: what depends on what, what is done again, and to what a workdir is bound."""

import itertools

import pytest

from skymath_jax import config, files, integrity
from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.recipe import stages
from skymath_jax.recipe.types import Stage


def test_each_stage_needs_only_what_comes_before_it_and_reads_only_what_there_is():
  made = set()
  for stage in stages.recipe(Experiment()):
    assert set(stage.needs) <= made, stage.name
    assert config.bound(Experiment(), *stage.reads), stage.name
    made.add(stage.folder)


def test_a_student_that_teaches_is_trained_first():
  changed = config.changed(Experiment(), {"synthesis.student": True})
  names = [stage.name for stage in stages.recipe(changed)]
  assert names[1:7] == [f"{verb} stage {number}" for number in (1, 2) for verb in ("synthesize", "curate", "train")]
  second = stages.recipe(changed)[4]
  assert second.needs == ("seeds", "checkpoints/stage1") and not second.asks
  assert stages.made_with(changed) == stages.made_with(Experiment())
  made = set()
  for stage in stages.recipe(changed):
    assert set(stage.needs) <= made, stage.name
    made.add(stage.folder)


def test_what_binds_a_folder_follows_from_the_stages():
  table = stages.made_with(Experiment())
  assert table["synthesis"] == {"rng_seed", "teacher", "synthesis", "seeds"}  # the seeds, which are cheap, through it
  assert "sft" not in table and table["checkpoints"] == table["tokenizer"] >= {"curation"}  # so is curation
  assert table["study"] == table["evaluation"] >= table["tokenizer"] - {"curation"}  # they look at what it left
  on_data = stages.made_with(config.changed(Experiment(), {"training.data": "pairs.jsonl"}))
  assert on_data["checkpoints"] == on_data["tokenizer"] == table["tokenizer"] - {"curation"}
  assert "seeds" not in table and not any("study" in keys for keys in table.values())
  by_model = config.changed(Experiment(), {"synthesis.embedding": "model"})
  assert stages.made_with(by_model)["synthesis"] - table["synthesis"] == {"model.path"}
  assert "evaluation" in stages.made_with(config.changed(Experiment(), {"evaluation.models": ()}))


@pytest.fixture
def two(tmp_path):
  """Two stages that count how often they work, and what does them in a workdir with changes of the config."""
  numbers, done = itertools.count(), []

  def stage(name, output, **more):
    def work(run):
      done.append(name)
      files.write_text(run.workdir / name / "file", "x")
      return {"output": output(run), "number": next(numbers)}

    return Stage(name, name, work, **more)

  first = stage("seeds", lambda run: run.config.seeds.limit // 10, reads=("seeds",), cheap=True)
  second = stage("synthesis", lambda run: "y", needs=("seeds",), reads=("synthesis",))

  def perform(*chosen, **changes):
    done.clear()
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    facts = stages.perform(chosen or [first, second], config.changed(Experiment(), keys), tmp_path)
    return done.copy(), facts

  return first, second, perform


def test_what_is_complete_is_skipped_and_tells_its_facts(two):
  _, _, perform = two
  did, facts = perform()
  assert did == ["seeds", "synthesis"]
  assert perform() == ([], facts) and facts["seeds"]["number"] == 0


def test_a_cheap_stage_is_done_again_when_what_it_reads_has_changed(two, tmp_path):
  first, second, perform = two
  perform(first)
  assert perform(first, seeds__limit=3)[0] == ["seeds"]
  assert perform(first, second, seeds__limit=3)[0] == ["synthesis"]
  with pytest.raises(UserError, match=r"what is in synthesis was made with config\.seeds\.limit = 3, now it is 30"):
    perform(seeds__limit=30)
  (tmp_path / "synthesis").rename(tmp_path / "away")
  assert perform(seeds__limit=30)[0] == ["seeds", "synthesis"]


def test_a_stage_is_done_again_when_its_input_is_another(two, tmp_path):
  _, _, perform = two
  perform()
  integrity.complete(tmp_path / "seeds", files.completion(tmp_path / "seeds") | {"output": "other"})
  assert perform()[0] == ["synthesis"]


def test_free_keys_bind_nothing_and_others_bind_what_reads_them(two):
  _, _, perform = two
  perform()
  assert perform(curation__workers=3, training__rows=16)[0] == []
  with pytest.raises(UserError, match=r"config\.synthesis\.samples = 1, now it is 2"):
    perform(synthesis__samples=2)


def test_a_stage_without_its_input_is_refused(two):
  _, second, perform = two
  with pytest.raises(UserError, match="synthesis needs seeds, which is not complete"):
    perform(second)


def test_a_workdir_in_use_is_refused(two, tmp_path):
  first, _, perform = two
  with (
    files.lock(tmp_path / ".lock", "x"),
    pytest.raises(UserError, match=f"the workdir {tmp_path} is in use by process"),
  ):
    perform(first)
