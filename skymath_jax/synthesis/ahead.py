"""Answers of the teacher on their way to a bucket, where they are before anything is made of them.

A workdir in a bucket is worked on in a local copy, and its database goes to the bucket every few minutes only: a
machine that is lost would take along what it has paid since. So each group of answers goes there at once, as a file of
its own beside the database, until the database that has them follows (`mirror.push`). Who takes over finds both, and
the store takes in what `recover` reads.
"""

import dataclasses
import itertools
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from etils import epath

from skymath_jax import files, mirror, records
from skymath_jax.console import log
from skymath_jax.errors import UserError

PATIENCE_SECONDS = 300.0  # how long a bucket may refuse before the run ends; the answers stay on this machine
AGAIN_SECONDS = 5.0


class Ahead:
  """Sends rows from a thread of its own; all that wait while one file is written share the next.

  Args:
    folder: of the database.
    send: copies a file of the folder, named without it, to where a lost machine cannot take it along.
  """

  def __init__(self, folder: epath.PathLike, send: Callable[[str], None]):
    self._folder, self._send = epath.Path(folder), send
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
        self._send_group([row for row, _ in waiting])
      except BaseException as error:
        for _, done in waiting:
          done.set_exception(error)
      else:
        for row, done in waiting:
          done.set_result(row)

  def _send_group(self, rows: Sequence[Any]) -> None:
    if not rows:
      return
    name = f"{mirror.AHEAD}{time.time_ns():020d}-{next(self._numbers)}-{secrets.token_hex(4)}.jsonl"
    text = "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows)
    files.write_text(self._folder / name, text)
    end, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
      try:
        self._send(name)
        return
      except UserError:  # another machine has taken the workdir over
        raise
      except Exception as error:  # the network, the bucket's permissions
        what = f"answers could not be copied to the bucket ({type(error).__name__}: {str(error)[:200]})"
        if time.monotonic() > end:
          remedy = "look at the network and the bucket's permissions, then run the same command again on this machine"
          raise UserError(what, where=self._folder, remedy=remedy) from error
        if not told:
          log(f"warning: {what}; tried again for {PATIENCE_SECONDS:.0f} s")
        told = True
        time.sleep(AGAIN_SECONDS)


def recover(folder: epath.PathLike) -> Iterator[dict[str, Any]]:
  """The rows of all files in `folder` that were sent ahead, oldest first.

  Raises:
    UserError: a file holds something else.
  """
  for path in sorted(epath.Path(folder).glob(f"{mirror.AHEAD}*.jsonl")):
    for _, row in records.read_lines(path):
      yield row
