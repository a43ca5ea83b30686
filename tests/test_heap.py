"""malloc's settings, in a process of their own: what a freed block costs when it is taken again."""

import os
import subprocess
import sys

import pytest

from skymath_jax import heap

BLOCK = 64 << 20  # larger than what glibc keeps by itself
FAULTS = f"""
import resource
from skymath_jax import heap

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
  return int(open("/proc/self/statm").read().split()[1]) * 4096

def touch(seal=None):
  block = bytearray({BLOCK})
  block[:] = bytes([1]) * {BLOCK}

heap.settle()
for _ in range(3):
  touch()
before = faults()
for _ in range(10):
  touch()
kept = faults() - before, resident()
heap.give_back()
print(*kept, resident())
"""


def _measured(**environment: str) -> list[int]:
  """Page faults of ten rounds, resident bytes after them, and when what is unused was given back."""
  clean = {
    name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "JAX_PLATFORM", "GLIBC"))
  }
  command = [sys.executable, "-c", FAULTS]
  done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
  return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_cpu_keeps_what_is_freed_until_it_is_given_back():
  faults, kept, given_back = _measured(JAX_PLATFORMS="cpu")
  assert faults < 20
  assert kept - given_back > BLOCK


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
@pytest.mark.parametrize(
  "environment",
  [{"JAX_PLATFORMS": "tpu"}, {"JAX_PLATFORMS": "cpu", "MALLOC_MMAP_THRESHOLD_": "1000000"}],
  ids=["accelerator", "set by the user"],
)
def test_others_get_large_blocks_back_at_once(environment):
  faults, kept, given_back = _measured(**environment)
  assert faults > 200  # 32 a block at the least, in pages of 2 MB
  assert abs(kept - given_back) < BLOCK / 2


@pytest.mark.parametrize(
  ("environment", "devices", "cpu"),
  [
    ({}, [], True),
    ({}, ["nvidia0"], False),
    ({}, ["accel3"], False),
    ({}, ["vfio", "nvidiactl"], True),
    ({"JAX_PLATFORMS": "cpu"}, ["nvidia0"], True),
    ({"JAX_PLATFORM_NAME": "cpu"}, ["nvidia0"], True),
    ({"JAX_PLATFORMS": "cuda,cpu"}, [], False),
  ],
)
def test_where_the_cpu_computes(monkeypatch, tmp_path, environment, devices, cpu):
  for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  for name in devices:
    (tmp_path / name).touch()
  monkeypatch.setattr(heap, "ACCELERATORS", [pattern.replace("/dev", str(tmp_path)) for pattern in heap.ACCELERATORS])
  assert heap.computes_on_cpu() == cpu
