"""A run killed again and again, at random moments of its life, ends as the one that nobody disturbed."""

import random
import signal
import subprocess
import sys
import time

import pytest

from skymath_jax import models, tokenizer
from skymath_jax.models import orbax_folder
from skymath_jax.sft import texts
from skymath_jax.training.packing import Packing, Steps
from tests.support.doubles import tokenize
from tests.support.processes import environment
from tests.support.trajectory import EXPERIMENT, assert_equivalent, drive, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
EPOCHS, EVERY = 20, 5
FLAGS = [f"training.stage1.epochs={EPOCHS}", f"training.checkpoint_every={EVERY}", "training.stage1.learning_rate=1e-3"]
KILLS, TERMS = 20, 5


def start(workdir, devices=1):
  flags = [f"--config.{flag}" for flag in FLAGS]
  command = [sys.executable, "-m", "skymath_jax.cli", "train", f"--config={EXPERIMENT}", f"--workdir={workdir}", *flags]
  return subprocess.Popen(command, env=environment(devices), stderr=subprocess.PIPE, text=True)


def steps_on_disk(workdir):
  path = workdir / "checkpoints/stage1/metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """(rows, weights hash) of the run to its end."""
  out = tmp_path_factory.mktemp("undisturbed")
  return drive({"run": FLAGS}, out)["run"], orbax_folder.weights_hash(out / "run/checkpoints/stage1")


def strike(process, workdir, sign, steps, seconds):
  """Sends `sign` so many seconds after so many further steps are on disk; returns (exit code, what it said).

  Rows reach the disk just before a checkpoint is written, so most strikes fall into its writing.
  """
  before, limit = steps_on_disk(workdir), time.monotonic() + 900
  while steps_on_disk(workdir) < before + steps and process.poll() is None:
    assert time.monotonic() < limit
    time.sleep(0.01)
  time.sleep(seconds)
  process.send_signal(sign)
  _, said = process.communicate(timeout=600)
  return process.returncode, said


def test_killed_at_twenty_moments_and_told_to_stop_at_five(undisturbed, tmp_path):
  """Some kills come while the process still starts or reads, most while it trains and writes."""
  rng, outcomes = random.Random(11), []
  signs = [signal.SIGKILL] * KILLS + [signal.SIGTERM] * TERMS
  rng.shuffle(signs)
  for number, sign in enumerate(signs):
    process = start(tmp_path)
    if sign == signal.SIGKILL and number % 5 == 4:
      time.sleep(rng.uniform(0.2, 6))  # wherever it is by then
      process.kill()
      process.communicate()
      outcomes.append(("early", steps_on_disk(tmp_path)))
      continue
    code, said = strike(process, tmp_path, sign, rng.randint(1, 8), rng.uniform(0, 0.3))
    outcomes.append((sign.name, steps_on_disk(tmp_path)))
    assert code in ((-signal.SIGKILL,) if sign == signal.SIGKILL else (143,)), (outcomes, code, said[-2000:])
    if sign == signal.SIGTERM:
      assert "the state is saved, run the same command to go on" in said
  print(outcomes)
  reached = steps_on_disk(tmp_path)
  assert 0 < reached < len(undisturbed[0]), "the run was over before the last kill: lengthen it"
  process = start(tmp_path)
  assert process.communicate(timeout=1200)[1] and process.returncode == 0
  found = rows(tmp_path)
  for key in ("step", "loss", "grad_norm", "learning_rate", "tokens", "loss_tokens"):
    assert [row[key] for row in found] == [row[key] for row in undisturbed[0]], key
  assert orbax_folder.weights_hash(tmp_path / "checkpoints/stage1") == undisturbed[1]
  each_example_once_an_epoch(found)


def each_example_once_an_epoch(found):
  """The rows' token counts are those of the plan, step by step, and the plan has each example once an epoch."""
  words = tokenizer.load(models.resolve("asset:micro_teacher"))
  source = texts.generate("micro_gsm/teacher", 230, rng_seed=0)
  examples = tokenize(source, words, template="raw", max_length=250)
  steps = Steps(examples, Packing(max_length=250, rows=8, epochs=EPOCHS, rng_seed=1))
  counts = [
    (int((b["segment_ids"] > 0).sum()), int((b["loss_weights"] > 0).sum()))
    for b in map(steps.__getitem__, range(len(steps)))
  ]
  assert [(row["tokens"], row["loss_tokens"]) for row in found] == counts
  a_epoch = len(steps) // EPOCHS
  for epoch in range(EPOCHS):
    seen = [i for step in steps.plan[epoch * a_epoch : (epoch + 1) * a_epoch] for row in step for i in row]
    assert sorted(seen) == list(range(len(examples)))


def test_killed_on_one_device_and_gone_on_with_on_eight(undisturbed, tmp_path):
  """Rounding grows from step to step, so sixty are compared; what must not happen shows at once."""
  process = start(tmp_path)
  assert strike(process, tmp_path, signal.SIGKILL, 7, 0.1)[0] == -signal.SIGKILL
  reached = steps_on_disk(tmp_path)
  code, said = strike(start(tmp_path, devices=8), tmp_path, signal.SIGTERM, 60, 0)
  found = rows(tmp_path)
  assert code == 143 and 0 < reached < reached + 60 <= len(found) < len(undisturbed[0]), said[-2000:]
  assert_equivalent(found, undisturbed[0][: len(found)], f"from step {reached} on eight devices")
