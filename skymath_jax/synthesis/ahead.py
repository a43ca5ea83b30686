"""Answers of the teacher on their way to a bucket, where they are before anything is made of them.

A workdir in a bucket is worked on in a local copy, and its database goes to the bucket every few minutes only: a
machine that is lost would take along what it has paid since. So each group of answers goes there at once, as a file of
its own beside the database, until the database that has them follows and what has no file here goes (`Mirror.push`).
Who takes over finds both, and `recover` puts the rows into the database.
"""

import dataclasses
import itertools
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from etils import epath

from skymath_jax import records

PREFIX = ".ahead-"  # hidden: it is no part of what a complete folder holds


class Ahead:
  """Sends rows from a thread of its own; all that wait while one file is written share the next.

  Args:
    send: makes a file of this name and content beside the bucket's database.
  """

  def __init__(self, send: Callable[[str, bytes], None]):
    self._send = send
    self._numbers = itertools.count()
    self._queue: queue.SimpleQueue[tuple[Any, Future[Any]] | None] = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, name="answers-ahead", daemon=True)
    self._thread.start()

  def add(self, row: Any, done: Future[Any]) -> None:
    """Sends a row (a dataclass); `done` is given the row when it has arrived."""
    self._queue.put((row, done))

  def close(self) -> None:
    """Waits for what was added and ends the thread."""
    self._queue.put(None)
    self._thread.join()

  def _work(self) -> None:
    ended = False
    while not ended:
      group = [self._queue.get()]
      while not self._queue.empty():
        group.append(self._queue.get())
      ended = None in group
      waiting = [item for item in group if item is not None]
      try:
        if waiting:
          name = f"{PREFIX}{time.time_ns():020d}-{next(self._numbers)}-{secrets.token_hex(4)}.jsonl"
          self._send(name, "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row, _ in waiting).encode())
      except BaseException as error:
        for _, done in waiting:
          done.set_exception(error)
      else:
        for row, done in waiting:
          done.set_result(row)


def recover(folder: epath.PathLike, take: Callable[[dict[str, Any]], object]) -> None:
  """Gives each row that was sent ahead and lies in `folder` to `take`, which stores it; then its file can go.

  Raises:
    UserError: a file holds something else.
  """
  for path in sorted(epath.Path(folder).glob(f"{PREFIX}*.jsonl")):
    for _, row in records.read_lines(path):
      take(row)
    path.unlink()
