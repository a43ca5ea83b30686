"""How much memory a model may have here: that of the devices, or what this machine and its control groups leave."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from skymath_jax.hardware import CHIPS

CGROUPS = Path("/sys/fs/cgroup")
# (folder below CGROUPS, limit, use, and what of the use the kernel gives up when asked) of versions 2 and 1
FILES = (
  ("", "memory.max", "memory.current", "inactive_file"),
  ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def usable(devices: int = 1) -> int | None:
  """Bytes that programs on `devices` devices of this machine may take now, all together; None where nobody knows."""
  device = jax.local_devices()[0]
  if device.platform == "cpu":
    return ram()
  if stats := device.memory_stats():
    return devices * (int(stats["bytes_limit"]) - int(stats["bytes_in_use"]))
  return next((devices * chip.usable_bytes for chip in CHIPS if chip.kind in device.device_kind), None)


def ram(meminfo: Path = Path("/proc/meminfo"), mine: Path = Path("/proc/self/cgroup")) -> int | None:
  """Bytes of main memory that this process can have now: the least of the system's word and every group's limit."""
  found = []
  with contextlib.suppress(OSError, StopIteration):
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    found.append(int(line.split()[1]) * 1024)
  if not found:
    with contextlib.suppress(OSError, ValueError, AttributeError):
      found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
  return min([*found, *_groups(mine)], default=None)


def _groups(mine: Path) -> Iterator[int]:
  """Bytes that each control group above this process leaves; one without a limit says nothing."""
  paths = {"": "/", "memory": "/"}
  with contextlib.suppress(OSError):
    for line in mine.read_text().splitlines():
      _, names, path = line.split(":", 2)
      paths |= {name: path for name in names.split(",") if name in paths}
  for folder, limit, use, spare in FILES:
    group = CGROUPS / folder / paths[folder].lstrip("/")
    for place in (group, *group.parents):
      with contextlib.suppress(OSError, ValueError):
        stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        used = int((place / use).read_text()) - int(stat.get(spare, 0))
        yield int((place / limit).read_text()) - used  # "max" is no number
      if place == CGROUPS / folder:
        break
