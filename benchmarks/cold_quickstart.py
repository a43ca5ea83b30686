"""What a newcomer waits for: `make quickstart` in a fresh clone, timed, with the peak memory of its whole process tree.

    python benchmarks/cold_quickstart.py [FOLDER]

Clones the commit that is checked out into FOLDER (default: a temporary one), runs `make quickstart` there and prints
one JSON line. Memory is the sum of the proportional set sizes of all descendants (shared pages counted once), read
twice a second; Linux only. Needs nothing but the standard library, since the clone makes its own environment.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def processes_of(group: int) -> list[int]:
  """Ids of the processes in one session (the clone's `make` is started as the leader of a new one)."""
  found = []
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = stat.read_text().rpartition(")")[2].split()
    except OSError:  # it ended while we looked
      continue
    if int(fields[3]) == group:
      found.append(int(stat.parent.name))
  return found


def proportional_bytes(process: int) -> int:
  try:
    rollup = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
  except OSError:
    return 0
  return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def main() -> None:
  folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="skymath-cold-"))
  subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
  environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
  start = time.monotonic()
  make = subprocess.Popen(["make", "quickstart"], cwd=folder, env=environment, start_new_session=True)
  peak, installed = 0, None
  while make.poll() is None:
    peak = max(peak, sum(map(proportional_bytes, processes_of(make.pid))))
    if installed is None and (folder / ".venv" / ".run").exists():
      installed = time.monotonic() - start
    time.sleep(0.5)
  whole = time.monotonic() - start
  row = {
    "name": "cold_quickstart",
    "value": round(whole, 1),
    "unit": "s",
    "settings": {
      "exit_code": make.returncode,
      "installation_seconds": round(installed or 0.0, 1),
      "run_seconds": round(whole - (installed or 0.0), 1),
      "peak_tree_memory_gb": round(peak / 1e9, 2),
      "cores": os.cpu_count(),
      "folder": str(folder),
    },
  }
  print(json.dumps(row))
  sys.exit(make.returncode)


if __name__ == "__main__":
  main()
