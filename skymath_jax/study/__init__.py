"""The scaling study: accuracy against amount of data, its fit, and the ablations, from one config (Skywork 4.3)."""

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import files
from skymath_jax.records import Facts
from skymath_jax.study import page, plot, results
from skymath_jax.study.cells import Study, cells_of

__all__ = ["Study", "cells_of", "report", "run"]


def run(config: config_lib.Experiment, workdir: epath.PathLike) -> Facts:
  """Makes the cells that are missing; leaves `study/summary.json`, `study/plots/` and `study/report.html`.

  They are written after each RNG seed, so a study that is stopped has those of its complete seeds. The data sets
  `sft/stage1` and `sft/stage2` must be there. Returns the summary.
  """
  workdir = epath.Path(workdir)
  with files.lock(workdir / ".lock", f"the workdir {workdir}"):
    study = Study(config, workdir)
    study.check()
    for seed in range(config.study.rng_seeds):
      study.make_all(seed)
      summary = report(study)
  return summary


def report(study: Study) -> Facts:
  """Writes summary, figures and page from the cells that are complete; returns the summary."""
  summary = results.summarize(study)
  page.write(study, summary, plot.write(summary, study.workdir / "study" / "plots"))
  return summary
