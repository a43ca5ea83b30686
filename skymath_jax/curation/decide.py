"""Step by step through the funnel: which rows are dropped and why.

Works on the columns of `examine`, so 2.5 million rows take some hundred megabytes; texts are fetched for the few rows
that look alike.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skymath_jax.curation.examine import Examined
from skymath_jax.curation.funnel import Funnel
from skymath_jax.curation.rules.base import Drop, Fetch, Rule, Table

VOTES_AFTER = "decontamination"  # the step after which the responses to a query are counted


class Decision(NamedTuple):
  """Row → why it is dropped; the funnel; and the table, in which `alive` are the rows that are kept."""

  drops: dict[int, Drop]
  funnel: Funnel
  table: Table


def decide(examined: Examined, rules: Mapping[str, Sequence[Rule]], fetch: Fetch) -> Decision:
  """Goes through the steps.

  Args:
    examined: all rows.
    rules: of each step, as `rules.by_step` gives them.
    fetch: for the ids and queries of rows that look alike.
  """
  table = Table(examined.columns, examined.rows, fetch)
  funnel, drops = Funnel(examined.rows), dict[int, Drop]()
  for step, members in rules.items():
    found: dict[int, Drop] = {}
    for rule in members:
      alone = ((row, drop) for row, drop in examined.drops[rule.name].items() if table.alive[row])
      for row, drop in (*alone, *rule.decide(table).items()):
        found.setdefault(row, drop)
    funnel.add(step, (drop.reason for drop in found.values()))
    table.alive[list(found)] = False
    drops |= found
    if step == VOTES_AFTER:
      table.count_votes()
  return Decision(drops, funnel, table)
