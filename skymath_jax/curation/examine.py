"""What can be said of each instance by itself, for many at a time: its faults, its leaks, and the hashes by which the
rows of all chunks are compared later.

An `Examiner` is all that a worker process needs; its verdicts do not depend on how the rows are cut into chunks.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skymath_jax.curation import decontaminate, deduplicate, hashing, validate
from skymath_jax.curation.fuzzy import FuzzyIndex
from skymath_jax.curation.settings import Settings
from skymath_jax.grading import strict
from skymath_jax.records import Instance, Problem

Drop = tuple[str, dict[str, Any]]  # reason, and what was found
_KNOWN = {None: -1, False: 0, True: 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """An entry a row, in the order of the rows.

  Attributes:
    ids: hashes of the ids, uint64 `[rows]`.
    parents: hashes of the parents' ids, those of the first row first, uint64 `[sum of parent_counts]`.
    parent_counts: int32 `[rows]`.
    pairs: hashes of normalized query and response; of a row that was dropped 0, as in the next three.
    queries: hashes of the normalized query.
    answers: hashes of the answer as the strict grader reads it.
    bands: MinHash keys of the query, uint64 `[rows, bands]`; no bands where near-duplicates do not matter.
    runs: longest run of words shared with a test set, as the scan saw it, int32.
    weights: how often the teacher said the very same, int32; 0 for a row that was dropped.
    gold: -1 not known, 0 wrong, 1 right, int8.
    verdicts: the same of what the verifier said.
    difficulties: as the teacher rated the query, 1 to 5; 0 not rated.
    levels: of the seed, 0 not known.
    tokens: of query and response by the tokenizer, or as the row has it; 0 where neither is.
    offsets: where the row begins in its file, int64; 0 in memory.
    drops: row → why it is not used, with the step that says so.
  """

  ids: np.ndarray
  parents: np.ndarray
  parent_counts: np.ndarray
  pairs: np.ndarray
  queries: np.ndarray
  answers: np.ndarray
  bands: np.ndarray
  runs: np.ndarray
  weights: np.ndarray
  gold: np.ndarray
  verdicts: np.ndarray
  difficulties: np.ndarray
  levels: np.ndarray
  tokens: np.ndarray
  offsets: np.ndarray
  drops: dict[int, Drop]

  def __len__(self) -> int:
    return len(self.ids)


def joined(parts: Sequence[Facts]) -> Facts:
  """The facts of several chunks as one; the parts' drops are renumbered."""
  starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(int)
  drops = {
    int(start) + row: drop for start, part in zip(starts[:-1], parts, strict=True) for row, drop in part.drops.items()
  }
  names = [field.name for field in dataclasses.fields(Facts) if field.name != "drops"]
  return Facts(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, drops=drops)


