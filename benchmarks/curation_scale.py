"""Curation at scale: generated instances (about 300 tokens each) through `curate_files`, timed, with the tree's memory.

    skymath bench curation_scale FOLDER ROWS [ROWS …]        e.g. … 250000 1000000 2500000
    skymath bench curation_scale FOLDER ROWS --fuzzy         with the fuzzy pass, at 0.7
    skymath bench curation_scale FOLDER ROWS --runner=ray   on a Ray cluster, then beside one machine, row by row
    skymath bench curation_scale FOLDER ROWS --only_generate

For each size the rows are generated into FOLDER/ROWS.jsonl, unless they are there (2 % exact and 3 % near duplicates,
one in two thousand a leak from 6,319 generated test problems), curated on two processes into FOLDER/set (TFDS shards
and JSON lines) and removed. Memory is the sum of the proportional set sizes of the process tree, read once a second.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any, get_args

from skymath_jax import curation
from skymath_jax.config import Curation
from skymath_jax.curation.workers import Runner
from skymath_jax.records import Problem

from .cold_quickstart import tree_bytes

METHODS = ("metamath.rephrase", "metamath.fobar", "evol.deepen", "evol.add_constraint", "xwin")
LEAKS, NEAR, EXACT = 0.0005, 0.03, 0.02
WORDS_A_SENTENCE, QUERY, RESPONSE = 11, 4, 8


class Writer:
  """Sentences from a bank, with numbers of their own: words by Zipf's law, a fifth of the words LaTeX."""

  def __init__(self, rng: random.Random):
    self.rng = rng
    letters = "etaoinshrdlucmfwyp"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(6000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    latex = ["$x^#$", "$\\frac{#}{#}$", "$y=#x+#$", "#", "#", "$(#,#)$", "$\\sqrt{#}$", "$#\\%$"]
    self.bank = []
    for _ in range(40_000):
      chosen = rng.choices(words, weights, k=WORDS_A_SENTENCE)
      for place in rng.sample(range(WORDS_A_SENTENCE), 2):
        chosen[place] = rng.choice(latex)
      self.bank.append(" ".join(chosen) + ".")

  def text(self, sentences: int) -> str:
    parts = " ".join(self.rng.choices(self.bank, k=sentences)).split("#")
    numbers = self.rng.choices(_NUMBERS, k=len(parts))
    return "".join(part + number for part, number in zip(parts, numbers, strict=True))


_NUMBERS = [str(n) for n in range(1, 400)]


def test_problems(writer: Writer, count: int = 6319) -> list[Problem]:
  """As many as MATH and GSM8K test have together."""
  return [Problem.create("test", writer.text(3), solution=writer.text(6), answer="1") for _ in range(count)]


def generate(path: pathlib.Path, rows: int, writer: Writer, tests: list[Problem]) -> None:
  rng, recent = writer.rng, []
  with path.open("w") as out:
    for number in range(rows):
      lot, answer = rng.random(), rng.choice(_NUMBERS)
      query, response = writer.text(QUERY), f"{writer.text(RESPONSE)}\nThe answer is {answer}"
      if lot < LEAKS:
        query = f"Now this. {rng.choice(tests).question} What follows?"
      elif lot < LEAKS + EXACT and recent:
        query, response, answer = rng.choice(recent)
      elif lot < LEAKS + EXACT + NEAR and recent:
        words = rng.choice(recent)[0].split()
        words[rng.randrange(3)] = "changed"
        query = " ".join(words)
      if len(recent) < 5000:
        recent.append((query, response, answer))
      else:
        recent[rng.randrange(5000)] = (query, response, answer)
      row = {
        "id": f"{number:016x}", "query": query, "response": response, "answer": answer,
        "method": METHODS[number % 5], "parents": [f"s{number % 7500}" if number % 2 else f"{number // 2:016x}"],
        "stage": 1, "pass": 1, "teacher": "t@0", "sampling": {"seed": number}, "level": number % 5 + 1, "tokens": 300,
      }  # fmt: skip
      out.write(json.dumps(row, separators=(",", ":")) + "\n")


class Watch:
  """Peak memory of this process and its children while the block runs."""

  def __enter__(self) -> "Watch":
    self.peak, self._done = 0, threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._done.set()
    self._thread.join()

  def _look(self) -> None:
    while not self._done.wait(1.0):
      self.peak = max(self.peak, tree_bytes(os.getpid()))


def cpu_seconds() -> float:
  used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  return sum(u.ru_utime + u.ru_stime for u in used)


def same_rows(one: pathlib.Path, other: pathlib.Path) -> int:
  """How many lines of what was kept and dropped are the same in both.

  Raises:
    ValueError: names the first that is not.
  """
  same = 0
  for name in ("kept.jsonl", "dropped.jsonl"):
    with (one / name).open("rb") as left, (other / name).open("rb") as right:
      for number, (a, b) in enumerate(itertools.zip_longest(left, right), start=1):
        if a != b:
          raise ValueError(f"{name}:{number} differs")
        same += 1
  return same


def beside(folder: pathlib.Path, rows: int, runner: str) -> dict[str, Any]:
  """A row: the time of `runner`, beside that of one machine's processes, of the same rows."""
  writer = Writer(random.Random(0))
  tests, source = test_problems(writer), folder / f"{rows}.jsonl"
  if not source.exists():
    generate(source, rows, writer, tests)
  settings, output = curation.Settings.from_config(Curation()), curation.Output(name="generated")
  seconds = []
  for chosen in ("local", runner):
    start = time.perf_counter()
    curation.curate_files(
      str(source), folder / chosen, test_sets={"test": tests}, settings=settings, output=output, workers=2,
      runner=chosen,
    )  # fmt: skip
    seconds.append(round(time.perf_counter() - start, 1))
  return {
    "name": f"curation_scale {runner}", "value": seconds[1], "unit": "s", "peer": seconds[0],
    "settings": {"rows": rows, "workers": 2, "same_rows": same_rows(folder / "local", folder / runner)},
  }  # fmt: skip


def measure(folder: pathlib.Path, rows: int, *, only_generate: bool, fuzzy: float) -> dict[str, Any]:
  """A row; nothing where the data is only to be generated."""
  writer = Writer(random.Random(0))
  tests, source, target = test_problems(writer), folder / f"{rows}.jsonl", folder / "set"
  if not source.exists():
    generate(source, rows, writer, tests)
  if only_generate:
    return {}
  size = source.stat().st_size
  output = curation.Output(name="generated", tfds=True)
  settings = curation.Settings.from_config(Curation(), fuzzy=fuzzy)
  start, cpu = time.perf_counter(), cpu_seconds()
  with Watch() as watch:
    summary = curation.curate_files(
      str(source), target, test_sets={"test": tests}, settings=settings, output=output, workers=2
    )
  seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
  written = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
  shutil.rmtree(target)
  source.unlink()
  return {
    "name": "curation_scale", "value": round(seconds, 1), "unit": "s",
    "settings": {
      "fuzzy": fuzzy, "rows": rows, "input_gb": round(size / 1e9, 2), "output_gb": round(written / 1e9, 2),
      "workers": 2, "cpu_seconds": round(cpu, 1), "rows_per_cpu_second": round(rows / cpu),
      "peak_gb": round(watch.peak / 1e9, 2),
      "kept": summary["kept"], "dropped": summary["dropped"], "hits": summary["decontamination"]["hits"],
      "words": summary["lengths"]["query_words"]["mean"] + summary["lengths"]["response_words"]["mean"],
    },
  }  # fmt: skip


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a size."""
  parser = argparse.ArgumentParser("skymath bench curation_scale")
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("rows", nargs="+", type=int)
  parser.add_argument("--fuzzy", action="store_true")
  parser.add_argument("--only_generate", action="store_true")
  parser.add_argument("--runner", choices=get_args(Runner), default="local")
  chosen = parser.parse_args(words)
  chosen.folder.mkdir(parents=True, exist_ok=True)
  for rows in chosen.rows:
    if chosen.runner != "local":
      yield beside(chosen.folder, rows, chosen.runner)
      continue
    fuzzy = 0.7 if chosen.fuzzy else 0.0
    if row := measure(chosen.folder, rows, only_generate=chosen.only_generate, fuzzy=fuzzy):
      yield row
