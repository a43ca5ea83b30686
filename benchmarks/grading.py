"""Graders side by side: agreement with known verdicts, wrong answers accepted, speed, what hostile text does to them.

    skymath bench grading [--cases=FILE.jsonl ...] [--graders=symbolic,strict,math_verify,either] [--hostile]
    skymath bench grading --extraction

Without `--cases` the set is the table of `tests/grading`, which a clone of the repository has; a file has rows {"gold",
"pred" | "response", "same"} (`skymath bench grading_collect` makes one from checkouts of public projects).
`math_verify` is the public grader alone, `either` accepts what it or `symbolic` accepts; both need
`pip install "math-verify[antlr4_13_2]"`. Every hostile text is graded in a process of its own with a limit.
"""

import argparse
import importlib
import json
import multiprocessing
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from skymath_jax.errors import UserError
from skymath_jax.grading import answer_of, equivalent, grade_response

ROOT = pathlib.Path(__file__).resolve().parents[1]

HOSTILE_LIMIT = 5.0  # seconds, as in the comparison of public graders
Row = dict[str, Any]


def symbolic(row: Row) -> bool:
  if "response" in row:
    return grade_response(row["gold"], row["response"], "symbolic")[1]
  return equivalent(row["gold"], row["pred"], "symbolic")


def strict(row: Row) -> bool:
  return equivalent(row["gold"], answer_of(row["response"]) if "response" in row else row["pred"], "strict")


def math_verify(row: Row) -> bool:
  from math_verify import parse, verify

  def wrapped(text: str) -> str:
    return text if re.search(r"\$|\\boxed|\\\(|\\\[", text) else f"${text}$"

  found = parse(row["response"]) if "response" in row else parse(wrapped(row["pred"]))
  return bool(verify(parse(wrapped(row["gold"])), found))


def either(row: Row) -> bool:
  return symbolic(row) or math_verify(row)


def tables() -> Any:
  """The module with the cases of the repository's tests.

  Raises:
    UserError: this is an installed package, which has none.
  """
  if not (ROOT / "tests" / "grading").exists():
    raise UserError("no tests/grading here", where=ROOT, remedy="run this benchmark from a clone of the repository")
  sys.path.append(str(ROOT))
  return importlib.import_module("tests.support.grading")


GRADERS = {grader.__name__: grader for grader in (symbolic, strict, math_verify, either)}


def rows_of_tests() -> list[Row]:
  found = tables()
  rows = [{"gold": g, "pred": p, "same": same} for pairs in found.CASES.values() for g, p, same in pairs]
  return rows + [{"gold": f.gold, "response" if f.response else "pred": f.text, "same": f.same} for f in found.FORMS]


def agreement(name: str, rows: list[Row], label: str) -> Row:
  """One line: the share of verdicts that agree, the two kinds of error, the extraction of nothing, and times."""
  seconds, false_positives, false_negatives = [], 0, 0
  for row in rows:
    start = time.perf_counter()
    try:
      verdict = GRADERS[name](row)
    except Exception:  # an exception of a grader counts as "not the same", as in the published comparison
      verdict = False
    seconds.append(time.perf_counter() - start)
    false_positives += verdict and not row["same"]
    false_negatives += not verdict and bool(row["same"])
  different = sum(not row["same"] for row in rows)
  return {
    "name": f"grading.agreement.{name}",
    "value": round(100 * (1 - (false_positives + false_negatives) / len(rows)), 2),
    "unit": "% of verdicts",
    "settings": {
      "cases": label,
      "false_positives": false_positives,
      "of_different": different,
      "false_negatives": false_negatives,
      "of_same": len(rows) - different,
      "median_ms": round(1e3 * statistics.median(seconds), 3),
      "p99_ms": round(1e3 * sorted(seconds)[int(0.99 * len(seconds))], 1),
    },
  }


def extraction() -> Iterator[Row]:
  """One line a form of marking and one for all: in how many responses the answer that stands there is found."""
  found = tables()
  forms = sorted({case.form for case in found.EXTRACTIONS})
  for label, wanted in (*((form, {form}) for form in forms), ("all forms", set(forms))):
    cases = [case for case in found.EXTRACTIONS if case.form in wanted]
    right = sum(found.found_rightly(case) for case in cases)
    row = {"name": "grading.extraction", "value": round(100 * right / len(cases), 2), "unit": "% of responses"}
    yield {**row, "settings": {"form": label, "right": right, "of": len(cases)}}


def hostile(name: str) -> Row:
  """One line: how many hostile texts are answered within the limit, each in its own process, and rightly (wrong)."""
  context = multiprocessing.get_context("fork")
  in_time = wrong = 0
  texts = tables().HOSTILE
  for text in texts:
    queue = context.SimpleQueue()
    child = context.Process(target=_answer, args=(name, text, queue), daemon=True)
    start = time.monotonic()
    child.start()
    child.join(HOSTILE_LIMIT)
    if child.is_alive():
      child.kill()
      child.join()
    elif not queue.empty():
      in_time += time.monotonic() - start < HOSTILE_LIMIT
      wrong += queue.get() is not False
  return {
    "name": f"grading.hostile.{name}",
    "value": in_time,
    "unit": f"of {len(texts)} within {HOSTILE_LIMIT:g} s",
    "settings": {"gold": "5", "accepted_or_raised": wrong},
  }


def _answer(name: str, text: str, queue: "multiprocessing.SimpleQueue[bool | None]") -> None:
  try:
    queue.put(GRADERS[name]({"gold": "5", "pred": text}))
  except Exception:  # counted as "accepted_or_raised", not hidden
    queue.put(None)


def run(words: list[str]) -> Iterator[Row]:
  """One row a grader and set."""
  parser = argparse.ArgumentParser("skymath bench grading")
  parser.add_argument("--cases", action="append", default=[], help="JSONL of rows with verdicts")
  parser.add_argument("--graders", default="symbolic,strict")
  parser.add_argument("--hostile", action="store_true")
  parser.add_argument("--extraction", action="store_true", help="only: are answers found in responses?")
  options = parser.parse_args(words)
  if options.extraction:
    yield from extraction()
    return
  sets = {path: [json.loads(line) for line in open(path, encoding="utf-8")] for path in options.cases}
  for label, rows in (sets or {"tests/grading": rows_of_tests()}).items():
    for name in options.graders.split(","):
      yield agreement(name, rows, pathlib.Path(label).name)
  for name in options.graders.split(",") if options.hostile else ():
    yield hostile(name)
