"""What a run shows and keeps while it goes: held-out loss, best checkpoint, profile, W&B, failed writes, warnings."""

import sys
import time
import types

import jax
import numpy as np
import pytest
from flax import nnx

from skymath_jax.config import Training
from skymath_jax.errors import UserError
from skymath_jax.models import orbax_folder
from skymath_jax.training import held_out, metrics, optimizer, step
from skymath_jax.training.examples import hold_out
from skymath_jax.training.packing import Packing, Steps
from tests.support.doubles import Characters, decoder, tokenize
from tests.support.processes import python
from tests.support.short_run import ROWS, curve, train


def tokenized():
  return tokenize(ROWS, Characters(), template="raw", max_length=64)


def test_held_out_examples_are_never_trained_and_the_rest_always():
  whole = tokenized()
  rest, held = hold_out(whole, 13, rng_seed=5)
  again = hold_out(whole, 13, rng_seed=5)
  assert (len(rest), len(held)) == (87, 13) and held.fingerprint == again[1].fingerprint

  def pieces(e):
    return sorted(e.tokens[e.place(i)].tolist() for i in range(len(e)))

  assert sorted(pieces(rest) + pieces(held)) == pieces(whole)
  assert held.fingerprint != hold_out(whole, 13, rng_seed=6)[1].fingerprint
  with pytest.raises(UserError, match="cannot be held out"):
    hold_out(whole, 100, rng_seed=5)


def test_held_out_loss_is_the_mean_over_all_trained_tokens_however_they_are_packed():
  graph, state = step.init(decoder(), optimizer.make(Training()))
  _, held = hold_out(tokenized(), 30, rng_seed=5)
  total = weight = 0.0
  alone = np.zeros((len(held), 64), np.int32)  # each example in a row of its own; what pads it comes after it
  for i in range(len(held)):
    alone[i, : held.lengths[i]] = held.tokens[held.place(i)]
  log_p = np.asarray(nnx.jit(lambda model: jax.nn.log_softmax(model(alone)))(decoder()))
  for i in range(len(held)):
    trained = np.flatnonzero(held.trained[held.place(i)])
    total, weight = total - log_p[i, trained - 1, alone[i, trained]].sum(), weight + len(trained)
  for rows in (4, 2):
    packing = Packing(max_length=64, rows=rows, epochs=1)
    steps = Steps(held, packing)
    value = held_out.mean_loss(state, steps, dict, graph=graph, loss_chunk=100)
    assert value == pytest.approx(total / weight, rel=1e-5)


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path, monkeypatch):
  losses = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
  monkeypatch.setattr(held_out, "mean_loss", lambda *_, **__: next(losses))
  facts = train(tmp_path, keep=1, keep_best=True, held_out=20, checkpoint_every=2)
  kept = {n: orbax_folder.read_meta(tmp_path, n)["facts"]["held_out_loss"] for n in orbax_folder.committed(tmp_path)}
  assert (len(kept), kept[4], facts["examples"]) == (2, 1.0, 80)
  assert max(kept) == facts["steps"]


def test_a_profile_is_left_where_it_is_asked_for(tmp_path, capsys):
  train(tmp_path, profile_step=3, checkpoint_every=1000)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert "profile of steps 3 to 7" in capsys.readouterr().err


def test_a_profile_that_the_run_does_not_outlast_is_left_too(tmp_path):
  train(tmp_path, profile_step=9, checkpoint_every=1000)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_rows_longer_than_the_model_s_positions_are_allowed_with_a_warning(tmp_path, capsys):
  train(tmp_path / "fits", checkpoint_every=1000)
  assert "warning" not in capsys.readouterr().err
  train(tmp_path / "long", checkpoint_every=1000, model=decoder(max_positions=48))
  assert "training.max_length is 64, the model was made for 48 positions" in capsys.readouterr().err


