"""Import and export write where nothing is, or over their own: what somebody else has made stays as it is."""

import json
import shutil

import pytest

from skymath_jax import files, models
from skymath_jax.cli import main as cli
from skymath_jax.convert import parity
from skymath_jax.errors import UserError
from tests.support.doubles import decoder

SOURCE = "asset:micro_base"


def everything(folder):
  return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def convert(verb, source, out, *more):
  return cli.call(
    [verb, f"--{'hf' if verb == 'import' else 'checkpoint'}={source}", f"--out={out}", "--logits=false", *more]
  )


def refused(capfd, verb, source, out, *more):
  """What an import or export says that must not be done."""
  assert convert(verb, source, out, *more) == 1
  said = capfd.readouterr().err
  assert said.count("\n") == 1 and "Traceback" not in said
  return said


@pytest.fixture
def notes(tmp_path):
  (tmp_path / "notes" / "deep").mkdir(parents=True)
  (tmp_path / "notes" / "a.txt").write_text("a")
  (tmp_path / "notes" / "deep" / "b.txt").write_text("b")
  return tmp_path / "notes"


@pytest.mark.parametrize("verb", ["import", "export"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_folder_of_somebody_else_is_not_touched(notes, capfd, verb, more):
  before = everything(notes.parent)
  (notes.parent / "link").symlink_to(notes)
  for out in (notes, f"{notes}/", notes / "deep" / "..", notes.parent / "link"):
    assert "holds what skymath_jax has not made" in refused(capfd, verb, SOURCE, out, *more)
  for out in (notes / "a.txt", notes / "a.txt" / "x"):
    assert "this is a file, or lies in one" in refused(capfd, verb, SOURCE, out, *more)
  (notes.parent / "link").unlink()
  assert everything(notes.parent) == before


@pytest.mark.parametrize("verb", ["import", "export"])
def test_the_current_folder_is_not_replaced(tmp_path, capfd, monkeypatch, verb):
  (tmp_path / "here").mkdir()
  monkeypatch.chdir(tmp_path / "here")
  for out in (".", "", tmp_path / "here"):
    assert "this is the current folder" in refused(capfd, verb, SOURCE, out)
  assert "this is the current folder" in refused(capfd, verb, SOURCE, "..")
  (tmp_path / "here" / files.MARK).touch()
  assert "this is the current folder" in refused(capfd, verb, SOURCE, ".", "--overwrite")


@pytest.mark.parametrize("verb", ["import", "export"])
def test_what_is_read_is_not_written_over(tmp_path, capfd, verb):
  source = tmp_path / "outer" / "model"
  shutil.copytree(models.resolve(SOURCE), source)
  for folder in (source, source.parent):
    (folder / files.MARK).touch()  # even where all of it may be replaced
  (tmp_path / "link").symlink_to(source)
  before = everything(tmp_path)
  for out in (source, f"{source}/", source / ".." / "model", tmp_path / "link", source / "sub", source.parent):
    assert "which is read" in refused(capfd, verb, source, out, "--overwrite")
    assert "which is read" in refused(capfd, verb, tmp_path / "link", out, "--overwrite")
  assert everything(tmp_path) == before


def test_an_earlier_one_is_replaced_if_that_is_asked_for(tmp_path, capfd):
  out = tmp_path / "out"
  out.mkdir()  # an empty folder will do
  assert convert("export", SOURCE, out) == 0
  (out / "more.txt").write_text("added")
  capfd.readouterr()
  for verb in ("import", "export"):
    assert "--overwrite replaces it" in refused(capfd, verb, SOURCE, out)
  assert (out / "more.txt").exists()
  assert convert("export", SOURCE, f"{out}/", "--overwrite") == 0
  assert json.loads(capfd.readouterr().out)["folder"] == f"{out}/"
  assert not (out / "more.txt").exists()
  assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_at_once_do_not_take_each_others_work_away(tmp_path, capfd):
  with files.new_folder(tmp_path / "ours") as first:
    (first / "half").write_text("1")
    assert "is in use by process" in refused(capfd, "import", SOURCE, tmp_path / "ours")
    assert (first / "half").exists()
  assert (tmp_path / "ours" / "half").exists()


@pytest.mark.parametrize("verb", ["import", "export"])
def test_a_model_that_is_not_there_is_named_in_one_line(tmp_path, capfd, verb):
  (tmp_path / "file").touch()
  assert f"{tmp_path / 'file'}: no such model folder" in refused(capfd, verb, tmp_path / "file", tmp_path / "out")
  told = refused(capfd, verb, "acme/tiny", tmp_path / "out")  # may be a hub id
  assert told.startswith(f"skymath {verb}: acme/tiny: no such folder here") and told.count("\n") == 1
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["import", "export"])
def test_a_bucket_is_refused_before_anything_is_written(tmp_path, capfd, monkeypatch, verb):
  monkeypatch.chdir(tmp_path)
  assert "not written into a bucket" in refused(capfd, verb, SOURCE, "gs://bucket/out")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("verb", "difference"), [("import", 15.0), ("export", float("nan"))])
def test_logits_that_differ_end_with_1(tmp_path, capfd, monkeypatch, verb, difference):
  found = {"compared_with": "another", "prompts": 3, "max_abs_logit_diff": difference, "max_abs_logit": 20.0}
  monkeypatch.setattr(parity, "report", lambda *_, **__: found)
  assert f"logits differ by {difference:.2e}" in refused(capfd, verb, SOURCE, tmp_path / "out")


def test_a_folder_that_transformers_cannot_read_is_told(tmp_path, monkeypatch):
  transformers = pytest.importorskip("transformers")

  def no_metadata(*_, **__):
    raise KeyError("metadata")

  monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", no_metadata)
  with pytest.raises(UserError, match=r"transformers cannot read this folder \(KeyError: 'metadata'\).*--logits=false"):
    parity.compare(decoder(), tmp_path, [[1, 2]])
