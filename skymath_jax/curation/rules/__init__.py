"""The rules of curation, one file each: `base.Rule` says what a rule is, STEPS holds them all.

A new filter is a file here with a `Filter` in it, found by being here; workers, decision, funnel and card go by STEPS.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from skymath_jax.curation.rules.base import Filter, Rule, TestSets
from skymath_jax.curation.settings import Settings
from skymath_jax.errors import UserError

__all__ = ["STEPS", "Filter", "Rule", "TestSets", "by_step", "require_filters"]

ORDER = ("validation", "decontamination", "duplicates", "quality", "near-duplicates", "responses per query")


def _rules() -> Iterator[type[Rule]]:
  """What the files here define, those that say first why a row is dropped first."""
  modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
  classes = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
  rules = {each for each in classes if issubclass(each, Rule) and "name" in vars(each)}
  return iter(sorted(rules, key=lambda rule: (rule.rank, rule.name)))


# The funnel: its steps in order. All rules of a step look at the rows that the step before has left; where several
# would drop a row, the first one gives the reason.
STEPS: dict[str, tuple[type[Rule], ...]] = dict.fromkeys(ORDER, ())
for _rule in _rules():
  STEPS[_rule.step] += (_rule,)


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