def test_wandb_gets_the_numbers_if_installed_and_asked_for(tmp_path, monkeypatch):
  seen = []
  run = types.SimpleNamespace(log=lambda values, step: seen.append((step, values)), finish=lambda: seen.append("end"))
  fake = types.ModuleType("wandb")
  fake.init, fake.__spec__ = (lambda **_: run), types.SimpleNamespace(name="wandb")
  monkeypatch.setitem(sys.modules, "wandb", fake)
  with metrics.Writer(tmp_path / "quiet", step=0) as writer:
    writer.write({"step": 1, "loss": 2.0})
  assert not seen
  monkeypatch.setenv("WANDB_PROJECT", "maths")
  with metrics.Writer(tmp_path / "loud", step=0) as writer:
    writer.write({"step": 1, "loss": 2.0})
  assert seen == [(1, {"loss": 2.0}), "end"]


FULL_DISK = """
  import resource, signal, sys
  from tests.support.doubles import some_rows
  from tests.support.short_run import train
  from skymath_jax.errors import UserError
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  calls = []
  def fill(_):
    calls.append(1)
    if len(calls) == 2:
      resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the next step's arrays cannot be written
    return {}
  try:
    train(sys.argv[1], source=some_rows(400), checkpoint_every=4, evaluate=fill)
  except UserError as error:
    print("UserError:", error)
"""


def test_a_checkpoint_that_cannot_be_written_in_the_background_stops_the_run(tmp_path):
  done = python(FULL_DISK, tmp_path, timeout=300)
  assert "UserError:" in done.stdout and "could not be written" in done.stdout, done.stderr[-3000:]
  assert orbax_folder.committed(tmp_path) in ([4], [8, 4])  # as far as the writer had come
  assert curve(tmp_path)[-1][0] < 40  # it did not go on to the end (about 45 steps)


def test_weights_in_bfloat16_move_as_far_as_those_in_float32_on_the_mean():
  x = np.full((400, 300), 0.02, np.float32)
  for change in (1e-6, -2e-5, 3e-4):
    moved = step.stochastic_round(jax.numpy.asarray(x + change), "bfloat16", jax.numpy.int32(7), 3).astype(np.float32)
    assert float(np.mean(np.asarray(moved))) == pytest.approx(0.02 + change, abs=5e-7)
    assert len(np.unique(np.asarray(moved))) == 2  # the two neighbours, no others
  a, b = (step.stochastic_round(jax.numpy.asarray(x), "bfloat16", jax.numpy.int32(n), 3) for n in (7, 8))
  assert (np.asarray(a) != np.asarray(b)).any()
  np.testing.assert_array_equal(step.stochastic_round(jax.numpy.asarray(x), "float32", jax.numpy.int32(7), 3), x)


def test_training_in_bfloat16_follows_float32_and_says_that_it_is_not(tmp_path, capsys):
  wide = train(tmp_path / "wide", epochs=6, checkpoint_every=1000)
  narrow = train(tmp_path / "narrow", epochs=6, checkpoint_every=1000, model=decoder(param_dtype="bfloat16"))
  assert narrow["loss"] == pytest.approx(wide["loss"], rel=0.02)
  assert "warning: weights and second moments are bfloat16" in capsys.readouterr().err
  state = jax.eval_shape(lambda: step.init(decoder(param_dtype="bfloat16"), optimizer.make(Training()))[1])
  dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(state)}
  assert dtypes == {"bfloat16", "float32", "int32"}  # float32: the first moment, by mu_dtype


def test_the_board_survives_a_clock_that_steps_back_and_a_disk_that_fails(tmp_path, monkeypatch, capsys):
  clock = [2_000_000_000.0]
  monkeypatch.setattr(time, "time", lambda: clock[0])
  with metrics.Writer(tmp_path, step=0) as writer:
    for step in range(1, 200):
      writer.write({"step": step, "loss": 1.0})
      clock[0] -= 20 * 24 * 3600.0 if step == 50 else -1.0
    writer.flush()
    (events,) = tmp_path.glob("events.out.tfevents.*")
    whole = events.stat().st_size

    def full(*_):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.write", full)
    for step in range(200, 300):
      writer.scalars(step, {"x": 1.0})
  assert whole > 199 * 30 and events.stat().st_size == whole
  assert capsys.readouterr().err.count("training goes on without") == 1
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 199
