"""Graders side by side: agreement with known verdicts, wrong answers accepted, speed, what hostile text does to them.

    python benchmarks/grading.py [--cases=FILE.jsonl ...] [--graders=symbolic,strict,math_verify,either] [--hostile]
    python benchmarks/grading.py --extraction

Prints one JSON line a grader and set. Without `--cases` the set is the table of `tests/grading`; a file has rows
{"gold", "pred" | "response", "same"} (`benchmarks/grading_collect.py` makes one from checkouts of public projects).
`math_verify` is the public grader alone, `either` accepts what it or `symbolic` accepts; both need
`pip install "math-verify[antlr4_13_2]"`. Every hostile text is graded in a process of its own with a limit.
"""

import argparse
import json
import multiprocessing
import pathlib
import re
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


from skymath_jax.grading import answer_of, equivalent, grade_response  # noqa: E402
from tests.support.grading import CASES, EXTRACTIONS, FORMS, HOSTILE, found_rightly  # noqa: E402

HOSTILE_LIMIT = 5.0  # seconds, as in the comparison of public graders
Row = dict[str, object]


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


GRADERS = {grader.__name__: grader for grader in (symbolic, strict, math_verify, either)}


def rows_of_tests() -> list[Row]:
  rows = [{"gold": g, "pred": p, "same": same} for pairs in CASES.values() for g, p, same in pairs]
  return rows + [{"gold": f.gold, "response" if f.response else "pred": f.text, "same": f.same} for f in FORMS]


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
    "false_positives": false_positives,
    "of_different": different,
    "false_negatives": false_negatives,
    "of_same": len(rows) - different,
    "median_ms": round(1e3 * statistics.median(seconds), 3),
    "p99_ms": round(1e3 * sorted(seconds)[int(0.99 * len(seconds))], 1),
    "settings": {"cases": label},
  }


def extraction() -> list[Row]:
  """One line a form of marking and one for all: in how many responses the answer that stands there is found."""
  forms = sorted({case.form for case in EXTRACTIONS})
  rows = []
  for label, wanted in (*((form, {form}) for form in forms), ("all forms", set(forms))):
    cases = [case for case in EXTRACTIONS if case.form in wanted]
    right = sum(found_rightly(case) for case in cases)
    row = {"name": "grading.extraction", "value": round(100 * right / len(cases), 2), "unit": "% of responses"}
    rows.append({**row, "right": right, "of": len(cases), "settings": {"form": label}})
  return rows


def hostile(name: str) -> Row:
  """One line: how many hostile texts are answered within the limit, each in its own process, and rightly (wrong)."""
  context = multiprocessing.get_context("fork")
  in_time = wrong = 0
  for text in HOSTILE:
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
    "unit": f"of {len(HOSTILE)} within {HOSTILE_LIMIT:g} s",
    "accepted_or_raised": wrong,
    "settings": {"gold": "5"},
  }


def _answer(name: str, text: str, queue: "multiprocessing.SimpleQueue[bool | None]") -> None:
  try:
    queue.put(GRADERS[name]({"gold": "5", "pred": text}))
  except Exception:  # counted as "accepted_or_raised", not hidden
    queue.put(None)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--cases", action="append", default=[], help="JSONL of rows with verdicts")
  parser.add_argument("--graders", default="symbolic,strict")
  parser.add_argument("--hostile", action="store_true")
  parser.add_argument("--extraction", action="store_true", help="only: are answers found in responses?")
  options = parser.parse_args()
  if options.extraction:
    print("\n".join(json.dumps(row) for row in extraction()))
    return
  sets = {path: [json.loads(line) for line in open(path, encoding="utf-8")] for path in options.cases}
  for label, rows in (sets or {"tests/grading": rows_of_tests()}).items():
    for name in options.graders.split(","):
      print(json.dumps(agreement(name, rows, pathlib.Path(label).name)), flush=True)
  for name in options.graders.split(",") if options.hostile else ():
    print(json.dumps(hostile(name)), flush=True)


if __name__ == "__main__":
  main()
