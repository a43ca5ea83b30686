"""`kill -9` of the whole process tree, once inside each kind of stage: the same command ends with the same result."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time

import pytest

from tests.support.small_recipe import command, environment

# where to strike: name → whether the workdir shows that the stage is at work (`first` = responses of pass 1 in all)
MOMENTS = {
  "synthesis pass 1": lambda w, first: stored(w / "synthesis/stage1") > 20,
  "synthesis pass 2": lambda w, first: stored(w / "synthesis/stage1") > first,
  "training": lambda w, first: lines(w / "checkpoints/stage1/metrics.jsonl") >= 3,
  "evaluation": lambda w, first: lines(w / "evaluation/stage1/predictions.jsonl") >= 5,
  "export": lambda w, first: (w / "evaluation/stage2/COMPLETE.json").exists(),
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


def kill_when(moment, workdir, tmp, seconds, log):
  """Starts the run in its own session, kills all of it `seconds` after the moment has come; returns what was stored."""
  with log.open("w") as told:
    process = subprocess.Popen(
      command(workdir), env=environment(tmp), stdout=told, stderr=subprocess.STDOUT, start_new_session=True
    )
  limit = time.monotonic() + 400
  while not moment(workdir):
    assert process.poll() is None, f"the run ended before the moment came: {log.read_text()[-2000:]}"
    assert time.monotonic() < limit
    time.sleep(0.01)
  time.sleep(seconds)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  return {stage: stored(workdir / "synthesis" / stage) for stage in ("stage1", "stage2")}


def asked(log):
  """Pass → (requests sent, requests answered from the store), as a run told them when the pass ended."""
  told = re.findall(r"synthesis (stage \d pass \d): .*?; ([\d,]+) requests sent, ([\d,]+)\s+replayed", log.read_text())
  return {name: (int(sent.replace(",", "")), int(replayed.replace(",", ""))) for name, sent, replayed in told}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_five_moments_and_finished(small_run):
  reference, summary, tmp = small_run
  workdir, rng = tmp / "killed", random.Random(7)
  passes = json.loads((reference / "synthesis" / "stage1" / "summary.json").read_text())["passes"]
  first = passes[0]["requests"]["sent"]
  found, logs = [], [tmp / f"killed-{i}.log" for i in range(len(MOMENTS) + 1)]
  for (name, moment), log in zip(MOMENTS.items(), logs, strict=False):
    found.append(kill_when(lambda w, moment=moment: moment(w, first), workdir, tmp, rng.uniform(0, 0.3), log))
    print(f"killed in {name}: stored so far {found[-1]}")
  with logs[-1].open("w") as told:
    done = subprocess.run(
      command(workdir), env=environment(tmp), stdout=told, stderr=subprocess.STDOUT, timeout=540, check=False
    )
  assert done.returncode == 0, logs[-1].read_text()[-3000:]
  after = json.loads((workdir / "summary.json").read_text())
  assert after["accuracy"] == summary["accuracy"]
  assert after["requests"]["stored"] == summary["requests"]["stored"]
  for stage in ("stage1", "stage2"):
    kept = [(root / "sft" / stage / "kept.jsonl").read_bytes() for root in (reference, workdir)]
    assert kept[0] == kept[1]

  # what was stored when a run was killed is what the next run replayed, to the last response; it sent only the rest
  second, third = asked(logs[1]), asked(logs[2])
  print(f"sent and replayed per pass: after the first kill {second}, after the second {third}")
  assert second["stage 1 pass 1"] == (first - found[0]["stage1"], found[0]["stage1"])
  assert third["stage 1 pass 1"] == (0, first)
  assert third["stage 1 pass 2"] == (
    passes[1]["requests"]["sent"] - third["stage 1 pass 2"][1],
    found[1]["stage1"] - first,
  )
  assert 0 < third["stage 1 pass 2"][1] < passes[1]["requests"]["sent"]
  for log in logs[3:]:  # synthesis was complete: nothing was asked
    assert asked(log) == {}
