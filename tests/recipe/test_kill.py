"""`kill -9` of the whole process tree, once inside each kind of stage: the same command ends with the same result."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

from .conftest import command, environment

# where to strike: (name, whether the workdir shows that the stage is at work)
MOMENTS = {
  "synthesis pass 1": lambda w: stored(w / "synthesis/stage1") > 20,
  "synthesis pass 2": lambda w: (
    (w / "synthesis/stage1/coreset.jsonl").exists() and stored(w / "synthesis/stage1") > 250
  ),
  "training": lambda w: lines(w / "checkpoints/stage1/metrics.jsonl") >= 3,
  "evaluation": lambda w: lines(w / "evaluation/stage1/predictions.jsonl") >= 5,
  "export": lambda w: (w / "evaluation/stage2/COMPLETE.json").exists(),
}


def stored(folder):
  path = folder / "responses.sqlite"
  if not path.exists():
    return 0
  try:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
      return db.execute("SELECT count(*) FROM responses").fetchone()[0]
  except sqlite3.OperationalError:
    return 0


def lines(path):
  return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_when(moment, workdir, tmp, seconds):
  """Starts the run in its own session, kills all of it `seconds` after the moment has come; returns what was stored."""
  process = subprocess.Popen(
    command(workdir), env=environment(tmp), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
  )
  limit = time.monotonic() + 400
  while not moment(workdir):
    assert process.poll() is None, "the run ended before the moment came"
    assert time.monotonic() < limit
    time.sleep(0.01)
  time.sleep(seconds)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  return {stage: stored(workdir / "synthesis" / stage) for stage in ("stage1", "stage2")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_five_moments_and_finished(small_run):
  reference, summary, tmp = small_run
  workdir = tmp / "killed"
  rng = random.Random(7)
  for name, moment in MOMENTS.items():
    before = kill_when(moment, workdir, tmp, rng.uniform(0, 0.3))
    print(f"killed in {name}: stored so far {before}")
  done = subprocess.run(
    command(workdir), env=environment(tmp), capture_output=True, text=True, timeout=540, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  after = json.loads((workdir / "summary.json").read_text())
  assert after["accuracy"] == summary["accuracy"]
  assert after["requests"]["stored"] == summary["requests"]["stored"]
  for stage in ("stage1", "stage2"):
    kept = [(root / "sft" / stage / "kept.jsonl").read_bytes() for root in (reference, workdir)]
    assert kept[0] == kept[1]
    with sqlite3.connect(workdir / "synthesis" / stage / "responses.sqlite") as db:
      total, distinct = db.execute("SELECT count(*), count(DISTINCT key) FROM responses").fetchone()
    assert total == distinct