class Examiner:
  """The choices and the test sets, arranged for looking at instances.

  Args:
    test_sets: name → problems that must not leak.
    settings: the choices.
    tokenizer_count: text → number of tokens; without it a row's own `tokens` stands.
  """

  def __init__(
    self,
    test_sets: Mapping[str, Sequence[Problem]],
    settings: Settings,
    tokenizer_count: Callable[[str], int] | None = None,
  ):
    self.settings, self._count = settings, tokenizer_count
    self.index = decontaminate.TestIndex(test_sets, ngram=settings.ngram, sensitivity=settings.sensitivity)
    self._questions = [
      decontaminate.Row(name, number, problem.id, "question", problem.question)
      for name, problems in test_sets.items()
      for number, problem in enumerate(problems)
    ]
    self._fuzzy = FuzzyIndex([row.text for row in self._questions]) if settings.fuzzy else None
    self._vocabulary = hashing.Vocabulary()

  def examine(self, instances: Sequence[Instance], offsets: Sequence[int] = ()) -> Facts:
    """The facts of a chunk of rows."""
    rows = len(instances)
    zeros = {name: np.zeros(rows, np.uint64) for name in ("pairs", "queries", "answers")}
    runs, tokens = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    weights = np.zeros(rows, np.int32)
    drops: dict[int, Drop] = {}
    for row, instance in enumerate(instances):
      query, response = decontaminate.normalize(instance.query), decontaminate.normalize(instance.response)
      tokens[row] = self._tokens(instance)
      if (drop := self._faults(instance, int(tokens[row]))) is None:
        drop, runs[row] = self._leaks(instance, query, response)
      if drop is not None:
        drops[row] = drop
        continue
      weights[row] = instance.quality.get("said", 1)
      zeros["queries"][row] = hashing.hash64(query)
      zeros["pairs"][row] = hashing.hash64(f"{query}\0{response}")
      zeros["answers"][row] = hashing.hash64(strict.normalize(instance.answer))
    left = [row for row in range(rows) if row not in drops]  # no other rule has caught these
    hits = zip(left, self.alike([instances[row].query for row in left]), strict=True)
    drops |= {row: (decontaminate.REASON, hit) for row, hit in hits if hit is not None}
    return Facts(
      ids=np.array([hashing.hash64(i.id) for i in instances], np.uint64),
      parents=np.array([hashing.hash64(parent) for i in instances for parent in i.parents], np.uint64),
      parent_counts=np.array([len(i.parents) for i in instances], np.int32),
      bands=self._bands(instances, drops),
      runs=runs,
      weights=weights,
      gold=np.array([_KNOWN[i.gold_match] for i in instances], np.int8),
      verdicts=np.array([_KNOWN[i.quality.get("verdict")] for i in instances], np.int8),
      difficulties=np.array([i.quality.get("difficulty", 0) for i in instances], np.int8),
      levels=np.array([i.level or 0 for i in instances], np.int8),
      tokens=tokens,
      offsets=np.array(offsets if len(offsets) else [0] * rows, np.int64),
      drops=drops,
      **zeros,
    )

  def _tokens(self, instance: Instance) -> int:
    if self._count is None:
      return instance.tokens or 0
    return self._count(instance.query) + self._count(instance.response)

  def _faults(self, instance: Instance, tokens: int) -> Drop | None:
    settings = self.settings
    found = validate.findings(
      instance, max_characters=settings.max_characters, max_tokens=settings.max_tokens, tokens=tokens
    )
    first = next(found, None)
    return None if first is None else (first.reason, {"found": first.detail} if first.detail else {})

  def _leaks(self, instance: Instance, query: str, response: str) -> tuple[Drop | None, int]:
    verdict = self.index.check(instance.query, instance.response, normal=(query, response))
    return verdict.hit and (decontaminate.REASON, verdict.hit.to_json()), verdict.longest_run

  def alike(self, queries: Sequence[str]) -> list[dict[str, Any] | None]:
    """For each query the test question it is too much like, as a hit; None where there is none, or no such check."""
    if self._fuzzy is None or not queries:
      return [None] * len(queries)
    found = zip(queries, *self._fuzzy.nearest(queries), strict=True)
    return [
      self._fuzzy_hit(query, int(number), float(likeness)) if likeness >= self.settings.fuzzy else None
      for query, likeness, number in found
    ]

  def _fuzzy_hit(self, query: str, number: int, likeness: float) -> dict[str, Any]:
    hit = decontaminate.Hit("fuzzy", "query", self._questions[number], query)
    return {**hit.to_json(), "likeness": round(likeness, 3)}

  def _bands(self, instances: Sequence[Instance], drops: Mapping[int, Drop]) -> np.ndarray:
    """Keys of the queries of the rows that are left; 0 for the others."""
    threshold = self.settings.near_duplicate
    bands = np.zeros((len(instances), deduplicate.bands(threshold)), np.uint64)
    left = [row for row in range(len(instances)) if row not in drops]
    if bands.shape[1] and left:
      texts = [instances[row].query for row in left]
      bands[left] = deduplicate.band_keys(texts, deduplicate.rows_per_band(threshold), vocabulary=self._vocabulary)
    return bands
