"""One run of the small recipe, for all tests that look at what a run leaves."""

import json
import subprocess

import pytest

from tests.support.compiled import compiled_programs_are_shared  # noqa: F401, a fixture
from tests.support.small_recipe import command, environment


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
  """The workdir of one undisturbed small run, its summary, and the folder of its compile cache."""
  tmp = tmp_path_factory.mktemp("recipe")
  done = subprocess.run(
    command(tmp / "run"), env=environment(tmp), cwd=tmp, capture_output=True, text=True, timeout=540, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return tmp / "run", json.loads((tmp / "run" / "summary.json").read_text()), tmp
