import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.errors import UserError
from skymath_jax.models import orbax_folder
from skymath_jax.training import metrics, step
from tests.support.doubles import Characters, Rows, decoder, some_rows
from tests.support.processes import python
from tests.support.short_run import ROWS, curve, train


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A run without interruption: folder, facts."""
  folder = tmp_path_factory.mktemp("straight")
  return folder, train(folder)


def assert_same_run(folder, straight):
  assert curve(folder) == curve(straight[0])
  assert orbax_folder.weights_hash(folder) == orbax_folder.weights_hash(straight[0])


def test_leaves_checkpoint_and_metrics_behind(straight):
  folder, facts = straight
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  assert [row["step"] for row in rows] == list(range(1, facts["steps"] + 1))
  assert set(rows[0]) == {
    "step", "loss", "grad_norm", "learning_rate", "tokens", "loss_tokens", "seconds", "mfu"
  }  # fmt: skip
  assert sum(row["tokens"] for row in rows) == facts["tokens"]
  assert sum(row["loss_tokens"] for row in rows) == facts["loss_tokens"]
  assert facts["examples"] == 100 and facts["fill"] > 0.9
  assert orbax_folder.committed(folder) == [facts["steps"], 8, 4]
  (events,) = folder.glob("events.out.tfevents.*")
  for tag in (b"loss", b"tokens_per_second", b"loss_tokens_per_second", b"grad_norm"):
    assert tag in events.read_bytes()


def test_one_program_serves_first_step_resumed_steps_and_a_second_stage(straight, tmp_path, monkeypatch):
  traces, traced = [], step.loss_and_gradient
  monkeypatch.setattr(step, "loss_and_gradient", lambda *a, **k: traces.append(1) or traced(*a, **k))
  folder = tmp_path / "resumed"
  shutil.copytree(straight[0], folder)
  shutil.rmtree(folder / "steps" / str(straight[1]["steps"]))
  train(folder)
  train(tmp_path / "second", learning_rate=1e-4, epochs=2)
  assert not traces


def test_a_finished_run_returns_at_once_with_the_same_facts(straight):
  folder, facts = straight
  before = (folder / "metrics.jsonl").stat().st_mtime_ns
  assert train(folder) == facts
  assert (folder / "metrics.jsonl").stat().st_mtime_ns == before


def test_sigterm_saves_exits_143_and_the_rest_is_the_same_bit_for_bit(straight, tmp_path):
  with pytest.raises(SystemExit) as stopped:
    train(tmp_path, checkpoint_every=3, evaluate=lambda _: os.kill(os.getpid(), signal.SIGTERM) or {})
  assert stopped.value.code == 143
  assert orbax_folder.committed(tmp_path)[0] == 4  # the step after the signal
  assert train(tmp_path)["loss"] == straight[1]["loss"]
  assert_same_run(tmp_path, straight)


def test_sigkill_while_a_checkpoint_is_being_written(straight, tmp_path):
  program = """
    import os, signal, sys
    from tests.support.short_run import train
    calls = []
    def kill(_):
      calls.append(1)
      if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
      return {}
    train(sys.argv[1], evaluate=kill)
  """
  done = python(program, tmp_path)
  assert done.returncode == -signal.SIGKILL, done.stderr
  train(tmp_path)
  assert_same_run(tmp_path, straight)
  assert not list((tmp_path / "steps").glob("*tmp*"))


@pytest.mark.parametrize("damage", ["flip", "remove", "meta"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(straight, tmp_path, damage, capsys):
  folder = tmp_path / "copy"
  shutil.copytree(straight[0], folder)
  number = 8
  newest = folder / "steps" / str(number)
  shutil.rmtree(folder / "steps" / str(straight[1]["steps"]))
  data = sorted((newest / "params" / "ocdbt.process_0" / "d").iterdir(), key=lambda p: p.stat().st_size)[-1]
  if damage == "flip":
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
  elif damage == "remove":
    data.unlink()
  else:
    (newest / "meta" / "metadata").write_text('{"run": {')
  train(folder)
  assert f"step {number} cannot be used" in capsys.readouterr().err
  assert_same_run(folder, straight)
  assert (folder / "steps" / f"damaged-{number}").exists()


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"source": dataclasses.replace(ROWS, fingerprint="other")}, "data was 'rows', now it is 'other'"),
    ({"learning_rate": 1e-3}, "settings.learning_rate was 0.003, now it is 0.001"),
    ({"template": "sft/alpaca"}, "template was"),
    ({"model": "other"}, "initial_weights was"),
  ],
)
def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(straight, changes, named):
  if "model" in changes:
    other = decoder()
    other.norm.set_value(other.norm[...] * 2)
    changes = {"model": other}
  before = (straight[0] / "model.json").stat().st_mtime_ns
  with pytest.raises(UserError, match=named):
    train(straight[0], **changes)
  assert (straight[0] / "model.json").stat().st_mtime_ns == before


def test_what_does_not_change_the_arithmetic_may_change(straight):
  assert train(straight[0], micro_batches=2, keep=1, checkpoint_every=7) == straight[1]


def test_losses_that_are_not_finite_are_skipped_reported_and_stop_in_the_end(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(metrics, "STOP_AFTER_NONFINITE", 3)
  with pytest.raises(UserError, match="step 4: 3 steps in a row had a loss or gradient that is not finite"):
    train(tmp_path, checkpoint_every=20, learning_rate=1e30, warmup_ratio=0.0, schedule="constant")
  assert [(row[0], row[1] is None) for row in curve(tmp_path)] == [(1, False), (2, True), (3, True)]
  assert capsys.readouterr().err.count("nothing was updated") == 3


def test_overfits_32_examples(tmp_path):
  rows = some_rows(32, rng_seed=1, longest=9)
  facts = train(tmp_path, source=rows, epochs=60, learning_rate=1e-2, warmup_ratio=0.05, checkpoint_every=1000)
  assert facts["loss"] < 0.1


def test_load_gives_the_trained_model_without_the_trainer(straight, monkeypatch):
  monkeypatch.setattr(tokenizer_lib, "load", lambda folder: folder)
  model, tokenizer = orbax_folder.load(straight[0])
  assert (straight[0] / "tokenizer" / "characters").exists() and str(tokenizer).endswith("tokenizer")
  assert orbax_folder.checksum(nnx.state(model, nnx.Param)) == orbax_folder.weights_hash(straight[0])
  earlier, _ = orbax_folder.load(straight[0], step=8)
  assert not np.array_equal(earlier.norm[...], model.norm[...])
  narrow, _ = orbax_folder.load(straight[0], dtype="bfloat16")
  assert narrow.norm[...].dtype == "bfloat16" and narrow.config.dtype == "bfloat16"


def test_arrays_lie_on_disk_in_pieces_of_bounded_size(tmp_path, monkeypatch):
  """Else who reads a checkpoint (an export, another mesh) must hold whole arrays: 2 GB each for a 7B model."""
  monkeypatch.setattr(orbax_folder, "CHUNK_BYTES", 2048)
  train(tmp_path / "run", source=some_rows(10), checkpoint_every=1000)
  step = orbax_folder.committed(tmp_path / "run")[0]
  for item in ("params", "optimizer"):
    arrays = ocp.PyTreeCheckpointHandler().metadata(tmp_path / "run/steps" / str(step) / item).tree
    sizes = {name: np.prod(x.storage.chunk_shape) * np.dtype(x.dtype).itemsize for name, x in arrays.items()}
    assert max(np.prod(x.shape) * np.dtype(x.dtype).itemsize for x in arrays.values()) > 2048 >= max(sizes.values())


def test_save_and_load_of_a_model_that_was_not_trained_here(tmp_path, monkeypatch):
  monkeypatch.setattr(tokenizer_lib, "load", lambda folder: None)
  orbax_folder.save(decoder(), Characters(), tmp_path)
  model, _ = orbax_folder.load(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(decoder()))
  with pytest.raises(UserError, match="another run"):
    train(tmp_path)


def test_load_refuses_a_folder_without_a_checkpoint(tmp_path):
  with pytest.raises(UserError, match="this is no checkpoint"):
    orbax_folder.load(tmp_path)


def test_checksum_sees_order_shape_and_one_bit():
  x = np.arange(12, dtype=np.float32).reshape(3, 4)
  changed = x.copy()
  changed.view(np.uint32)[1, 2] ^= 1
  variants = [x, x[::-1].copy(), x.reshape(4, 3), changed, x.astype(np.int32)]
  assert len({orbax_folder.checksum({"x": jax.numpy.asarray(v)}) for v in variants}) == len(variants)


def test_flops_are_those_of_the_matmuls_that_are_needed():
  config = decoder().config
  one_segment = metrics.step_flops(config, tokens=64, loss_tokens=64, attention_pairs=64 * 64)
  assert one_segment == pytest.approx(64 * config.flops_per_token(64), rel=0.01)
  assert metrics.step_flops(config, 64, 0, 64 * 64) < one_segment


def test_an_id_that_the_embedding_lacks_is_refused_before_the_first_step(tmp_path):
  with pytest.raises(UserError, match="token '<63>' has id 63, the model's embedding only 63 rows"):
    train(tmp_path, model=decoder(vocab_size=63))
  assert not list(tmp_path.iterdir())


def test_an_empty_set_is_refused(tmp_path):
  with pytest.raises(UserError, match="nothing to train on"):
    train(tmp_path, source=Rows(()))
