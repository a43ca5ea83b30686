"""Damage in a complete folder is found, told with what builds on it, and the remedy that is told leads back."""

import os
import re
import shutil

import pytest

from skymath_jax import files, integrity
from skymath_jax.cli import main as cli
from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.models import orbax_folder
from skymath_jax.recipe import stages
from skymath_jax.recipe.types import Stage
from tests.support.short_run import train


def flip(path, *, quietly=False):
  """Changes one bit; quietly: as a disk does, leaving size and time."""
  before, data = path.stat(), bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  if quietly:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def folder(tmp_path):
  made = tmp_path / "sft" / "stage1"
  for name in ("kept.jsonl", "parts/0.jsonl", "summary.json"):
    files.write_text(made / name, f"{name} " * 20)
  integrity.complete(made, {"output": "x"})
  return made


@pytest.mark.parametrize("name", ["kept.jsonl", "parts/0.jsonl", "COMPLETE.json", integrity.MANIFEST])
def test_a_changed_file_is_named_and_a_removed_one_makes_the_folder_incomplete(folder, name):
  assert integrity.completion(folder) == {"output": "x"}
  flip(folder / name)
  with pytest.raises(UserError, match=re.escape(name)) as error:
    integrity.completion(folder)
  assert f"remove {folder / name}," in str(error.value)
  (folder / name).unlink()
  assert integrity.completion(folder) == ({"output": "x"} if name == integrity.MANIFEST else None)


@pytest.mark.parametrize("name", ["kept.jsonl", "empty", "COMPLETE.json", integrity.MANIFEST])
@pytest.mark.parametrize("other", ["folder", "pipe", "empty", "braces"])
def test_what_is_no_file_any_more_or_says_nothing_is_damaged(folder, name, other):
  (folder / "empty").touch()
  integrity.complete(folder, {"output": "x"})
  (folder / name).unlink()
  if other == "folder":
    (folder / name).mkdir()
  elif other == "pipe":
    os.mkfifo(folder / name)  # to read it would never end
  else:
    (folder / name).write_text({"empty": "", "braces": "{}"}[other])
  if (name, other) == ("empty", "empty"):
    assert integrity.damages(folder, contents=True) == {}
  else:
    assert integrity.damages(folder, contents=True) == {name: "changed"}
    with pytest.raises(UserError, match=f"remove {re.escape(str(folder / name))},"):
      integrity.completion(folder)


def test_pipes_and_links_that_lead_nowhere_are_no_part_of_a_folder(folder):
  os.mkfifo(folder / "pipe")
  (folder / "link").symlink_to("/nowhere")
  (folder / "circle").symlink_to("circle")
  integrity.complete(folder, {"output": "x"})
  assert integrity.completion(folder) == {"output": "x"} and integrity.damages(folder, contents=True) == {}


def test_what_was_paid_is_not_given_up_without_a_word(folder, capfd):
  files.write_text(folder / "responses.sqlite", "answers")
  integrity.complete(folder, {"output": "x"})
  flip(folder / "responses.sqlite")
  with pytest.raises(UserError, match="restore it from a copy, or they are asked, and paid, again"):
    integrity.completion(folder)
  (folder / "responses.sqlite").unlink()
  assert integrity.completion(folder) is None
  assert "responses.sqlite is missing; responses.sqlite holds the teacher's answers" in capfd.readouterr().err
  (folder / integrity.MANIFEST).unlink()
  assert integrity.completion(folder) and "what is there now is taken for right" in capfd.readouterr().err


@pytest.mark.parametrize("mark", ["{}", "[]", "null", "7", '{"output": 1}'])
def test_a_mark_of_another_kind_without_a_record_is_no_traceback(tmp_path, mark):
  run_stages(tmp_path)
  (tmp_path / "seeds" / integrity.MANIFEST).unlink()
  (tmp_path / "seeds" / "COMPLETE.json").write_text(mark)
  try:
    run_stages(tmp_path)
  except UserError as error:
    assert "remove it" in str(error)
    (tmp_path / "seeds" / "COMPLETE.json").unlink()
    run_stages(tmp_path)
  assert files.completion(tmp_path / "seeds")["output"] == "seeds"


def test_what_a_look_does_not_see_a_reading_of_all_contents_does(folder):
  flip(folder / "kept.jsonl", quietly=True)
  assert integrity.damages(folder) == {}
  assert integrity.damages(folder, contents=True) == {"kept.jsonl": "changed"}


def test_a_copy_with_other_times_is_whole_and_its_next_look_is_quick(folder, monkeypatch):
  os.utime(folder / "kept.jsonl", ns=(1, 1))
  assert integrity.completion(folder)
  monkeypatch.setattr(files, "sha256", lambda path: "read")
  assert integrity.completion(folder) == {"output": "x"}


def test_what_was_complete_before_there_were_records_gets_one(folder):
  (folder / integrity.MANIFEST).unlink()
  assert integrity.completion(folder) == {"output": "x"} and (folder / integrity.MANIFEST).exists()


def test_files_are_on_disk_before_they_are_called_complete(tmp_path, monkeypatch):
  synced, fsync = [], os.fsync
  monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "a" / "b" / "c").write_text("x")
  integrity.complete(tmp_path / "a", {})
  assert str(tmp_path / "a" / "b" / "c") in synced and "COMPLETE.json" in synced[-1]


