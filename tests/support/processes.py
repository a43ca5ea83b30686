"""Programs in processes of their own: with fake devices, which are fixed when JAX starts, or to be killed."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(devices=1, **more):
  """This process' variables for one on the CPU with so many devices, which finds the package and `tests`."""
  count = f"--xla_force_host_platform_device_count={devices}"
  return {**os.environ, "XLA_FLAGS": count, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **more}


def python(program, *arguments, env=None, timeout=600):
  """Runs the text of a program, waits for it, and returns it as `subprocess.run` does."""
  command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
  return subprocess.run(command, env=env or environment(), capture_output=True, text=True, timeout=timeout)


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]
