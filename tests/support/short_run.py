"""A run of a dozen steps: what the tests of the loop, of its interruptions and of meshes train."""

import dataclasses
import json

from skymath_jax import training
from tests.support.doubles import Characters, decoder, some_rows

SETTINGS = training.Settings(
  template="raw", max_length=64, rows=4, epochs=1, learning_rate=3e-3, checkpoint_every=4, keep=3
)
ROWS = some_rows(100)  # 11 or 12 steps


def train(folder, *, model=None, rows=ROWS, mesh=None, evaluate=None, **changes):
  settings = dataclasses.replace(SETTINGS, **changes)
  return training.train(model or decoder(), Characters(), rows, folder, settings, mesh=mesh, evaluate=evaluate)


def curve(folder):
  """(step, loss, grad_norm, learning_rate) of each row of metrics.jsonl."""
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [(row["step"], row["loss"], row["grad_norm"], row["learning_rate"]) for row in rows]
