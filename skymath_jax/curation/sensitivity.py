"""How much the instances have in common with the test sets, also below the threshold, and how much the seeds have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from skymath_jax.curation import rules
from skymath_jax.curation.examine import Examined, examine
from skymath_jax.curation.rules.base import Drop
from skymath_jax.curation.rules.contamination import REASON, SHARED_WORDS, Contamination
from skymath_jax.curation.rules.fuzzy import Fuzzy
from skymath_jax.curation.rules.validation import Validation
from skymath_jax.curation.settings import Settings
from skymath_jax.records import Instance, Problem


def report(
  examined: Examined, drops: Mapping[int, Drop], test_sets: rules.TestSets, settings: Settings
) -> dict[str, Any]:
  """What was checked against what, the hits by kind and test set, and the n-gram hits at several lengths."""
  leaks = [drop.detail for drop in drops.values() if drop.reason == REASON]
  shared = examined.columns[SHARED_WORDS.name]
  return {
    "checked": examined.rows - len(examined.drops[Validation.name]),
    "test_sets": {name: len(problems) for name, problems in test_sets.items()},
    "hits": dict(sorted(Counter(leak["kind"] for leak in leaks).items())),
    "hits_by_test_set": dict(sorted(Counter(leak["test_row"]["test_set"] for leak in leaks).items())),
    "ngram_hits": {str(n): int((shared >= n).sum()) for n in _lengths(settings)},
  }


def yardstick(problems: Sequence[Problem], decontamination: Sequence[rules.Rule], settings: Settings) -> dict[str, Any]:
  """The hits of the rules of decontamination in the problems' own questions, beside which ours are to be read."""
  examined = examine([_question(problem) for problem in problems], decontamination)
  shared = examined.columns[SHARED_WORDS.name]
  return {
    "name": "the seed problems",
    "checked": len(problems),
    "exact": sum(drop.detail["kind"] == "exact" for drop in examined.drops[Contamination.name].values()),
    "fuzzy": len(examined.drops.get(Fuzzy.name, ())),
    "ngram_hits": {str(n): int((shared >= n).sum()) for n in _lengths(settings)},
  }


def _question(problem: Problem) -> Instance:
  return Instance(id=problem.id, query=problem.question, response="", answer="", method="", parents=(), stage=1)


def _lengths(settings: Settings) -> list[int]:
  return sorted({settings.ngram, *settings.sensitivity})
