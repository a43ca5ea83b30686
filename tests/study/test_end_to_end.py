"""`skymath study` itself, killed once: the real teacher, trainer and engine on a handful of instances."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skymath_jax.study.ablations import ABLATIONS

ROOT = Path(__file__).parents[2]
SMALL = (
  "--config.seeds.limit=40", "--config.synthesis.coreset_size=10", "--config.serving.slots=16",
  "--config.study.sizes=(8, 16, 32, 64)", "--config.study.ablation_size=16", "--config.study.rng_seeds=1",
  "--config.evaluation.limit=20",
)  # fmt: skip


@pytest.mark.slow
def test_a_study_that_is_killed_and_goes_on(tmp_path):
  config = f"--config={ROOT / 'configs' / 'study_micro.py'}"
  command = [sys.executable, "-m", "skymath_jax.cli", "study", config, f"--workdir={tmp_path / 'run'}", *SMALL]
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
  cells = tmp_path / "run" / "study" / "cells"
  first = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  deadline = time.time() + 500
  while time.time() < deadline and len(list(cells.glob("*/COMPLETE.json"))) < 3 and first.poll() is None:
    time.sleep(0.2)
  first.send_signal(signal.SIGKILL)
  first.wait()
  before = {path: path.stat().st_mtime_ns for path in cells.glob("*/COMPLETE.json")}
  assert 3 <= len(before) < 12
  done = subprocess.run(
    command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert before == {path: path.stat().st_mtime_ns for path in before}
  summary = json.loads((tmp_path / "run" / "study" / "summary.json").read_text())
  assert [point["size"] for point in summary["curve"]] == [8, 16, 32, 64]
  assert set(summary["ablations"]) == set(ABLATIONS)
  assert len(summary["cells"]) == summary["cells_wanted"] == len(list(cells.glob("*/predictions.jsonl")))
  sets = {cell["name"]: cell["set"]["instances"] for cell in summary["cells"] if cell["name"] != "base"}
  assert sets["normal-64.seed0"] == 64 and sets["normal-16+hard-16-late.seed0"] == sets["xwin-16.seed0"] == 16
  assert (tmp_path / "run" / "study" / "report.html").read_text().count("<picture>") == 3