def run_stages(tmp_path):
  """Three stages, each made of the one before; returns what was done and the contents of the last."""
  done = []

  def stage(name, before):
    def work(run):
      done.append(name)
      text = before and (run.workdir / before / "file").read_text()
      files.write_text(run.workdir / name / "file", f"{text}>{name}")
      return {"output": name}

    return Stage(name, name, work, needs=(before,) if before else ())

  chain = [stage("seeds", ""), stage("sft/stage1", "seeds"), stage("checkpoints/stage1", "sft/stage1")]
  stages.perform(chain, Experiment(), tmp_path)
  return done, (tmp_path / "checkpoints" / "stage1" / "file").read_text()


def test_the_remedy_that_is_told_leads_back_to_the_undisturbed_result(tmp_path, capsys):
  _, right = run_stages(tmp_path)
  assert run_stages(tmp_path) == ([], right)
  (tmp_path / "seeds" / "COMPLETE.json").unlink()
  assert cli.call(["verify", str(tmp_path)]) == 1 and "COMPLETE.json is missing" in capsys.readouterr().out
  assert run_stages(tmp_path)[1] == right
  for name in ("seeds/file", "sft/stage1/COMPLETE.json", "checkpoints/stage1/.files"):
    flip(tmp_path / name, quietly=True)
    assert cli.call(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "built on it: " in said and name.rpartition("/")[2] in said
    for path in re.search(r"remove (.+), then run", said)[1].split(" and "):
      shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    assert run_stages(tmp_path)[1] == right
    assert cli.call(["verify", str(tmp_path)]) == 0
    capsys.readouterr()


def test_a_run_stops_at_damage_that_it_sees(tmp_path):
  run_stages(tmp_path)
  flip(tmp_path / "seeds" / "file")
  with pytest.raises(UserError, match=r"damaged: file changed .* built on it: .*curate stage 1.*remove .*/seeds/file"):
    run_stages(tmp_path)


def trained(tmp_path):
  """Trains as a stage does, and returns the checksum of the weights."""
  folder = tmp_path / "checkpoints" / "stage1"

  def work(run):
    facts = train(folder, checkpoint_every=4, keep=3)
    return {"output": orbax_folder.weights_hash(folder), "loss": facts["loss"]}

  stages.perform([Stage("train stage 1", "checkpoints/stage1", work)], Experiment(), tmp_path)
  return orbax_folder.weights_hash(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """A workdir with a trained stage, and the checksum of its weights."""
  workdir = tmp_path_factory.mktemp("undisturbed")
  return workdir, trained(workdir)


@pytest.mark.parametrize("what", ["step", "model.json", "tokenizer"])
def test_a_stage_whose_step_was_removed_is_finished_to_the_same_weights(undisturbed, tmp_path, what):
  whole, right = undisturbed
  shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
  folder = tmp_path / "checkpoints" / "stage1"
  last = max(int(path.name) for path in (folder / "steps").iterdir() if path.name.isdigit())
  gone = {"step": folder / "steps" / str(last), "model.json": folder / "model.json", "tokenizer": folder / "tokenizer"}
  before = {path: path.read_bytes() for path in (folder / "tokenizer").rglob("*") if path.is_file()}
  shutil.rmtree(gone[what]) if gone[what].is_dir() else gone[what].unlink()
  assert trained(tmp_path) == right and gone[what].exists()
  assert {path: path.read_bytes() for path in (folder / "tokenizer").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
  "change", [("rng_seeds", "r~g_seeds"), ("float32", "float33"), ("true", "false"), ('": 0', '": 1')]
)
def test_a_damaged_config_is_told_and_the_remedy_brings_it_back(tmp_path, capsys, change):
  """A name that is damaged is not taken for another version's, nor a value for another config."""
  _, right = run_stages(tmp_path)
  path = tmp_path / "config.json"
  whole = path.read_text()
  path.write_text(whole.replace(*change, 1))
  assert path.read_text() != whole
  assert cli.call(["verify", str(tmp_path)]) == 1 and "remove both" in capsys.readouterr().out
  with pytest.raises(UserError, match=r"does not fit .*config_hash. remove both, then run the same command"):
    run_stages(tmp_path)
  path.unlink()
  (tmp_path / "config_hash").unlink()
  assert run_stages(tmp_path) == ([], right) and path.read_text() == whole
  assert cli.call(["verify", str(tmp_path)]) == 0


def test_verifying_what_is_no_workdir_says_so_and_leaves_nothing(tmp_path, capsys):
  assert cli.call(["verify", str(tmp_path / "typo")]) == 1
  assert "no config.json here, so this is no workdir" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_cell_of_a_study_stays_complete_without_its_weights(tmp_path):
  files.write_text(tmp_path / "weights" / "steps" / "3" / "params", "array")
  files.write_text(tmp_path / "predictions.jsonl", "{}")
  integrity.complete(tmp_path, {"accuracy": 0.5})
  shutil.rmtree(tmp_path / "weights")
  assert integrity.completion(tmp_path) == {"accuracy": 0.5}


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_step_without_what_was_saved_with_it_is_named(undisturbed, tmp_path, content):
  folder = tmp_path / "copy"
  shutil.copytree(undisturbed[0] / "checkpoints" / "stage1", folder)
  meta = folder / "steps" / "999" / "meta" / "metadata"
  (folder / "steps" / "999").mkdir()  # a stranger's; the numbers of steps are all that is looked at first
  if content is not None:
    files.write_text(meta, content)
  with pytest.raises(UserError, match="steps/999"):
    orbax_folder.weights_hash(folder)
