"""Durable files: whole or absent, whatever happens."""

import multiprocessing
import os
import signal
import time

import pytest

from skymath_jax import files, integrity
from skymath_jax.errors import UserError


def test_an_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  files.write_json(path, {"x": 1})
  monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
  with pytest.raises(OSError, match="disk full"):
    files.write_json(path, {"x": 2})
  assert files.read_json(path) == {"x": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_new_folder_appears_only_when_whole(tmp_path):
  target = tmp_path / "out"
  with pytest.raises(RuntimeError), files.new_folder(target) as folder:
    (folder / "half").write_text("1")
    raise RuntimeError("killed")
  assert not target.exists() and not list(tmp_path.iterdir())
  with files.new_folder(target) as folder:
    (folder / "whole").write_text("1")
  with files.new_folder(target) as folder:
    (folder / "newer").write_text("2")
  assert sorted(p.name for p in target.iterdir()) == [files.MARK, "newer"]
  assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_new_folder_replaces_only_its_own(tmp_path):
  target = tmp_path / "out"
  with files.new_folder(target) as folder:
    (folder / "a").write_text("1")
  (target / files.MARK).unlink()  # the user wants to keep it
  with pytest.raises(UserError, match="has not made"), files.new_folder(target):
    pass
  assert (target / "a").exists()


def test_new_folder_finds_that_its_place_was_taken_meanwhile(tmp_path):
  with pytest.raises(UserError, match="has not made"), files.new_folder(tmp_path / "out"):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("somebody's")
  assert [p.name for p in tmp_path.iterdir()] == ["out"]
  assert (tmp_path / "out" / "notes").read_text() == "somebody's"


def test_fingerprint_sees_names_and_bytes_but_not_marks(tmp_path):
  (tmp_path / "a").write_text("1")
  first = files.fingerprint(tmp_path)
  integrity.complete(tmp_path, {"output": first})
  assert files.fingerprint(tmp_path) == first and files.completion(tmp_path) == {"output": first}
  (tmp_path / "a").rename(tmp_path / "b")
  assert files.fingerprint(tmp_path) != first


def test_unreadable_json_names_file_and_line(tmp_path):
  (tmp_path / "bad.json").write_text('{"a": 1,\n oops}')
  with pytest.raises(UserError, match=r"bad\.json:2: not JSON"):
    files.read_json(tmp_path / "bad.json")
  with pytest.raises(UserError, match=r"none\.json: no such file"):
    files.read_json(tmp_path / "none.json")


def _hold(path, held):
  with files.lock(path, "the thing"):
    held.set()
    time.sleep(60)


def test_lock_refuses_a_second_holder_and_dies_with_the_first(tmp_path):
  context = multiprocessing.get_context("spawn")
  held = context.Event()
  process = context.Process(target=_hold, args=(tmp_path / "lock", held))
  process.start()
  assert held.wait(30)
  holder = f"the thing is in use by process {process.pid} on "
  for _ in range(2):  # who asks does not change what the holder has left
    with pytest.raises(UserError, match=holder), files.lock(tmp_path / "lock", "the thing"):
      pass
  os.kill(process.pid, signal.SIGKILL)
  process.join()
  with files.lock(tmp_path / "lock", "the thing"):
    pass


def test_a_lock_that_is_not_kept_leaves_no_file(tmp_path):
  with files.lock(tmp_path / "lock", "the thing", keep=False):
    with pytest.raises(UserError, match="in use"), files.lock(tmp_path / "lock", "the thing", keep=False):
      pass
    assert (tmp_path / "lock").exists()
  assert not list(tmp_path.iterdir())


def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path):
  folder = tmp_path / "exp[1]" / "a*b"
  for name in ("x.json", "sub/y.json", "z.txt"):
    files.write_text(folder / name, "{}")
  assert [path.name for path in files.matching(folder, "*.json")] == ["x.json"]
  assert [path.name for path in files.matching(folder, "*/*.json")] == ["y.json"]
  (tmp_path / "exp[1]" / ".new[2].0000.tmp").mkdir()
  with files.new_folder(tmp_path / "exp[1]" / "new[2]") as new:
    files.write_text(new / "file", "x")
  assert sorted(path.name for path in (tmp_path / "exp[1]").iterdir()) == ["a*b", "new[2]"]


@pytest.mark.parametrize("name", ["exp[1]", "a*", "what?", "x]"])
def test_checkpoints_want_a_plain_name(tmp_path, name):
  with pytest.raises(UserError, match="checkpoints cannot be kept in a path with"):
    files.require_plain_name(tmp_path / name / "deep")
  files.require_plain_name(tmp_path / "blank and ü ~ {x}")
