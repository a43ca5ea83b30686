"""`skymath grade`: answers in a file, judged."""

import json
import os
from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import Flag, parse
from skymath_jax.errors import UsageError


def grade(argv: Sequence[str]) -> int:
  """`skymath grade`; a `UsageError` names a value that makes no sense."""
  wanted = (
    Flag("input", None, 'JSONL of {"gold", "pred"} or {"gold", "response"} rows', required=True),
    Flag("output", None, 'JSONL to write: the same rows with "extracted" and "correct"', required=True),
    Flag("mode", "symbolic", "strict (the paper's string grader) | symbolic"),
    Flag("workers", 0, "processes to grade in; 0 takes one a CPU core"),
  )
  values = parse(argv, *wanted)
  if values.mode not in config_lib.KEYS["evaluation.mode"].choices:
    raise UsageError(f"--mode={values.mode} is not known; use strict or symbolic.")
  if values.workers < 0:
    raise UsageError(f"--workers={values.workers}: give one or more, or 0 for one a CPU core.")
  from skymath_jax import grading

  workers = values.workers or os.cpu_count() or 1
  print(json.dumps(grading.grade_file(values.input, values.output, mode=values.mode, workers=workers), indent=2))
  return 0
