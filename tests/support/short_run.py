"""A run of a dozen steps: what the tests of the loop, of its interruptions and of meshes train."""

import dataclasses
import json

from skymath_jax import training
from skymath_jax.config import Stage, Training
from tests.support.doubles import Characters, decoder, some_rows

SETTINGS = Training(template="raw", max_length=64, rows=4, checkpoint_every=4, keep=3)
STAGE = Stage(epochs=1, learning_rate=3e-3)
ROWS = some_rows(100)  # 11 or 12 steps


def train(folder, *, model=None, source=ROWS, mesh=None, evaluate=None, adapter=None, **changes):
  """`changes` are of SETTINGS or STAGE."""
  of_stage = {key: changes.pop(key) for key in ("epochs", "learning_rate") if key in changes}
  settings, stage = dataclasses.replace(SETTINGS, **changes), dataclasses.replace(STAGE, **of_stage)
  return training.train(
    model or decoder(), Characters(), source, folder, settings, stage, mesh=mesh, evaluate=evaluate, adapter=adapter
  )


def curve(folder):
  """(step, loss, grad_norm, learning_rate) of each row of metrics.jsonl."""
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [(row["step"], row["loss"], row["grad_norm"], row["learning_rate"]) for row in rows]
