"""What can only be said of all instances together: duplicates, votes, near-duplicates, what is left of each query.

Works on the arrays of `examine`, so 2.5 million rows take some hundred megabytes; texts are fetched for the few rows
that look alike. Rows are preferred in their order: of equal ones the first stays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from skymath_jax.curation import deduplicate, quality
from skymath_jax.curation.examine import Drop, Facts
from skymath_jax.curation.funnel import Funnel
from skymath_jax.curation.lineage import Lineage
from skymath_jax.curation.settings import Settings
from skymath_jax.records import Instance


class Rows(Protocol):
  """Gives back instances by row number."""

  def __call__(self, rows: Sequence[int]) -> list[Instance]:
    """The instances of `rows`, in that order."""


def decide(facts: Facts, settings: Settings, fetch: Rows) -> tuple[dict[int, Drop], Funnel, quality.Votes]:
  """Row → why it is dropped; the funnel; and the votes on each query.

  Args:
    facts: of all rows; its drops are the first two steps.
    settings: the choices.
    fetch: for the ids and queries of rows that look alike.
  """
  funnel, drops = Funnel(len(facts)), dict(facts.drops)
  leaks = [reason for reason, _ in drops.values() if reason == "contamination"]
  funnel.add("validation", (reason for reason, _ in drops.values() if reason != "contamination"))
  funnel.add("decontamination", leaks)
  alive = np.ones(len(facts), bool)
  alive[list(drops)] = False
  votes = quality.Votes(facts, alive)
  steps: list[tuple[str, Callable[[], Mapping[int, Drop]]]] = [
    ("duplicates", lambda: _duplicates(facts, alive, fetch)),
    ("quality", lambda: quality.failing(facts, alive, votes, settings)),
    ("near-duplicates", lambda: _near_duplicates(facts, alive, settings.near_duplicate, fetch)),
    ("responses per query", lambda: _surplus(facts, alive, settings.responses_per_query)),
  ]
  for name, step in steps:
    found = step()
    funnel.add(name, (reason for reason, _ in found.values()))
    alive[list(found)] = False
    drops |= found
  return drops, funnel, votes


def first_of(keys: np.ndarray) -> np.ndarray:
  """For each entry the index of the first that equals it, int64 `[len(keys)]`."""
  _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
  return first[inverse]


def _duplicates(facts: Facts, alive: np.ndarray, fetch: Rows) -> dict[int, Drop]:
  rows = np.flatnonzero(alive)
  first = rows[first_of(facts.pairs[rows])]
  again, earlier = rows[first != rows], first[first != rows]
  names = {row: instance.id for row, instance in _fetched(earlier, fetch)}
  return {
    row: ("duplicate", {"duplicate_of": names[other]})
    for row, other in zip(again.tolist(), earlier.tolist(), strict=True)
  }


def _fetched(rows: Iterable[int], fetch: Rows) -> Iterable[tuple[int, Instance]]:
  wanted = sorted(set(map(int, rows)))
  return zip(wanted, fetch(wanted), strict=True)


def _near_duplicates(facts: Facts, alive: np.ndarray, threshold: float, fetch: Rows) -> dict[int, Drop]:
  """Compares the distinct queries; all responses to a near-duplicate query go with it."""
  rows = np.flatnonzero(alive)
  if threshold <= 0 or not len(rows):
    return {}
  first = rows[first_of(facts.queries[rows])]
  queries = rows[first == rows]  # the first row of each query, in order
  crowded = deduplicate.crowded(facts.bands[queries])
  looked_at = queries[crowded.any(axis=1)]
  by_query = np.argsort(first, kind="stable")
  starts = np.searchsorted(first[by_query], looked_at)
  ends = np.searchsorted(first[by_query], looked_at, side="right")
  members = [rows[by_query[a:b]].tolist() for a, b in zip(starts, ends, strict=True)]
  lineage = Lineage(facts.ids, facts.parent_counts, facts.parents)
  instances = fetch(looked_at.tolist())
  texts = [instance.query for instance in instances]
  earlier = deduplicate.near_by_keys(
    facts.bands[looked_at],
    crowded[crowded.any(axis=1)],
    texts,
    [lineage.seeds(group) for group in members],
    threshold=threshold,
  )
  drops: dict[int, Drop] = {}
  for number, other in enumerate(earlier):
    if other is not None:
      detail: dict[str, Any] = {
        "near_duplicate_of": instances[other].id,
        "jaccard": round(deduplicate.jaccard(texts[number], texts[other]), 3),
      }
      drops |= {row: ("near_duplicate", detail) for row in members[number]}
  return drops


def _surplus(facts: Facts, alive: np.ndarray, limit: int) -> dict[int, Drop]:
  if limit <= 0:
    return {}
  rows = np.flatnonzero(alive)
  order = np.argsort(facts.queries[rows], kind="stable")
  keys = facts.queries[rows][order]
  new = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
  numbers = np.arange(len(keys)) - np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
  return {int(row): ("responses_per_query", {"limit": limit}) for row in rows[order[numbers >= limit]]}
