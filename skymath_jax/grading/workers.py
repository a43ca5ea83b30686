"""Rows graded in child processes, each within a hard limit: a row that hangs or crashes costs its child, not the run.

The grader bounds its own work, so the limit should never bite. It is there because a bound that is wrong once must not
stop a file of a million rows, and because a signal would neither interrupt C code nor work outside the main thread.

Each child has a pipe of its own. Where children share a queue, as in Pebble's pool, killing one can take along what the
others need: of 130 runs on a crowded machine in which a child died, 10 ended in "Unexpected error within the Pool", and
one of another day waited for ever.
"""

import collections
import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

Row = dict[str, Any]
Grade = Callable[[Row], Row]
LIMIT_SECONDS = 10.0  # a row
START_SECONDS = 300.0  # that a child may take until it can be given rows, which counts for none of them
CHUNK = 200  # rows that a child is given at once
_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit locks that threads of the parent hold


def in_children(rows: Sequence[Row], grade: Grade, *, workers: int, limit: float = LIMIT_SECONDS) -> Iterator[Row]:
  """Yields `grade(row)` for each row, in order; a row that takes longer than `limit` seconds counts as wrong.

  Such a row gets `extracted` None, `correct` False and `timed_out` True, as does one whose child died. A chunk of rows
  has the time of one; the rows of a chunk that does not come back are given out again one by one.

  Raises:
    ChildProcessError: a child ended before it could take any row.
  """
  todo = collections.deque((start, rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK))
  graded: dict[int, list[Row]] = {}
  children = [_Child(grade) for _ in range(min(max(1, workers), len(todo)))]
  at = 0
  try:
    while at < len(rows):
      for child in children:
        if child.idle and todo:
          child.give(*todo.popleft(), limit)
      for start, chunk, found in _came_back(children):
        if found is None and len(chunk) > 1:
          todo.extendleft(reversed([(start + i, [row]) for i, row in enumerate(chunk)]))
        else:
          graded[start] = found or [{**row, "extracted": None, "correct": False, "timed_out": True} for row in chunk]
      while at in graded:
        yield from (done := graded.pop(at))
        at += len(done)
  finally:
    for child in children:
      child.end()


def _came_back(children: Sequence["_Child"]) -> Iterator[tuple[int, Sequence[Row], list[Row] | None]]:
  """Waits until a child says something or its time is up; (first row, rows, graded or None) of those with rows."""
  waiting = [child for child in children if not child.idle]
  patience = min(child.deadline for child in waiting) - time.monotonic()
  ready = wait([child.pipe for child in waiting], timeout=max(0.0, patience))
  for child in waiting:
    if child.pipe in ready or time.monotonic() >= child.deadline:
      job, found = child.take()
      if job is not None:
        yield *job, found


class _Child:
  """One process and what it was given; it is replaced by another where it dies or takes too long."""

  def __init__(self, grade: Grade):
    self._grade = grade
    self._start()

  def _start(self) -> None:
    self.pipe, theirs = _SPAWN.Pipe()
    self._process = _SPAWN.Process(target=_serve, args=(theirs, self._grade), daemon=True)
    self._process.start()
    theirs.close()  # so that its end is seen
    self._job: tuple[int, Sequence[Row]] | None = None
    self.idle, self.deadline = False, time.monotonic() + START_SECONDS

  def give(self, start: int, rows: Sequence[Row], limit: float) -> None:
    """Hands over rows; one that cannot take them any more is found out by `take`."""
    self._job, self.idle, self.deadline = (start, rows), False, time.monotonic() + limit
    with contextlib.suppress(OSError):
      self.pipe.send(rows)

  def take(self) -> tuple[tuple[int, Sequence[Row]] | None, list[Row] | None]:
    """What it was given, and what it made of that: None where it failed, died, or said nothing in time.

    Raises:
      ChildProcessError: it ended before it could take any row.
    """
    job, found, lost = self._job, None, not self.pipe.poll()
    if not lost:
      try:
        found = self.pipe.recv()
      except (EOFError, OSError):
        lost = True
        self._process.join(1.0)  # so that it is not our signal that it ends with
    if lost:
      self.end()
      if job is None:
        what = f"a grading process did not start (exit code {self._process.exitcode})"
        raise ChildProcessError(f'{what}; a script needs `if __name__ == "__main__":` around what it calls')
      self._start()
    else:
      self._job, self.idle = None, True
    return job, found

  def end(self) -> None:
    self._process.kill()
    self._process.join()
    self.pipe.close()


def _serve(pipe: Connection, grade: Grade) -> None:
  """In the child: says that it is there, then grades what it is given; None of rows that cannot be graded."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which Ctrl-C reaches, ends it
  with contextlib.suppress(EOFError, OSError):  # the parent has gone
    pipe.send(None)
    while True:
      pipe.send(_graded(grade, pipe.recv()))


def _graded(grade: Grade, rows: Sequence[Row]) -> list[Row] | None:
  try:
    return [grade(row) for row in rows]
  except Exception:  # whatever the row did, the others are to be graded
    return None
