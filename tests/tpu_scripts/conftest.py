"""A checkout of its own with the scripts in it, and the fake cloud on PATH."""

import shutil
import subprocess

import pytest

from tests.support.cloud import ROOT, Cloud


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
  """A git repository with the scripts, one config and the pinned versions: what `setup` sends."""
  folder = tmp_path_factory.mktemp("checkout") / "repo"
  shutil.copytree(ROOT / "tpu_scripts", folder / "tpu_scripts")
  (folder / "configs").mkdir()
  for name in ("configs/quickstart.py", "constraints.txt", "overrides.txt", "pyproject.toml"):
    shutil.copy(ROOT / name, folder / name)
  git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
  for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
    subprocess.run([*git, *command], check=True)
  return folder


@pytest.fixture
def cloud(tmp_path, checkout, monkeypatch):
  monkeypatch.setenv("FAKE_CLOUD", str(tmp_path))
  made = Cloud(tmp_path, checkout)
  yield made
  for host in (tmp_path / "hosts").glob("*"):
    made.fake.remove_hosts(host.name.rpartition("-w")[0])
