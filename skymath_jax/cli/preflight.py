"""`skymath preflight`: does the train or the serve step of an experiment fit a slice or a GPU that is not here?"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from skymath_jax import files, hardware
from skymath_jax.cli.flags import Flag, parse
from skymath_jax.config import Serving
from skymath_jax.console import log
from skymath_jax.errors import UsageError

if TYPE_CHECKING:  # the room brings JAX in, which looks at the environment
  from skymath_jax.models import DecoderConfig
  from skymath_jax.preflight.check import Report
  from skymath_jax.preflight.serving import ServeReport


def preflight(argv: Sequence[str]) -> int:
  """Prints the verdict, leaves `preflight.json` in `--workdir` if given; exit code 1 where it does not fit.

  Raises:
    UsageError: there is no such step.
  """
  wanted = (
    Flag("topology", "", f"{hardware.names()}; empty = what the recipe was fitted to"),
    Flag("slices", 1, "number of equal slices"),
    Flag("step", "train", "train | serve: what is compiled; serve takes slots and lengths from config.serving"),
    Flag("advise", True, "where it does not fit, try changes until one does"),
    Flag("workdir", None, "folder that gets preflight.json"),
  )
  values = parse(argv, *wanted, config="required")
  if values.step not in ("train", "serve"):
    raise UsageError(f"--step={values.step} is not known; use train or serve.")
  if not (values.topology or values.config.hardware):
    raise UsageError("name the machine: --config=FILE.py:HARDWARE or --topology. See skymath preflight --help.")
  os.environ["JAX_PLATFORMS"] = "cpu"  # the slice is only described; nothing is run, and no chip is taken
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # only who has the chips can read such an entry back
  from skymath_jax import preflight as room
  from skymath_jax.recipe import train

  target = hardware.find(values.topology or values.config.hardware, slices=values.slices)
  config, settings = train.step_of(values.config)
  report: Report | ServeReport
  if values.step == "serve":
    report, said = _serve(config, values.config.serving, target)
  else:
    mesh, adapters = dataclasses.asdict(values.config.mesh), train.adapters_of(values.config)
    report = room.check(config, settings, mesh, target, adapters=adapters, advise=values.advise)
    peak, usable = report.peak_bytes_per_chip / hardware.GIB, report.usable_bytes_per_chip / hardware.GIB
    verdict = f"{'fits' if report.fits else 'does not fit'} ({report.method}: {peak:.1f} of {usable:.1f} GiB a chip)"
    said = [f"{values.config.name} on {target.title}: {verdict}", *report.advice]
  if values.workdir:
    files.write_json(epath.Path(values.workdir) / "preflight.json", dataclasses.asdict(report))
  print(json.dumps(dataclasses.asdict(report), indent=2))
  for line in said:
    log(line)
  return 0 if report.fits else 1


def _serve(config: "DecoderConfig", serving: Serving, target: hardware.Hardware) -> tuple["ServeReport", list[str]]:
  """The verdict on serving the recipe's base model: how many tokens, and so slots, fit beside the weights."""
  from skymath_jax.engine.types import EngineSettings
  from skymath_jax.preflight import serving as room

  if not target.compiles:
    raise UsageError("--step=serve compiles for TPU slices only; name one, such as v5e-8.")
  settings = EngineSettings(**dataclasses.asdict(serving))
  report = room.check(dataclasses.replace(config, param_dtype=config.dtype), settings, target)
  said = (
    f"serving on {report.topology}: {settings.slots} slots × {settings.max_length} tokens need "
    f"{report.peak_bytes_per_chip / hardware.GIB:.1f} of {report.usable_bytes_per_chip / hardware.GIB:.1f} GiB a chip; "
    f"{report.tokens:,} tokens fit, {report.slots_of_max_length} slots of that length"
  )
  return report, [said]
