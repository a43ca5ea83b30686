"""Child processes: what hangs or dies is one wrong row, everything else comes back in order."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from skymath_jax.grading import grade_rows
from skymath_jax.grading.workers import in_children
from tests.support.grading import HOSTILE


def troubled(row):
  """A grader that hangs or dies where the row says so."""
  if row.get("trouble") == "hang":
    time.sleep(60)
  if row.get("trouble") == "die":
    os.kill(os.getpid(), signal.SIGKILL)
  if row.get("trouble") == "fail":
    raise ValueError("this row")
  return {**row, "extracted": str(row["n"]), "correct": True}


def test_a_row_that_hangs_or_kills_its_child_is_wrong_and_the_others_are_graded():
  rows = [{"n": n} for n in range(450)]
  rows[3]["trouble"], rows[210]["trouble"], rows[449]["trouble"] = "hang", "die", "hang"
  graded = list(in_children(rows, troubled, workers=2, limit=1.5))
  assert [row["n"] for row in graded] == list(range(450))
  lost = [row["n"] for row in graded if not row["correct"]]
  assert lost == [3, 210, 449]
  assert all(graded[n]["timed_out"] and graded[n]["extracted"] is None for n in lost)


class Unreadable:
  """A grader that no child can be made with."""

  def __call__(self, row):
    return row

  def __reduce__(self):
    return int, ("no number",)


@pytest.mark.parametrize("rows", [1, 500])
def test_children_that_do_not_start_end_the_grading(rows, capfd):
  with pytest.raises(ChildProcessError, match=r"did not start \(exit code 1\).*__main__"):
    list(in_children([{"n": 1}] * rows, Unreadable(), workers=2))
  assert multiprocessing.active_children() == [] and "no number" in capfd.readouterr().err


def test_whatever_dies_or_fails_costs_only_itself():
  """Every third row kills its child or cannot be graded; what stands between them is graded, by ever new children."""
  rows = [{"n": n, "trouble": {0: "die", 3: "fail"}.get(n % 6)} for n in range(30)]
  graded = list(in_children(rows, troubled, workers=3, limit=60))
  assert [row["n"] for row in graded if row["correct"]] == [n for n in range(30) if n % 3]
  assert multiprocessing.active_children() == []


def test_grading_that_is_given_up_leaves_no_process():
  graded = in_children([{"n": n} for n in range(1000)], troubled, workers=2)
  assert next(graded)["n"] == 0
  graded.close()
  assert multiprocessing.active_children() == []


def test_no_rows_and_few_rows():
  assert list(in_children([], troubled, workers=4)) == []
  assert [r["extracted"] for r in in_children([{"n": 1}], troubled, workers=4)] == ["1"]


@pytest.mark.parametrize("mode", ["symbolic", "strict"])
def test_hostile_rows_come_back_wrong_in_order_and_none_needs_the_limit(mode):
  rows = [{"gold": "5", "pred": text, "n": n} for n, text in enumerate(HOSTILE)]
  rows += [{"gold": "5", "response": piece * (200_000 // len(piece)), "n": -1} for piece in RESPONSES]
  graded = grade_rows(rows, mode, workers=2)
  assert [row["n"] for row in graded] == [row["n"] for row in rows]
  assert not any(row["correct"] or "timed_out" in row for row in graded)


RESPONSES = [
  "<answer>",
  "</answer>",
  "\\boxed{",
  "\\(",
  "$",
  "#### ",
  "answer is ",
  "(A) ",
  "[[",
  "1,",
  "<think>",
  "because ",
]

CANARY = r"""
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from tests.support.grading import CASES, HOSTILE
from skymath_jax.grading import equivalent, extract, grade_response
pairs = [(g, p) for rows in CASES.values() for g, p, _ in rows]
for gold, pred in pairs:  # whatever is loaded late is loaded now
  equivalent(gold, pred, "symbolic")
seen = []
def watch(event, arguments):
  if event in {"exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen",
               "socket.connect", "import", "open", "ctypes.dlopen"}:
    seen.append((event, str(arguments)[:100]))
sys.addaudithook(watch)
for text in HOSTILE:
  for mode in ("symbolic", "strict"):
    equivalent("5", text, mode), equivalent(text, "0", mode), grade_response("5", "The answer is " + text, mode)
  extract(text)
watched, seen = seen, []
exec("1")
print(json.dumps([watched, len(seen)]))
"""


def test_grading_runs_no_code_opens_no_file_and_loads_nothing():
  """An audit hook sees whatever Python compiles, executes, imports, opens or starts; the last line proves it."""
  path = json.dumps([p for p in sys.path if p])
  done = subprocess.run([sys.executable, "-c", CANARY, path], capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  watched, control = json.loads(done.stdout)
  assert watched == []
  assert control >= 1
