"""Who works in a folder of a bucket: one owner, named in an object that is renewed as long as the owner lives.

The object is made only where there is none, which buckets do at one blow. Another machine may take over when the owner
has said nothing for LEASE_SECONDS, or where SKYMATH_TAKE_OVER=1 says that it is known to be gone. Clocks differ, so an
owner that seems to be gone is watched first: one that lives renews. Who works on the same local copy may take over at
once, since the lock of that copy tells that the earlier process has ended; a host of the same name need not be the same
machine. An owner who finds another name in the object stops.
"""

import _thread
import contextlib
import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath
from fsspec import AbstractFileSystem

from skymath_jax import files
from skymath_jax.console import log
from skymath_jax.errors import UserError

OWNER = ".owner.json"
LEASE_SECONDS = 180.0
RENEW_SECONDS = 30.0
SETTLE_SECONDS = 2.0  # after taking over, until the last of those who do so has written its name
TAKE_OVER = "SKYMATH_TAKE_OVER"


class Lease:
  """One process's claim to a folder of a bucket.

  Args:
    system: reads and writes the bucket.
    root: the folder there.
    where: the same, as the user wrote it.
    before: file that holds the token of who was here last under the lock of the local copy, which is held by now.
  """

  def __init__(self, system: AbstractFileSystem, root: str, where: object, before: epath.Path | None = None):
    self._system, self._path, self._where, self._before = system, f"{root}/{OWNER}", where, before
    self._token = secrets.token_hex(8)
    self._me = {"host": socket.gethostname(), "process": os.getpid(), "token": self._token}
    self._since = time.time()
    self.lost = False

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Owns the folder while the block runs.

    Raises:
      UserError: somebody else does; host, process and age are named.
    """
    self.acquire()
    if self._before is not None:
      files.write_text(self._before, self._token)
    done = threading.Event()
    thread = threading.Thread(target=self._keep, args=(done,), name="lease", daemon=True)
    thread.start()
    try:
      yield
    finally:
      done.set()
      thread.join()
      with contextlib.suppress(Exception):  # it expires by itself
        if not self.lost and self._is_mine(self._read()):  # since the last renewal it may have become another's
          self._system.rm_file(self._path)

  def require(self) -> None:
    """Raises a `UserError` where there is another owner; looks, for the last renewal may be long ago."""
    found = self._read()
    if self.lost or not self._is_mine(found):
      raise self._refused(found or {}, "has taken this workdir over")

  def _is_mine(self, found: dict[str, Any] | None) -> bool:
    """Whether nobody else's name is in the object."""
    return found is None or found.get("token") == self._token

  def acquire(self) -> None:
    """Takes the folder; `held` also keeps it.

    Raises:
      UserError: somebody else has it.
    """
    if self._create():
      return
    found = self._read()
    if found is not None:
      self._require_gone(found)
      log(f"{self._where}: taken over from {_named(found)}")
      self._write()
      time.sleep(SETTLE_SECONDS)
    elif self._create():  # it was given back a moment ago
      return
    now = self._read() or {}
    if now.get("token") != self._token:
      raise self._refused(now, "works here")

  def _require_gone(self, found: dict[str, Any]) -> None:
    if os.environ.get(TAKE_OVER) == "1" or self._was_here(found):
      return
    if abs(time.time() - _time(found, "renewed")) <= LEASE_SECONDS or not self._is_silent(found):
      raise self._refused(found, "works here")

  def _was_here(self, found: dict[str, Any]) -> bool:
    return self._before is not None and self._before.exists() and self._before.read_text() == found.get("token")

  def _is_silent(self, found: dict[str, Any]) -> bool:
    """Whether an owner who lives would have renewed by now, whatever the clocks say, and none has."""
    seconds = 3 * RENEW_SECONDS  # one may fail
    log(f"{self._where}: {_named(found)} seems to be gone; looking on for {seconds:.0f} s")
    time.sleep(seconds)
    return self._read() == found

  def _refused(self, found: dict[str, Any], what: str) -> UserError:
    since, renewed = (max(0.0, time.time() - _time(found, key)) for key in ("since", "renewed"))
    ages = f"since {since:,.0f} s, last seen {renewed:,.0f} s ago"
    remedy = f"wait for it or stop it; if it is gone for good, {TAKE_OVER}=1, or wait {LEASE_SECONDS:.0f} s"
    return UserError(f"{_named(found)} {what} ({ages})", where=self._where, remedy=remedy)

  def _content(self) -> bytes:
    return json.dumps({**self._me, "since": self._since, "renewed": time.time()}).encode()

  def _create(self) -> bool:
    try:
      self._system.pipe_file(self._path, self._content(), mode="create")
    except FileExistsError:
      return False
    return True

  def _write(self) -> None:
    self._system.pipe_file(self._path, self._content())

  def _read(self) -> dict[str, Any] | None:
    """What the object says; None without one."""
    self._system.invalidate_cache()
    try:
      found = json.loads(self._system.cat_file(self._path), parse_constant=str)  # NaN is not even equal to itself
    except FileNotFoundError:
      return None
    except (ValueError, RecursionError):
      found = {}
    return found if isinstance(found, dict) else {}

  def _keep(self, done: threading.Event) -> None:
    """Renews the lease until told to end; a bucket that cannot be reached is tried again."""
    while not done.wait(RENEW_SECONDS):
      try:
        found = self._read()
        if found is not None and not self._is_mine(found):
          self._lose(found)
          return
        self._write()
      except Exception as error:
        log(f"warning: the ownership of {self._where} could not be renewed ({type(error).__name__}: {error})")

  def _lose(self, found: dict[str, Any]) -> None:
    self.lost = True
    log(f"{self._where}: {_named(found)} has taken this workdir over; this process stops")
    _stop_main()


_stop_main: Callable[[], None] = _thread.interrupt_main


def _named(found: dict[str, Any]) -> str:
  host, process = (_plain(found.get(key, other)) for key, other in (("host", "an unknown machine"), ("process", "?")))
  return f"process {process} on {host}"


def _plain(value: object) -> str:
  return "".join(c for c in str(value)[:100] if c.isprintable())


def _time(found: dict[str, Any], key: str) -> float:
  value = found.get(key)
  with contextlib.suppress(OverflowError):
    if isinstance(value, int | float) and math.isfinite(value):
      return float(value)
  return 0.0
