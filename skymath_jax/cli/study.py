"""`skymath study`: accuracy against the amount of data."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from skymath_jax.cli.flags import WORKDIR, parse
from skymath_jax.console import log
from skymath_jax.errors import UserError


def study(argv: Sequence[str]) -> int:
  """The data once, then every cell of the grid, then fits, plots and the report.

  Raises:
    UserError: matplotlib is missing, or the workdir lies in a bucket.
  """
  values = parse(argv, WORKDIR, config="required")
  if importlib.util.find_spec("matplotlib") is None:  # before hours of work, not after them
    raise UserError("the figures need matplotlib", where="study", remedy='install it with: pip install -e ".[study]"')
  if "://" in values.workdir:
    raise UserError(
      "a study wants a local folder", where=values.workdir, remedy="copy its study/ to a bucket afterwards"
    )
  from skymath_jax import study
  from skymath_jax.recipe import curate, seeds, stages, synthesize

  study.cells_of(values.config)  # refuses what is no study before the teacher is asked
  data = [seeds.STAGE, *synthesize.stages(values.config), *curate.STAGES]
  stages.perform(data, values.config, values.workdir)
  print(json.dumps(study.run(values.config, values.workdir)["headline"], indent=2))
  log(f"report: {Path(values.workdir) / 'study' / 'report.html'}")
  return 0
