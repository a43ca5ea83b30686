"""Group commit: one thread writes, and all that waits while the disk is busy shares the next transaction.

An idle store commits a response at once; a busy one commits up to GROUP of them together, so that waiting for the disk
(about 0.3 ms to 10 ms a commit) bounds the latency and not the rate.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

GROUP = 64  # operations in one transaction at most
IDLE_SECONDS = 15.0  # how often `idle` runs where nothing else is to do

_Item = tuple[Callable[..., Any], tuple[Any, ...], bool, Future]


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
  """One write transaction: all of the block or nothing."""
  connection.execute("BEGIN IMMEDIATE")
  try:
    yield
    connection.execute("COMMIT")
  except BaseException:
    if connection.in_transaction:  # on a full disk SQLite may have rolled back by itself
      connection.execute("ROLLBACK")
    raise


class GroupWriter:
  """The only writer of a connection.

  Args:
    connection: used by this object's thread alone from now on.
    explained: a context that turns database errors into what the waiting callers get.
    idle: called in a transaction now and then.
  """

  def __init__(
    self,
    connection: sqlite3.Connection,
    explained: Callable[[], AbstractContextManager[None]],
    idle: Callable[[], None],
  ):
    self._connection, self._explained, self._idle = connection, explained, idle
    self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, name="response-store", daemon=True)
    self._thread.start()

  def submit(self, operation: Callable[..., Any], *arguments: Any, durable: bool = True) -> Future:
    """Runs `operation(*arguments)` in the next transaction; the future is done once that is committed.

    Args:
      durable: whether the result must survive a power failure; a transaction without such does not wait for the disk.
    """
    future: Future = Future()
    self._queue.put((operation, arguments, durable, future))
    return future

  def close(self) -> None:
    """Waits for what was submitted and ends the thread."""
    self._queue.put(None)
    self._thread.join()

  def _work(self) -> None:
    while True:
      try:
        item = self._queue.get(timeout=IDLE_SECONDS)
      except queue.Empty:
        item = (self._idle, (), False, Future())
      group: list[_Item] = []
      while item is not None:
        group.append(item)
        if len(group) == GROUP or self._queue.empty():
          break
        item = self._queue.get()
      if group:
        self._commit(group)
      if item is None:
        return

  def _commit(self, group: list[_Item]) -> None:
    """One transaction; what goes wrong with it goes wrong for each operation of the group."""
    level = "FULL" if any(durable for _, _, durable, _ in group) else "NORMAL"
    results: list[Any] = []
    try:
      with self._explained():
        self._connection.execute(f"PRAGMA synchronous={level}")
        with transaction(self._connection):
          for operation, arguments, _, _ in group:
            results.append(operation(*arguments))
    except BaseException as error:
      for *_, future in group:
        future.set_exception(error)
      return
    for (*_, future), result in zip(group, results, strict=True):
      future.set_result(result)
