"""Which answer to a query to trust, and how hard it is: the responses to it counted by answer.

Where a query has several responses (`synthesis.samples`), the share of them that agree is its solve rate: with the gold
answer where one is known, else with the answer given most often.
"""

from collections.abc import Mapping

import numpy as np

from skymath_jax.curation.row import Column, column, hashes
from skymath_jax.grading import strict

QUERIES = Column("queries", lambda rows: hashes(row.query for row in rows))  # of the normalized query
ANSWERS = Column("answers", lambda rows: hashes(strict.normalize(row.instance.answer) for row in rows))
WEIGHTS = column("weights", np.int32, lambda row: row.instance.quality.get("said", 1))  # said the very same so often
GOLD = column("gold", np.int8, lambda row: {None: -1, False: 0, True: 1}[row.instance.gold_match])


class Votes:
  """The responses to each query counted by answer.

  Attributes:
    samples: responses to the row's query, int32 `[rows]`; 0 for a row that has no vote.
    winning: whether the row gives the answer that most responses to its query give (of equals the first), bool.
    solve_rate: share of the responses to its query that are right, as far as is known, float32.
  """

  def __init__(self, columns: Mapping[str, np.ndarray], rows: np.ndarray):
    """Counts the votes of `rows` (indices `[voters]`); `columns` are those above."""
    total = len(columns[QUERIES.name])
    self.samples = np.zeros(total, np.int32)
    self.winning = np.zeros(total, bool)
    self.solve_rate = np.zeros(total, np.float32)
    if not len(rows):
      return
    queries, answers = columns[QUERIES.name][rows], columns[ANSWERS.name][rows]
    _, query = np.unique(queries, return_inverse=True)
    order = np.lexsort((answers, query))
    new = np.concatenate([[True], np.diff(query[order]) != 0]) | np.concatenate(
      [[True], answers[order][1:] != answers[order][:-1]]
    )
    classes = np.empty(len(rows), np.int64)  # one for each answer to each query
    classes[order] = np.cumsum(new) - 1
    weights = columns[WEIGHTS.name][rows]
    sizes, samples = np.bincount(classes, weights)[classes], np.bincount(query, weights)[query]
    # the first row of the largest class of its query: sort by query, falling size, position
    best = np.lexsort((np.arange(len(rows)), -sizes, query))
    heads = best[np.concatenate([[True], np.diff(query[best]) != 0])]
    winner = classes[heads]  # of each query, as `query` numbers them
    self.samples[rows] = samples
    self.winning[rows] = classes == winner[query]
    gold = columns[GOLD.name][rows]
    known = np.bincount(query, weights * (gold >= 0))[query] == samples
    right = np.bincount(query, weights * (gold == 1))[query]
    agreeing = np.bincount(query, weights * self.winning[rows])[query]
    self.solve_rate[rows] = np.where(known, right, agreeing) / samples
