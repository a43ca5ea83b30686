"""Two real processes on this machine: joining, agreeing, one writer, waits that end."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from skymath_jax import distributed
from skymath_jax.errors import UserError

PROGRAM = """
  import sys
  from skymath_jax import distributed
  from skymath_jax.errors import UserError

  distributed.initialize()
  distributed.initialize()  # a second call changes nothing
  index = distributed.process_index()
  assert distributed.process_count() == 2 and distributed.is_writer() == (index == 0)
  assert distributed.gather("numbers", {"mine": index}) == [{"mine": 0}, {"mine": 1}]
  distributed.barrier("all here", seconds=60)
  distributed.barrier("all here", seconds=60)
  distributed.require_agreement("the run", {"config": {"rows": 8}, "code": distributed.code_version()})
  try:
    distributed.require_agreement("the run", {"config": {"rows": 8 + index}})
  except UserError as error:
    print("differs:", error)
  if index == 0:
    try:
      distributed.barrier("nobody else comes", seconds=1)
    except UserError as error:
      print("late:", error)
  distributed.gather("end", index)
"""


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def job(index, port, count=2, **more):
  names = {
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(count),
    "JAX_PROCESS_ID": str(index),
  }
  return {**os.environ, "JAX_PLATFORMS": "cpu", **names, **more}


def test_two_processes_join_agree_and_do_not_wait_for_ever():
  port = free_port()
  command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  processes = [subprocess.Popen(command, env=job(i, port), **pipes) for i in range(2)]
  (first, errors), (second, more) = (p.communicate(timeout=300) for p in processes)
  assert [p.returncode for p in processes] == [0, 0], errors + more
  for out in (first, second):
    assert "config.rows is 8 on process 0 and 9 on process 1" in out
  assert "not all 2 processes came to 'nobody else comes' within 1 s" in first


def test_a_process_that_nobody_joins_says_so():
  done = subprocess.run(
    [
      sys.executable,
      "-c",
      "from skymath_jax import distributed as d\ntry: d.initialize()\nexcept d.UserError as e: print(e)",
    ],
    env=job(1, free_port(), SKYMATH_JOIN_SECONDS="1"),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert "could not join the job within 1 s" in done.stdout + done.stderr


def test_alone_everything_is_immediate(monkeypatch):
  for name in (distributed.COORDINATOR, distributed.ASK_JAX):
    monkeypatch.delenv(name, raising=False)
  distributed.initialize()
  assert distributed.is_writer() and distributed.process_count() == 1
  assert distributed.gather("x", (1, 2)) == [[1, 2]]
  distributed.barrier("alone", seconds=0)
  distributed.require_agreement("the run", {"a": 1})
  assert len(distributed.code_version()) == 16


def test_half_a_description_is_refused(monkeypatch):
  monkeypatch.setenv(distributed.COORDINATOR, "127.0.0.1:1")
  monkeypatch.setenv(distributed.PROCESS, "0")
  monkeypatch.delenv(distributed.PROCESSES, raising=False)
  with pytest.raises(UserError, match="half described"):
    distributed.initialize()
