"""The fake training of a study, in place, and a workdir that is ready for it."""

import json

import pytest

from skymath_jax import study
from tests.support.study import in_place, write_sets


@pytest.fixture
def fake(monkeypatch):
  """The fake, in place."""
  return in_place(monkeypatch)


@pytest.fixture
def workdir(tmp_path):
  """A workdir whose data is ready: 400 normal and 60 hard instances."""
  write_sets(tmp_path)
  return tmp_path


@pytest.fixture(scope="session")
def summary_of():
  """A function: workdir → the study's summary."""
  return lambda workdir: json.loads((workdir / "study" / "summary.json").read_text())


@pytest.fixture(scope="session")
def run_study():
  """`study.run`."""
  return study.run
