"""Two real processes with four fake devices each are one job: train, stop, resume (also alone), evaluate."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.support.processes import environment, free_port
from tests.support.trajectory import EXPERIMENT, assert_equivalent, drive, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
STEADY = "--config.training.checkpoint_every=4"


def start(verb, workdir, *flags, second=()):
  """The two processes of one job, running `skymath VERB`; `second` are flags that only the second has."""
  port, started = free_port(), []
  for index, own in enumerate(((), second)):
    names = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": 2, "JAX_PROCESS_ID": index}
    command = [sys.executable, "-m", "skymath_jax.cli", verb, f"--config={EXPERIMENT}", f"--workdir={workdir}"]
    command += [*flags, *own]
    env = environment(4, **{key: str(value) for key, value in names.items()})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen(command, env=env, **pipes))
  return started


def end(started, *codes):
  """Waits for all; returns their errors."""
  errors = [process.communicate(timeout=1200)[1] for process in started]
  assert [process.returncode for process in started] == list(codes), "\n".join(text[:2500] for text in errors)
  return errors


def wait_for_rows(workdir, count):
  path, limit = workdir / "checkpoints/stage1/metrics.jsonl", time.monotonic() + 600
  while not path.exists() or path.read_bytes().count(b"\n") < count:
    assert time.monotonic() < limit
    time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The same run in one process with eight devices."""
  return drive({"alone": [STEADY.removeprefix("--config.")]}, tmp_path_factory.mktemp("alone"), devices=8)["alone"]


def test_two_processes_train_stop_on_a_signal_resume_and_evaluate(alone, tmp_path):
  job = start("train", tmp_path, STEADY)
  wait_for_rows(tmp_path, 4)
  job[1].send_signal(signal.SIGTERM)  # one host is told; both must stop after the same step
  errors = end(job, 143, 143)
  assert "the state is saved" in errors[0] and "the state is saved" in errors[1]
  assert len(rows(tmp_path)) < len(alone)
  end(start("train", tmp_path, STEADY), 0, 0)
  assert_equivalent(rows(tmp_path), alone, "two processes, stopped and resumed")
  end(start("evaluate", tmp_path, STEADY), 0, 0)
  summary = json.loads((tmp_path / "evaluation/stage1/summary.json").read_text())
  assert summary["accuracy"]["n"] == 6


def test_what_two_processes_began_one_ends(alone, tmp_path):
  job = start("train", tmp_path, STEADY)
  wait_for_rows(tmp_path, 5)
  for process in job:
    process.kill()
  for process in job:
    process.communicate()
  drive({tmp_path.name: [STEADY.removeprefix("--config.")]}, tmp_path.parent, devices=8)
  assert_equivalent(rows(tmp_path), alone, "two processes, then one")


def test_hosts_with_different_configs_are_refused_by_the_key(tmp_path):
  errors = end(start("train", tmp_path, second=["--config.training.clip=0.5"]), 1, 1)
  for text in errors:
    assert "config.training.clip is 1.0 on process 0 and 0.5 on process 1" in text
