"""The fuzzy pass on real questions: what each threshold finds of GSM8K test in other words, and what it flags besides.

    skymath bench fuzzy_pass PARAPHRASES [--data_dir=DIR]

PARAPHRASES is a JSONL file of 1,319 rows {"text": …} or {"question": …}, the paraphrase of each GSM8K test question in
order (such as rephrase_gsm8k.jsonl of lm-sys/llm-decontaminator); the catalog's files lie in DIR. Compared with MATH
and GSM8K test, as curation does.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from skymath_jax import records
from skymath_jax.config import Seeds
from skymath_jax.curation.tfidf import FuzzyIndex
from skymath_jax.problems import catalog

THRESHOLDS = (0.3, 0.33, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)


def questions(name: str, data_dir: str) -> list[str]:
  return [problem.question for problem in catalog.load(name, data_dir=data_dir)]


def paraphrases(path: str) -> list[str]:
  """A row's `text` may stand in a frame: "Question: … \\nAnswer: \\n#### 18"."""
  rows = [row for _, row in records.read_lines(path)]
  return [row.get("question") or row["text"].removeprefix("Question:").partition("\nAnswer:")[0] for row in rows]


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row of the pace, and one a threshold."""
  parser = argparse.ArgumentParser("skymath bench fuzzy_pass")
  parser.add_argument("paraphrases")
  parser.add_argument("--data_dir", default=Seeds.data_dir)
  args = parser.parse_args(words)
  tests = questions("gsm8k:test", args.data_dir) + questions("math:test", args.data_dir)
  index, retold = FuzzyIndex(tests), paraphrases(args.paraphrases)
  likeness, numbers = index.nearest(retold)
  others, rows, start = {}, 0, time.process_time()
  for name in ("gsm8k:train", "math:train"):
    texts = questions(name, args.data_dir)
    others[name], rows = index.nearest(texts)[0], rows + len(texts)
  pace = rows / (time.process_time() - start)
  first = float(np.mean(numbers == np.arange(len(retold))))
  yield {"name": "fuzzy_pass.pace", "value": round(pace), "unit": "rows a CPU-second"}
  for threshold in THRESHOLDS:
    flagged = {name: round(float(np.mean(found >= threshold)), 4) for name, found in others.items()}
    row = {"name": "fuzzy_pass", "value": round(float(np.mean(likeness >= threshold)), 4), "unit": "recall"}
    yield {**row, "settings": {"threshold": threshold, "right_first": round(first, 4), "flagged": flagged}}
