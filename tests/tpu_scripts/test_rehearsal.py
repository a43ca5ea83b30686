"""A pod without a cloud: the two rehearsals, as a user runs them, and what a job of two says when it is wrong."""

import json
import os
import socket
import subprocess
import sys

import pytest

from skymath_jax.recipe.teacher import addresses_of
from tests.support.cloud import ROOT

pytestmark = pytest.mark.timeout(1800)


def rehearse(name, tmp_path):
  done = subprocess.run(
    [sys.executable, ROOT / "tpu_scripts" / "rehearsal" / "pod.py", name, tmp_path / name],
    capture_output=True, text=True, timeout=1700, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-4000:]
  print(done.stdout)
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_four_hosts_train_and_one_is_killed(tmp_path):
  found = rehearse("train", tmp_path)
  assert found["exit_codes_after_the_kill"][2] == -9 and all(found["exit_codes_after_the_kill"])
  assert found["resumed_after_step"] == found["checkpoints_at_the_kill"][-1:]
  assert found["steps"] and found["largest_loss_difference_to_one_process"] < 1e-4
  assert found["predictions"] == 10 and sum(found["predictions_by_process"].values()) == 10
  assert len(found["predictions_by_process"]) == 4


@pytest.mark.slow
def test_three_replicas_serve_and_one_is_killed(tmp_path):
  found = rehearse("synthesize", tmp_path)
  assert found["same_instances"] and found["failed"] == 0
  assert found["stored_when_one_was_killed"] < found["stored"] == found["distinct"] == found["stored_with_one_replica"]


def two(tmp_path, *differences, workdirs=None, cwds=(None, None)):
  """Exit codes and messages of two processes of one job, whose arguments differ as told."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  processes = []
  for index, more in enumerate(differences or ((), ())):
    workdir = (workdirs or [tmp_path / "run"] * 2)[index]
    described = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
    command = [sys.executable, "-m", "skymath_jax.cli", "seeds", f"--config={ROOT / 'configs' / 'quickstart.py'}"]
    own = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path / str(index)), **described}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": cwds[index]}
    full = [*command, f"--workdir={workdir}", "--config.seeds.limit=3", *more]
    processes.append(subprocess.Popen(full, env={**os.environ, **own}, **pipes))
  said = [process.communicate(timeout=300)[1] for process in processes]
  return [process.returncode for process in processes], said


def test_two_processes_do_a_stage_once_and_both_see_it(tmp_path):
  codes, said = two(tmp_path)
  assert codes == [0, 0], said
  assert "seeds: done in" in said[0] and "seeds: done by process 0" in said[1]
  assert (tmp_path / "run" / "seeds" / "COMPLETE.json").exists()


@pytest.mark.slow
def test_hosts_that_differ_are_refused_by_name(tmp_path):
  codes, said = two(tmp_path, (), ("--config.training.rows=8",))
  assert codes[0] == 1 and "config.training.rows is 4 on process 0 and 8 on process 1" in said[0]


@pytest.mark.slow
def test_a_workdir_that_is_not_shared_is_refused(tmp_path):
  for index in range(2):
    (tmp_path / str(index)).mkdir()
  codes, said = two(tmp_path, cwds=[tmp_path / "0", tmp_path / "1"], workdirs=["run", "run"])
  assert codes[1] == 1 and "process 1 does not see what process 0 has written here" in said[1]


def test_addresses_may_stand_in_a_file(tmp_path):
  (tmp_path / "replicas").write_text("10.0.0.2:9000\n10.0.0.3:9000\n")
  assert addresses_of(("h:1", f"@{tmp_path / 'replicas'}")) == ["h:1", "10.0.0.2:9000", "10.0.0.3:9000"]
