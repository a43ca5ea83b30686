"""What docs/architecture.md shows a newcomer is done as it says: its files are dropped into a copy of the package."""

import re
import shutil

import pytest

from tests.support.documentation import ROOT
from tests.support.processes import environment, python

PAGE = (ROOT / "docs/architecture.md").read_text()
FILES = dict(re.findall(r"`(skymath_jax/[^`]*NAME[^`]*)`[^\n]*:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
TRY = """
  import asyncio
  from skymath_jax import curation, hardware, synthesis
  from skymath_jax.records import Problem
  from skymath_jax.testing.teacher import ScriptedTeacher
  from tests.support.curation import instance, settings
  from tests.support.synthesis import run_pass

  with synthesis.ResponseStore("responses.sqlite") as store:
    result = run_pass(store, ScriptedTeacher(), [Problem.create("toy", "Has Mia 5?")], runs={"larger": 2.0})
  assert [made.method for made in result.instances] == ["larger", "larger"], result.summary()
  few, many = instance("2 + 2?", response="So.\\nThe answer is 7"), instance("What is 2 + 2, and why is it so?")
  found = curation.curate([few, many], test_sets={}, settings=settings(quality=("terse",)))
  assert [drop.reason for drop in found.dropped] == ["too_few_words"], found
  assert hardware.find("v9-8").chips == 8
  print("all found")
"""


@pytest.fixture
def copy(tmp_path):
  """The package and the helpers of its tests, without models."""
  for name in ("skymath_jax", "tests/support"):
    shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("assets", "__pycache__"))
  shutil.copy(ROOT / "tests/__init__.py", tmp_path / "tests")
  return tmp_path


def test_a_rule_and_a_method_are_found_by_being_there_and_a_machine_by_its_line(copy, monkeypatch):
  assert len(FILES) == 3
  for name, text in FILES.items():
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text(text)
  machines, first = copy / "skymath_jax/hardware.py", '    Hardware(name="gpu24"'
  new = '    Hardware(name="v9-8", chip=V5E, shape=(8,)),\n'
  machines.write_text(machines.read_text().replace(first, new + first))
  monkeypatch.chdir(copy)
  done = python(TRY, env={**environment(), "PYTHONPATH": str(copy)})
  assert done.stdout == "all found\n", done.stderr[-2000:]
