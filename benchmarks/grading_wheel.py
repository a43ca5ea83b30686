"""The grader's own wheel in a fresh environment: installed size, import time, 1,000 pairs in 8 threads, some hostile.

    skymath bench grading_wheel

Builds `wheels/grading`, installs it into a virtual environment of its own (mpmath comes from the package index) and
grades the table of `tests/grading` there, both ways round, with every hostile text among the pairs. What is hostile has
the limit of `HOSTILE_LIMIT` seconds a pair; a verdict that is not that of the table is named.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from typing import Any

from skymath_jax.benchmarks.grading import ROOT, rows_of_tests, tables

PAIRS, THREADS = 1_000, 8
HOSTILE_LIMIT = 2.0  # seconds a pair, with eight threads at work

CHILD = r"""
import json, sys, threading, time
start = time.perf_counter()
import skymath_grading
imported = time.perf_counter() - start
rows, threads = json.load(sys.stdin), int(sys.argv[1])
wrong, slowest, lock = [], [0.0], threading.Lock()
def work(part):
  for row in part:
    began = time.perf_counter()
    if "response" in row:
      verdict = skymath_grading.grade_response(row["gold"], row["response"], "symbolic")[1]
    else:
      verdict = skymath_grading.equivalent(row["gold"], row["pred"], "symbolic")
    with lock:
      slowest[0] = max(slowest[0], time.perf_counter() - began)
      if verdict is not row["same"]:
        wrong.append(row)
began = time.perf_counter()
workers = [threading.Thread(target=work, args=(rows[i::threads],)) for i in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps({"import_s": imported, "seconds": time.perf_counter() - began, "slowest_s": slowest[0], "wrong": wrong,
                  "jax": any(name.split(".")[0] in {"jax", "skymath_jax"} for name in sys.modules)}))
"""


def rows() -> list[dict[str, Any]]:
  """The hostile texts, and of the table as many as make `PAIRS` of both."""
  hostile = [{"gold": "5", "pred": text, "same": False} for text in tables().HOSTILE]
  table = rows_of_tests()
  step = max(1, len(table) // (PAIRS - len(hostile)))
  return [row for pair in zip(table[::step], [*hostile, *[None] * PAIRS], strict=False) for row in pair if row][:PAIRS]


def _megabytes(folder: pathlib.Path) -> float:
  return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 2)


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Three rows: size, import, and the pairs."""
  if words:
    raise SystemExit("usage: skymath bench grading_wheel")
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", scratch, str(ROOT / "wheels" / "grading")], check=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    subprocess.run([str(python), *pip[1:], "install", str(wheel)], check=True)
    [packages] = (folder / "environment").glob("lib/python*/site-packages")
    sizes = {part: _megabytes(packages / part) for part in ("skymath_grading", "mpmath")}
    graded = rows()
    done = subprocess.run(
      [str(python), "-I", "-c", CHILD, str(THREADS)],
      input=json.dumps(graded),
      text=True,
      capture_output=True,
      check=True,
      cwd=scratch,
    )
  facts = json.loads(done.stdout)
  yield {
    "name": "grading_wheel.size",
    "value": round(sum(sizes.values()), 2),
    "unit": "MB installed",
    "settings": sizes,
  }
  yield {"name": "grading_wheel.import", "value": round(facts["import_s"], 3), "unit": "s"}
  settings = {key: facts[key] for key in ("slowest_s", "wrong", "jax")}
  settings |= {"threads": THREADS, "hostile": len(tables().HOSTILE), "within_limit": facts["slowest_s"] < HOSTILE_LIMIT}
  yield {
    "name": "grading_wheel.pairs",
    "value": round(len(graded) / facts["seconds"]),
    "unit": "pairs/s",
    "settings": settings,
  }
