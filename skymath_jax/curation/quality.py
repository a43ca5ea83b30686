"""Which answers to trust and which questions are hard: votes, the gold answer, a verifier's word.

The paper's main set filters nothing (Skywork section 3.2); its trials with a verifier and with hard questions are
section 4.3.3. Here each is a choice. Where a query has several responses (`synthesis.samples`), the share of them that
agree is its solve rate: with the gold answer where one is known, else with the answer given most often.
"""

import numpy as np

from skymath_jax.curation.examine import Drop, Facts
from skymath_jax.curation.settings import Settings


class Votes:
  """The responses to each query counted by answer.

  Attributes:
    samples: responses to the row's query, int32 `[rows]`; 0 for a row that was dropped before.
    winning: whether the row gives the answer that most responses to its query give (of equals the first), bool.
    solve_rate: share of the responses to its query that are right, as far as is known, float32.
  """

  def __init__(self, facts: Facts, alive: np.ndarray):
    rows = np.flatnonzero(alive)
    self.samples = np.zeros(len(facts), np.int32)
    self.winning = np.zeros(len(facts), bool)
    self.solve_rate = np.zeros(len(facts), np.float32)
    if not len(rows):
      return
    queries, answers = facts.queries[rows], facts.answers[rows]
    _, query = np.unique(queries, return_inverse=True)
    order = np.lexsort((answers, query))
    new = np.concatenate([[True], np.diff(query[order]) != 0]) | np.concatenate(
      [[True], answers[order][1:] != answers[order][:-1]]
    )
    classes = np.empty(len(rows), np.int64)  # one for each answer to each query
    classes[order] = np.cumsum(new) - 1
    weights = facts.weights[rows]
    sizes, samples = np.bincount(classes, weights)[classes], np.bincount(query, weights)[query]
    # the first row of the largest class of its query: sort by query, falling size, position
    best = np.lexsort((np.arange(len(rows)), -sizes, query))
    heads = best[np.concatenate([[True], np.diff(query[best]) != 0])]
    winner = classes[heads]  # of each query, as `query` numbers them
    self.samples[rows] = samples
    self.winning[rows] = classes == winner[query]
    gold = facts.gold[rows]
    known = np.bincount(query, weights * (gold >= 0))[query] == samples
    right = np.bincount(query, weights * (gold == 1))[query]
    agreeing = np.bincount(query, weights * self.winning[rows])[query]
    self.solve_rate[rows] = np.where(known, right, agreeing) / samples


def failing(facts: Facts, alive: np.ndarray, votes: Votes, settings: Settings) -> dict[int, Drop]:
  """Row → the quality filter that it fails."""
  drops: dict[int, Drop] = {}

  def drop(rows: np.ndarray, reason: str) -> None:
    drops.update((row, (reason, {})) for row in np.flatnonzero(rows & alive).tolist() if row not in drops)

  if "gold" in settings.quality:
    drop(facts.gold == 0, "gold_mismatch")
  if "verdict" in settings.quality:
    drop(facts.verdicts == 0, "verifier_says_wrong")
  if "majority" in settings.quality:
    drop((votes.samples > 0) & ~votes.winning, "minority_answer")
  if settings.hard:
    drop(~hardest(facts, alive, votes, settings.hard), "not_hard")
  return drops


def hardest(facts: Facts, alive: np.ndarray, votes: Votes, share: float) -> np.ndarray:
  """True for the rows of the hardest `share` of the queries, bool `[rows]`.

  Hard is what the teacher rated so, then what has a low solve rate, then a high level; what is left is drawn by hash.
  """
  rows = np.flatnonzero(alive)
  queries, first = np.unique(facts.queries[rows], return_index=True)
  heads = rows[first]
  order = np.lexsort((queries, -facts.levels[heads], votes.solve_rate[heads], -facts.difficulties[heads]))
  chosen = np.sort(queries[order[: round(share * len(queries))]])
  kept = np.zeros(len(facts), bool)
  places = np.minimum(np.searchsorted(chosen, facts.queries[rows]), max(len(chosen) - 1, 0))
  kept[rows] = chosen[places] == facts.queries[rows] if len(chosen) else False
  return kept
