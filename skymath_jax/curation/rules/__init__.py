"""The rules of curation, one file each: `base.Rule` says what a rule is, STEPS which there are and in which order.

A new filter is a file with a `Filter`, and its name in STEPS; workers, decision, funnel and card go by that table.
"""

import difflib
from collections.abc import Iterable

from skymath_jax.curation.rules.base import Filter, Rule, TestSets
from skymath_jax.curation.rules.contamination import Contamination
from skymath_jax.curation.rules.duplicates import Duplicates
from skymath_jax.curation.rules.fuzzy import Fuzzy
from skymath_jax.curation.rules.gold import Gold
from skymath_jax.curation.rules.hard import Hard
from skymath_jax.curation.rules.majority import Majority
from skymath_jax.curation.rules.near_duplicates import NearDuplicates
from skymath_jax.curation.rules.responses_per_query import ResponsesPerQuery
from skymath_jax.curation.rules.validation import Validation
from skymath_jax.curation.rules.verdict import Verdict
from skymath_jax.curation.settings import Settings
from skymath_jax.errors import UserError

__all__ = ["STEPS", "Filter", "Rule", "TestSets", "by_step", "require_filters"]

# The funnel: its steps in order. All rules of a step look at the rows that the step before has left; where several
# would drop a row, the first one gives the reason.
STEPS: dict[str, tuple[type[Rule], ...]] = {
  "validation": (Validation,),
  "decontamination": (Contamination, Fuzzy),
  "duplicates": (Duplicates,),
  "quality": (Gold, Verdict, Majority, Hard),
  "near-duplicates": (NearDuplicates,),
  "responses per query": (ResponsesPerQuery,),
}


def require_filters(names: Iterable[str]) -> None:
  """Looks at what `curation.quality` names.

  Raises:
    UserError: a name is that of no filter; the nearest one is given.
  """
  known = [rule.name for rules in STEPS.values() for rule in rules if issubclass(rule, Filter)]
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
      raise UserError(f"no such filter: {name!r}", where="config.curation.quality", remedy=f"did you mean {near!r}?")


def by_step(settings: Settings, test_sets: TestSets) -> dict[str, list[Rule]]:
  """Step → the rules of it that the settings ask for.

  Raises:
    UserError: the settings name a filter that there is not.
  """
  require_filters(settings.quality)
  return {step: [rule(settings, test_sets) for rule in rules if rule.wanted(settings)] for step, rules in STEPS.items()}
