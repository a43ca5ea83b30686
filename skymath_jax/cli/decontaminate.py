"""`skymath decontaminate`: what of a data set gives test problems away."""

import json
from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax import files
from skymath_jax.cli.flags import Flag, parse, with_first
from skymath_jax.errors import UsageError


def decontaminate(argv: Sequence[str]) -> int:
  """`skymath decontaminate DATA --against=SUITES`; a `UsageError` names a value that makes no sense."""
  data = Flag("data", None, "file, folder, hub id or catalog name; may stand without its name", required=True)
  against = Flag("against", None, "test sets with commas: catalog names, suites, files", required=True)
  out = Flag("out", "contamination", "folder for hits.jsonl, contamination.html and summary.json")
  judge = Flag("judge", 0, "so many of the nearest rows that no rule calls a leak are judged by the config's teacher")
  values = parse(with_first(argv, "data"), data, against, out, judge, config="optional")
  if values.judge < 0:
    raise UsageError(f"--judge={values.judge}: give a number of rows, or 0 for none.")
  if values.judge and (values.config is None or not values.config.teacher.model):
    raise UsageError("--judge needs a teacher: --config=FILE, or --config.teacher.model=NAME with its backend.")
  from skymath_jax.recipe import decontaminate as room

  config = values.config if values.config is not None else config_lib.Experiment()
  names = tuple(filter(None, values.against.split(",")))
  facts = room.decontaminate(config, values.data, names, files.located(values.out), judge=values.judge)
  print(json.dumps(facts, indent=2))
  return 0
