"""`skymath teacher check`: what a teacher sends, before a run is paid for."""

import json
from collections.abc import Sequence

from skymath_jax.cli.flags import parse
from skymath_jax.console import log
from skymath_jax.errors import UsageError


def teacher(argv: Sequence[str]) -> int:
  """`skymath teacher check --config=…`; exits with 1 where the teacher is of no use as it is set up.

  Raises:
    UsageError: the word `check` is missing.
  """
  words = [argv[0], *(word for word in argv[1:] if word != "check")]
  values = parse(words, config="required")
  if len(words) == len(argv):
    raise UsageError("say what: skymath teacher check --config=FILE.")
  from skymath_jax.recipe import teacher_check

  found = teacher_check.check(values.config)
  print(json.dumps(found, indent=2, ensure_ascii=False))
  for line in found["set"]:
    log(f"set --config.{line}")
  return 0 if found["right"] else 1
