"""A config file, and a driver that runs variants of it through the real command line in processes of their own."""

import json
from pathlib import Path

import numpy as np

from tests.support.processes import environment, python

EXPERIMENT = Path(__file__).with_name("experiment.py")

DRIVER = """
import json, sys
from skymath_jax.cli import main as cli

variants, config, out = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
for name, flags in variants.items():
  code = cli.call(["train", f"--config={config}", f"--workdir={out}/{name}", *(f"--config.{flag}" for flag in flags)])
  assert code == 0, (name, code)
"""


def drive(variants, out, *, devices=1):
  """Runs `skymath train` once a variant ({name: [flags without --config.]}), in one process with so many devices."""
  done = python(DRIVER, json.dumps(variants), EXPERIMENT, out, env=environment(devices), timeout=3000)
  assert done.returncode == 0, done.stderr[-4000:]
  return {name: rows(Path(out) / name) for name in variants}


def rows(workdir):
  """metrics.jsonl of a run."""
  return [json.loads(line) for line in (workdir / "checkpoints/stage1/metrics.jsonl").read_text().splitlines()]


def residuals(found, reference, key):
  """(found − reference) / reference of each step; the steps must be the same ones."""
  assert [row["step"] for row in found] == [row["step"] for row in reference]
  for count in ("tokens", "loss_tokens", "learning_rate"):
    assert [row[count] for row in found] == [row[count] for row in reference]
  a, b = (np.array([row[key] for row in one]) for one in (found, reference))
  return (a - b) / b


def assert_equivalent(found, reference, name):
  """Every loss within 1e-5, every gradient norm within 1e-4, and no drift to one side."""
  loss, norm = residuals(found, reference, "loss"), residuals(found, reference, "grad_norm")
  print(f"{name}: loss max {np.abs(loss).max():.1e} mean {loss.mean():+.1e}; norm max {np.abs(norm).max():.1e}")
  assert np.abs(loss).max() <= 1e-5, (name, loss)
  assert np.abs(norm).max() <= 1e-4, (name, norm)
  assert abs(loss.mean()) <= 1e-6, (name, loss)
