"""The command of a recipe small enough for a test: the quickstart with fewer seeds, one epoch, a short benchmark."""

import os
import sys
from pathlib import Path

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
