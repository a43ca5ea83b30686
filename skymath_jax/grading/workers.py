"""Rows graded in child processes, each within a hard limit: a row that hangs or crashes costs its child, not the run.

The grader bounds its own work, so the limit should never bite. It is there because a bound that is wrong once must not
stop a file of a million rows, and because a signal would neither interrupt C code nor work outside the main thread.
"""

import collections
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

Row = dict[str, Any]
Grade = Callable[[Row], Row]
LIMIT_SECONDS = 10.0  # a row
CHUNK = 200  # rows that a child is given at once

_CONTEXT = multiprocessing.get_context("spawn")
_POLL_SECONDS = 0.2
_START_SECONDS = 60.0  # that a child may take to begin


def in_children(rows: Sequence[Row], grade: Grade, *, workers: int, limit: float = LIMIT_SECONDS) -> Iterator[Row]:
  """Yields `grade(row)` for each row, in order; a row that takes longer than `limit` seconds counts as wrong.

  Such a row gets `extracted` None, `correct` False and `timed_out` True, as does one whose child died.
  """
  pending = collections.deque(range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK))
  done: dict[int, Row] = {}
  children: list[_Child] = []
  workers = max(1, min(workers, len(pending)))
  following = 0
  try:
    while following < len(rows):
      children = [child for child in children if child.alive]
      while pending and len(children) < workers:
        children.append(_Child(grade, limit))
      for child in children:
        if pending and not child.waiting:
          child.give(rows, pending.popleft())
      wait([child.connection for child in children if child.waiting], _POLL_SECONDS)
      for child in children:
        done.update(child.finished())
        if child.overdue():
          lost = child.waiting.popleft()
          done[lost] = {**rows[lost], "extracted": None, "correct": False, "timed_out": True}
          if child.waiting:
            pending.appendleft(range(child.waiting[0], child.waiting[-1] + 1))
          child.end()
      while following in done:
        yield done.pop(following)
        following += 1
  finally:
    for child in children:
      child.end()


class _Child:
  """A process that grades the rows it is given, one after the other, and sends each back at once."""

  def __init__(self, grade: Grade, limit: float):
    self.connection, theirs = _CONTEXT.Pipe()
    self._process = _CONTEXT.Process(target=_work, args=(theirs, grade), daemon=True)
    self._process.start()
    theirs.close()
    self._limit, self._begun, self._since = limit, False, time.monotonic()
    self.waiting: collections.deque[int] = collections.deque()
    self.alive = True

  def give(self, rows: Sequence[Row], indices: range) -> None:
    """Sends the next chunk; all of the last one must have come back."""
    self.waiting.extend(indices)
    self._since = time.monotonic()
    self.connection.send([rows[index] for index in indices])

  def finished(self) -> Iterator[tuple[int, Row]]:
    """The rows that came back by now."""
    while self.waiting and self.connection.poll():
      try:
        row = self.connection.recv()
      except (EOFError, OSError):
        self._begun, self._since = True, -self._limit  # the child died: the row it was at is lost
        return
      self._begun, self._since = True, time.monotonic()
      yield self.waiting.popleft(), row

  def overdue(self) -> bool:
    """Whether the row at hand has had its time."""
    return bool(self.waiting) and time.monotonic() - self._since > (self._limit if self._begun else _START_SECONDS)

  def end(self) -> None:
    """Kills the process."""
    self.alive = False
    self._process.kill()
    self._process.join()
    self.connection.close()


def _work(connection: Connection, grade: Grade) -> None:
  while True:
    try:
      rows = connection.recv()
    except (EOFError, KeyboardInterrupt):
      return
    for row in rows:
      connection.send(grade(row))
