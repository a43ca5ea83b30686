"""Curation in memory; `stream.py` does the same with files of any size, by the same rules.

`curate` is pure: instances in, instances and a reason for every one that was dropped out.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from skymath_jax import records
from skymath_jax.curation import rules, sensitivity
from skymath_jax.curation.decide import decide
from skymath_jax.curation.examine import examine
from skymath_jax.curation.funnel import Funnel
from skymath_jax.curation.settings import Settings
from skymath_jax.records import Instance


@dataclasses.dataclass(frozen=True)
class Dropped:
  """An instance that was left out; `detail` says what was found (for a leak: the test row that was hit)."""

  instance: Instance
  reason: str
  detail: dict[str, Any]

  def to_json(self) -> dict[str, Any]:
    """The instance's own keys, then `reason`, then those of `detail`."""
    return {**records.to_json(self.instance), "reason": self.reason, **self.detail}


@dataclasses.dataclass(frozen=True)
class Curated:
  """What curation kept, what it dropped and why (in the order of the input), the funnel, and the hits counted."""

  kept: list[Instance]
  dropped: list[Dropped]
  funnel: Funnel
  sensitivity: dict[str, Any]


def curate(instances: Sequence[Instance], *, test_sets: rules.TestSets, settings: Settings) -> Curated:
  """Cleans `instances`; the order of what is kept is that of the input.

  Args:
    instances: what synthesis made.
    test_sets: name → problems that must not leak into what is kept.
    settings: the choices.

  Raises:
    UserError: `settings.quality` names a filter that there is not.
  """
  steps = rules.by_step(settings, test_sets)
  examined = examine(instances, itertools.chain(*steps.values()))
  drops, funnel, table = decide(examined, steps, lambda wanted: [instances[row] for row in wanted])
  facts = zip(table.votes.samples.tolist(), table.votes.solve_rate.tolist(), strict=True)
  kept = [label(i, *known) for row, (i, known) in enumerate(zip(instances, facts, strict=True)) if row not in drops]
  dropped = [Dropped(instances[row], *drops[row]) for row in sorted(drops)]
  return Curated(kept, dropped, funnel, sensitivity.report(examined, drops, test_sets, settings))


def label(instance: Instance, samples: int, solve_rate: float) -> Instance:
  """A kept instance with what curation has learnt of it: the votes, where there were several."""
  if samples < 2:
    return instance
  quality = {**instance.quality, "samples": samples, "solve_rate": round(solve_rate, 4)}
  return dataclasses.replace(instance, quality=quality)
