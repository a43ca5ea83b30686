"""A recipe small enough for a test: the real quickstart with fewer seeds, one epoch and a short benchmark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
  "--config.seeds.limit=40",
  "--config.synthesis.coreset_size=20",
  "--config.training.stage1.epochs=1",
  "--config.training.stage2.epochs=1",
  "--config.training.checkpoint_every=2",
  "--config.evaluation.limit=40",
  "--config.serving.slots=32",
)


def command(workdir, *more, verb="run"):
  return [
    sys.executable, "-m", "skymath_jax.cli", verb, f"--config={ROOT / 'configs' / 'quickstart.py'}",
    f"--workdir={workdir}", *SMALL, *more,
  ]  # fmt: skip


def environment(tmp):
  return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(tmp / "xla"), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
  """The workdir of one undisturbed small run, its summary, and the folder of its compile cache."""
  tmp = tmp_path_factory.mktemp("recipe")
  done = subprocess.run(
    command(tmp / "run"), env=environment(tmp), cwd=tmp, capture_output=True, text=True, timeout=540, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return tmp / "run", json.loads((tmp / "run" / "summary.json").read_text()), tmp
