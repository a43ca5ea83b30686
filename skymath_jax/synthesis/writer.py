"""Group commit: one thread writes, and all that waits while the disk is busy shares the next transaction.

An idle store commits a response at once; a busy one commits up to MAX_GROUP of them together, so that waiting for the
disk (about 0.3 ms to 10 ms a commit) bounds the latency and not the rate.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

MAX_GROUP = 64  # operations in one transaction
IDLE_SECONDS = 15.0  # how often `idle` runs where nothing else is to do

T = TypeVar("T")


class _Operation(NamedTuple):
  """What waits for the disk; `durable` says whether its result must survive a power failure."""

  run: Callable[..., Any]
  arguments: tuple[Any, ...]
  durable: bool
  future: Future[Any]


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
    translated: a context that turns database errors into what the waiting callers get.
    idle: called in a transaction now and then.
  """

  def __init__(
    self,
    connection: sqlite3.Connection,
    translated: Callable[[], AbstractContextManager[None]],
    idle: Callable[[], None],
  ):
    self._connection = connection
    self._translated = translated
    self._idle = idle
    self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, name="response-store", daemon=True)
    self._thread.start()

  def submit(self, operation: Callable[..., T], *arguments: Any, durable: bool = True) -> Future[T]:
    """Runs `operation(*arguments)` in the next transaction; the future is done once that is committed.

    Args:
      durable: whether the result must survive a power failure; a transaction without such does not wait for the disk.
    """
    future: Future[T] = Future()
    self._queue.put(_Operation(operation, arguments, durable, future))
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
        item = _Operation(self._idle, (), False, Future())
      group: list[_Operation] = []
      while item is not None:
        group.append(item)
        if len(group) == MAX_GROUP or self._queue.empty():
          break
        item = self._queue.get()
      if group:
        self._commit(group)
      if item is None:
        return

  def _commit(self, group: list[_Operation]) -> None:
    """One transaction; when something goes wrong with it, each operation has one of its own: no answer is lost."""
    level = "FULL" if any(operation.durable for operation in group) else "NORMAL"
    try:
      with self._translated():
        self._connection.execute(f"PRAGMA synchronous={level}")
        with transaction(self._connection):
          results = [operation.run(*operation.arguments) for operation in group]
    except BaseException as error:
      if len(group) == 1:
        group[0].future.set_exception(error)
      else:
        for operation in group:
          self._commit([operation])
      return
    for operation, result in zip(group, results, strict=True):
      operation.future.set_result(result)
