"""What a stage is, and what it is given."""

import dataclasses
from collections.abc import Callable

from skymath_jax.config import Experiment
from skymath_jax.recipe.teacher import Teacher
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.records import Facts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What the stages of one run share."""

  config: Experiment
  workdir: Workdir
  teacher: Teacher


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of the recipe: it works in `folder` of the workdir and returns the facts that its completion mark keeps.

  Among the facts, `output` is the hash by which the stages that need the folder notice a change.

  Args:
    name: as the log and the summary say it.
    folder: that it writes.
    work: does it, or goes on with what a killed process has left.
    needs: folders that it works from.
    reads: keys and groups of the config; what lies in `folder` is bound to their values.
    cheap: instead of being bound, the folder is made again when a value has changed; those who need it are bound.
    asks: it asks the teacher, which starts early and ends after the last stage that does.
    everywhere: in a job of several processes all of them work, not only the writer.
    outside: what it works from outside of the workdir, as JSON values by which a change is noticed.
  """

  name: str
  folder: str
  work: Callable[[Run], Facts]
  needs: tuple[str, ...] = ()
  reads: tuple[str, ...] = ()
  cheap: bool = False
  asks: bool = False
  everywhere: bool = False
  outside: Callable[[Run], Facts] = lambda run: {}
