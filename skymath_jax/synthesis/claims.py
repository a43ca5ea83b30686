"""Claims: which process is asking for which response, so that two on one store do not pay for the same answer.

A claim belongs to an owner, one opened store. An owner lives as long as it holds the lock on its file beside the store
(the kernel drops it with the process, also at a kill -9) and its lease runs (a process that hangs loses its claims
after LEASE_SECONDS, on the monotonic clock that all processes of a machine share: the other may be set). Claims of the
dead are void. Every method runs inside a transaction of the store's writer.
"""

import contextlib
import fcntl
import secrets
import sqlite3
import time
from pathlib import Path
from typing import IO

LEASE_SECONDS = 120.0  # renewed at every eighth of it, also while nothing else is written

SCHEMA = (
  "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID",
  "CREATE TABLE owners (owner TEXT PRIMARY KEY, seen REAL NOT NULL) WITHOUT ROWID",  # seen: monotonic
)


class Claims:
  """The claims of one opened store; an owner from its first claim on."""

  def __init__(self, path: Path, connection: sqlite3.Connection):
    self._path = path
    self._run = connection.execute
    self.owner = secrets.token_hex(8)
    self._lock: IO[str] | None = None
    self._renewed = -LEASE_SECONDS

  def acquire(self, key: str) -> bool:
    """Claims `key`; False where another living owner has."""
    self.renew(register=True)
    holder = self._run("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
    if holder is not None and holder[0] != self.owner and self._is_alive(holder[0]):
      return False
    self._run("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self.owner))
    return True

  def release(self, key: str) -> None:
    """Takes this owner's claim on `key` back, if there is one."""
    if self._lock is not None:
      self._run("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self.owner))

  def others_alive(self) -> bool:
    """Whether another owner lives."""
    return any(
      self._is_alive(owner) for (owner,) in self._run("SELECT owner FROM owners").fetchall() if owner != self.owner
    )

  def renew(self, *, register: bool = False) -> None:
    """Renews the lease when it is time to; `register` makes this an owner."""
    if self._lock is None and not register:
      return
    if self._lock is None:
      self._lock = self._file(self.owner).open("w")
      fcntl.flock(self._lock, fcntl.LOCK_EX)
    if time.monotonic() - self._renewed > LEASE_SECONDS / 8:
      self._renewed = time.monotonic()
      self._run("INSERT OR REPLACE INTO owners VALUES (?, ?)", (self.owner, self._renewed))

  def release_all(self) -> None:
    """Drops all claims of this owner."""
    if self._lock is not None:
      self._forget(self.owner)

  def close(self) -> None:
    """Lets the lock go; with it, whatever claims are left are void."""
    if self._lock is not None:
      self._file(self.owner).unlink(missing_ok=True)
      self._lock.close()
      self._lock = None

  def _file(self, owner: str) -> Path:
    return self._path.with_name(f"{self._path.name}-owner-{owner}")

  def _is_alive(self, owner: str) -> bool:
    seen = self._run("SELECT seen FROM owners WHERE owner = ?", (owner,)).fetchone()
    if seen is not None and time.monotonic() - seen[0] < LEASE_SECONDS and self._locked(owner):
      return True
    self._forget(owner)
    with contextlib.suppress(OSError):
      self._file(owner).unlink()
    return False

  def _locked(self, owner: str) -> bool:
    try:
      with self._file(owner).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except FileNotFoundError:
      return False
    return False

  def _forget(self, owner: str) -> None:
    self._run("DELETE FROM claims WHERE owner = ?", (owner,))
    self._run("DELETE FROM owners WHERE owner = ?", (owner,))
