"""What a newcomer waits for: `make quickstart` in a fresh clone, timed, with the peak memory of its whole process tree.

    skymath bench cold_quickstart [FOLDER]

Clones the commit that is checked out into FOLDER (default: a temporary one) and runs `make quickstart` there, in an
environment of the clone's own. Memory is the sum of the proportional set sizes of all descendants (shared pages counted
once), read twice a second; Linux only.
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


def tree_bytes(root: int) -> int:
  """Memory of a process and all its descendants."""
  parents = {}
  for stat in Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(OSError):  # it ended while we looked
      parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
  found = [root]
  for process in found:
    found += [child for child, parent in parents.items() if parent == process]
  return sum(map(proportional_bytes, found))


def proportional_bytes(process: int) -> int:
  """Of one process; 0 once it has ended."""
  try:
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
  except OSError:
    return 0
  return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row: seconds from the clone to the report."""
  parser = argparse.ArgumentParser("skymath bench cold_quickstart")
  parser.add_argument("folder", nargs="?", type=Path)
  folder = parser.parse_args(words).folder or Path(tempfile.mkdtemp(prefix="skymath-cold-"))
  subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
  environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
  start = time.monotonic()
  make = subprocess.Popen(["make", "quickstart"], cwd=folder, env=environment)
  peak, installed = 0, None
  while make.poll() is None:
    peak = max(peak, tree_bytes(make.pid))
    if installed is None and (folder / ".venv" / ".run").exists():
      installed = time.monotonic() - start
    time.sleep(0.5)
  whole = time.monotonic() - start
  size = subprocess.run(["du", "-sm", folder / ".venv"], capture_output=True, text=True, check=True).stdout
  facts = {
    "exit_code": make.returncode,
    "installation_seconds": round(installed or 0.0, 1),
    "installation_mb": int(size.split()[0]),
    "run_seconds": round(whole - (installed or 0.0), 1),
    "peak_tree_memory_gb": round(peak / 1e9, 2),
    "cores": os.cpu_count(),
    "folder": str(folder),
  }
  yield {"name": "cold_quickstart", "value": round(whole, 1), "unit": "s", "settings": facts}
  if make.returncode:
    raise SystemExit(make.returncode)
