"""malloc's settings, in a process of their own: what a freed block costs when it is taken again."""

import os
import subprocess
import sys

import pytest

BLOCK = 64 << 20  # larger than what glibc keeps by itself
FAULTS = f"""
import resource, sys
from skymath_jax import heap

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
  return int(open("/proc/self/statm").read().split()[1]) * 4096

def touch():
  block = bytearray({BLOCK})
  block[:] = bytes([1]) * {BLOCK}

heap.settle(keep=sys.argv[1] == "keep")
for _ in range(3):
  touch()
before = faults()
for _ in range(10):
  touch()
kept = faults() - before, resident()
heap.give_back()
print(*kept, resident())
"""


def _measured(what: str, **environment: str) -> list[int]:
  """Page faults of ten rounds, resident bytes after them, and when what is unused was given back."""
  clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
  command = [sys.executable, "-c", FAULTS, what]
  done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
  return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_cpu_keeps_what_is_freed_until_it_is_given_back():
  faults, kept, given_back = _measured("keep")
  assert faults < 20
  assert kept - given_back > BLOCK


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
@pytest.mark.parametrize(
  ("what", "environment"),
  [
    ("return", {}),
    ("keep", {"MALLOC_MMAP_THRESHOLD_": "1000000"}),
    ("keep", {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1000000"}),
  ],
  ids=["accelerator", "set by the user", "set by the user as a tunable"],
)
def test_others_get_large_blocks_back_at_once(what, environment):
  faults, kept, given_back = _measured(what, **environment)
  assert faults > 200  # 32 a block at the least, in pages of 2 MB
  assert abs(kept - given_back) < BLOCK / 2
