"""Several sources mixed by weight: a run that is stopped between two checkpoints ends as one that was not."""

import csv
import json

import pytest

from skymath_jax.models import orbax_folder
from skymath_jax.sft import pairs
from skymath_jax.training.checkpointing import Checkpointer
from tests.support.doubles import some_rows
from tests.support.short_run import curve, train


def test_a_mixture_goes_on_bit_for_bit(tmp_path, monkeypatch):
  first, second = (list(some_rows(count, rng_seed=count).rows) for count in (60, 61))
  (tmp_path / "a.jsonl").write_text("".join(json.dumps({"query": q, "response": r}) + "\n" for q, r in first))
  with (tmp_path / "b.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("question", "answer"), *second])

  def run(name, **changes):
    source = pairs.open(f"{tmp_path}/a.jsonl:2,{tmp_path}/b.csv:0.5")
    return train(tmp_path / name, source=source, checkpoint_every=4, **changes)

  facts = run("straight")
  assert facts["examples"] == 2 * 60 + 61 // 2
  calls = []

  def stop(_):
    calls.append(1)
    if len(calls) == 7:
      raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(Checkpointer, "check", stop)
    run("stopped")
  assert orbax_folder.committed(tmp_path / "stopped")[0] == 4 < facts["steps"] - 4
  assert run("stopped") == facts
  assert curve(tmp_path / "stopped") == curve(tmp_path / "straight")
  assert orbax_folder.weights_hash(tmp_path / "stopped") == orbax_folder.weights_hash(tmp_path / "straight")
  with pytest.raises(Exception, match="belongs to another run: data was"):
    train(tmp_path / "stopped", source=pairs.open(f"{tmp_path}/a.jsonl:2,{tmp_path}/b.csv"))
