"""glibc's heap, as this program needs it.

On a CPU, XLA takes the memory of every step and every product from malloc. glibc maps large blocks and gives them back
when they are freed, and trims the heaps of threads: so the kernel has to zero the same pages again in each step, which
was up to a third of the quickstart's CPU time. Here one heap keeps what is freed for the next step, and gives back what
lies unused at the few moments at which much of it does (`give_back`). Where an accelerator computes, the host's large
blocks are few, and are given back when they are freed: else they lie in threads' heaps with gaps that grow for hours.
"""

import contextlib
import ctypes
import os

# of malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
KEEPING = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
RETURNING = {M_MMAP_THRESHOLD: 2**20}


def settle(*, keep: bool) -> None:
  """Sets malloc, before other threads begin. What the user has set stays; another C library has no such settings.

  Args:
    keep: what is freed, for the next step; else large blocks go back at once.
  """
  if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
    return
  with contextlib.suppress(OSError, AttributeError):
    malloc = ctypes.CDLL(None).mallopt
    for key, value in (KEEPING if keep else RETURNING).items():
      malloc(key, value)


def give_back() -> None:
  """Returns the pages that lie unused in the heap to the machine: milliseconds; the heap's order stays."""
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).malloc_trim(0)
