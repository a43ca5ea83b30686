"""Curation in memory: validation → decontamination → duplicates → quality → near-duplicates → responses per query.

`curate` is pure: instances in, instances and a reason for every one that was dropped out. `stream.py` does the same
with files of any size, by the same functions.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skymath_jax import records
from skymath_jax.curation import decontaminate
from skymath_jax.curation.decide import decide
from skymath_jax.curation.examine import Drop, Examiner, Facts
from skymath_jax.curation.funnel import Funnel
from skymath_jax.curation.settings import Settings
from skymath_jax.records import Instance, Problem


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


def curate(
  instances: Sequence[Instance],
  *,
  test_sets: Mapping[str, Sequence[Problem]],
  settings: Settings,
  tokenizer_count: Callable[[str], int] | None = None,
) -> Curated:
  """Cleans `instances`; the order of what is kept is that of the input.

  Args:
    instances: what synthesis made.
    test_sets: name → problems that must not leak into what is kept.
    settings: the choices.
    tokenizer_count: text → number of tokens; where given, every kept instance's `tokens` is set with it.
  """
  facts = Examiner(test_sets, settings, tokenizer_count).examine(instances)
  drops, funnel, votes = decide(facts, settings, lambda rows: [instances[row] for row in rows])
  kept = [
    labelled(instance, int(facts.tokens[row]), int(votes.samples[row]), float(votes.solve_rate[row]))
    for row, instance in enumerate(instances)
    if row not in drops
  ]
  dropped = [Dropped(instances[row], *drops[row]) for row in sorted(drops)]
  return Curated(kept, dropped, funnel, sensitivity(facts, drops, test_sets, settings))


def labelled(instance: Instance, tokens: int, samples: int, solve_rate: float) -> Instance:
  """A kept instance with what curation has learnt of it: its tokens, and the votes where there were several."""
  changes: dict[str, Any] = {"tokens": tokens} if tokens and tokens != instance.tokens else {}
  if samples > 1:
    changes["quality"] = {**instance.quality, "samples": samples, "solve_rate": round(solve_rate, 4)}
  return dataclasses.replace(instance, **changes) if changes else instance


def sensitivity(
  facts: Facts, drops: Mapping[int, Drop], test_sets: Mapping[str, Sequence[Problem]], settings: Settings
) -> dict[str, Any]:
  """What was checked against what, the hits by kind and test set, and the n-gram hits at several lengths."""
  leaks = [detail for reason, detail in drops.values() if reason == decontaminate.REASON]
  invalid = sum(reason != decontaminate.REASON for reason, _ in facts.drops.values())
  return {
    "checked": len(facts) - invalid,
    "test_sets": {name: len(problems) for name, problems in test_sets.items()},
    "hits": dict(sorted(Counter(leak["kind"] for leak in leaks).items())),
    "hits_by_test_set": dict(sorted(Counter(leak["test_row"]["test_set"] for leak in leaks).items())),
    "ngram_hits": {str(n): int((facts.runs >= n).sum()) for n in sorted({settings.ngram, *settings.sensitivity})},
  }
