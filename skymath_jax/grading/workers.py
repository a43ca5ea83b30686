"""Rows graded in child processes, each within a hard limit: a row that hangs or crashes costs its child, not the run.

The grader bounds its own work, so the limit should never bite. It is there because a bound that is wrong once must not
stop a file of a million rows, and because a signal would neither interrupt C code nor work outside the main thread.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from pebble import ProcessPool

Row = dict[str, Any]
Grade = Callable[[Row], Row]
LIMIT_SECONDS = 10.0  # a row
CHUNK = 200  # rows that a child is given at once


def in_children(rows: Sequence[Row], grade: Grade, *, workers: int, limit: float = LIMIT_SECONDS) -> Iterator[Row]:
  """Yields `grade(row)` for each row, in order; a row that takes longer than `limit` seconds counts as wrong.

  Such a row gets `extracted` None, `correct` False and `timed_out` True, as does one whose child died. A chunk of rows
  has the time of one; the rows of a chunk that does not come back are given out again one by one.
  """
  chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
  pool = ProcessPool(max(1, min(workers, len(chunks))), context=multiprocessing.get_context("spawn"))
  try:
    futures = [pool.schedule(_graded, args=(grade, chunk), timeout=limit) for chunk in chunks]
    for chunk, future in zip(chunks, futures, strict=True):
      if (graded := _result(future)) is not None:
        yield from graded
        continue
      singles = [pool.schedule(_graded, args=(grade, [row]), timeout=limit) for row in chunk]
      for row, single in zip(chunk, singles, strict=True):
        yield from _result(single) or [{**row, "extracted": None, "correct": False, "timed_out": True}]
  finally:
    pool.stop()
    pool.join()


def _graded(grade: Grade, rows: Sequence[Row]) -> list[Row]:
  return [grade(row) for row in rows]


def _result(future: "Future[list[Row]]") -> list[Row] | None:
  """The graded rows; None where they took too long or their child died."""
  try:
    return future.result()
  except Exception:  # whatever the row did, the others are to be graded
    return None
