"""What a running pass leaves for those who look on (`skymath watch`): `progress.json` beside the store.

It is written every few seconds at most, replaced as a whole, and gone when the pass has ended well: what a finished
stage came to is in its summary. After a kill it stays and says how far the pass was.
"""

import collections
import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skymath_jax import files
from skymath_jax.generation.types import Stats
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import Rejected
from skymath_jax.synthesis.outcomes import Outcomes
from skymath_jax.synthesis.session import Session

FILE = "progress.json"
EVERY_SECONDS = 2.0
NEWEST = 6  # instances, and as many rejections, that are shown
LONGEST = 4_000  # characters of a text in it
POINTS = 120  # of the pace over time; beyond them every second one is left out


class Progress:
  """The file of one pass.

  Args:
    name: of the pass, as messages have it.
    total: jobs.
  """

  def __init__(self, name: str, total: int, session: Session, outcomes: Outcomes):
    self._name, self._total = name, total
    self._session, self._outcomes = session, outcomes
    self._path = Path(session.store.path).with_name(FILE)
    self._began = time.time()
    self._written = 0.0  # monotonic
    self._done = 0
    self._newest: collections.deque[dict[str, Any]] = collections.deque(maxlen=NEWEST)
    self._rejected: collections.deque[dict[str, Any]] = collections.deque(maxlen=NEWEST)
    self._pace: list[tuple[float, int, int]] = []
    self._apart = EVERY_SECONDS  # seconds between two points of the pace

  def note(self, problem: Problem, made: Iterable[Instance | Rejected]) -> None:
    """One more job is done; it was about `problem`. A disk that takes no more is no trouble of this file's."""
    self._done += 1
    for each in made:
      (self._rejected if isinstance(each, Rejected) else self._newest).append(_shown(problem, each))
    if time.monotonic() - self._written >= EVERY_SECONDS:
      self._written = time.monotonic()
      with contextlib.suppress(OSError):
        files.write_json(self._path, self._facts())

  def end(self) -> None:
    """The pass is over: its summary says the rest."""
    self._path.unlink(missing_ok=True)

  def _facts(self) -> dict[str, Any]:
    session, now = self._session, time.time()
    stats = getattr(session.generator, "stats", None) or Stats()
    if not self._pace or now - self._began - self._pace[-1][0] >= self._apart:
      self._pace.append((round(now - self._began, 1), session.requests["sent"], session.tokens["completion"]))
    if len(self._pace) > POINTS:
      self._pace, self._apart = self._pace[::2], 2 * self._apart
    return {
      "name": self._name,
      "jobs": {"done": self._done, "total": self._total},
      "began": self._began,
      "written": now,
      "requests": session.requests | {"retried": stats.retried},
      "tokens": session.tokens,
      "spent": stats.cost,
      "by_method": self._outcomes.by_method,
      "rejected_by_method": self._outcomes.rejected_by_method,
      "pace": self._pace,
      "newest": list(self._newest),
      "rejected": list(self._rejected),
    }


def _shown(problem: Problem, made: Instance | Rejected) -> dict[str, Any]:
  fields = ("method", "query", "response", "thought", "answer", "gold_match", "reason", "text")
  found = {key: value for key in fields if (value := getattr(made, key, None)) is not None}
  row = {"seed": problem.question, **found}
  return {key: value[:LONGEST] if isinstance(value, str) else value for key, value in row.items()}
