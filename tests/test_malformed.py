"""What strangers give: model folders and data files are refused in words or read, and nothing else happens."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from skymath_jax import foreign
from skymath_jax.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fuzz():
  spec = importlib.util.spec_from_file_location("malformed_files", ROOT / "benchmarks" / "malformed_files.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module.fuzz


def test_malformed_folders_and_files_end_in_words(fuzz):
  found = fuzz(20, 80, seed=1)
  assert all(set(outcomes) <= {"refused", "read"} for outcomes in found.values()), found


@pytest.mark.slow
def test_a_thousand_malformed_folders_and_files_end_in_words(fuzz):
  found = fuzz(500, 500, seed=0)
  assert all(set(outcomes) <= {"refused", "read"} for outcomes in found.values()), found


@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder", "circle", "large"])
def test_only_regular_files_of_the_folder_are_read(tmp_path, kind):
  path, elsewhere = tmp_path / "model" / "LICENSE", tmp_path / "elsewhere"
  path.parent.mkdir()
  elsewhere.write_text("secret")
  make = {
    "link": lambda: path.symlink_to(elsewhere),
    "pipe": lambda: os.mkfifo(path),
    "device": lambda: path.symlink_to("/dev/zero"),
    "folder": path.mkdir,
    "circle": lambda: path.symlink_to(path),
    "large": lambda: path.write_bytes(b"x" * 101),
  }
  make[kind]()
  with pytest.raises(UserError):
    foreign.read_bytes(path, most=100)


def test_links_inside_a_folder_and_to_the_hub_caches_blobs_are_followed(tmp_path):
  snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
  snapshot.mkdir(parents=True)
  blobs.mkdir()
  (blobs / "abc").write_text('{"a": 1}')
  (snapshot / "config.json").symlink_to("../../blobs/abc")
  (snapshot / "again.json").symlink_to("config.json")
  assert foreign.read_object(snapshot / "config.json") == foreign.read_object(snapshot / "again.json") == {"a": 1}
  (tmp_path / "models--a--b" / "refs").write_text("{}")
  (snapshot / "refs.json").symlink_to("../../refs")
  with pytest.raises(UserError, match="leads out"):
    foreign.read_object(snapshot / "refs.json")
