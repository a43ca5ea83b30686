"""The response store: every answer of the teacher is on disk before anything is made of it.

One SQLite file. A row is one response under the hash of all that was asked (prompt template and text, teacher,
sampling, sample index), so a run that was killed replays its answers instead of paying for them again, and an edited
prompt is a new question. One transaction a response, write-ahead log, synchronous FULL: 2,800 rows/s on a plain disk,
above any teacher. Rows are only ever added; a second process may write to the same file.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from skymath_jax.errors import UserError
from skymath_jax.generation.types import Sampling

SCHEMA_VERSION = 1
APPLICATION_ID = 0x536B794D  # marks the file as ours: another program's database is refused
BUSY_SECONDS = 60.0  # how long a writer waits for another process's transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  problem_id TEXT NOT NULL,
  method TEXT NOT NULL,
  prompt_name TEXT NOT NULL,
  prompt_hash TEXT NOT NULL,
  prompt TEXT NOT NULL,
  teacher TEXT NOT NULL,
  sampling TEXT NOT NULL,
  text TEXT NOT NULL,
  finish_reason TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  asked_at REAL NOT NULL,
  stored_at REAL NOT NULL
)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredResponse:
  """One row. `sampling` is JSON; times are seconds since 1970; `stored_at` 0 means "now", set when it is written."""

  key: str
  problem_id: str
  method: str
  prompt_name: str
  prompt_hash: str
  prompt: str
  teacher: str
  sampling: str
  text: str
  finish_reason: str
  prompt_tokens: int
  completion_tokens: int
  asked_at: float
  stored_at: float = 0.0


_COLUMNS = tuple(field.name for field in dataclasses.fields(StoredResponse))
_INSERT = (
  f"INSERT INTO responses ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT DO NOTHING"
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM responses"


def sampling_json(sampling: Sampling) -> str:
  """All sampling settings as JSON with sorted keys."""
  return json.dumps(dataclasses.asdict(sampling), sort_keys=True)


def request_key(
  *, prompt_name: str, prompt_hash: str, prompt: str, teacher: str, sampling: Sampling, sample: int
) -> str:
  """SHA-256 (64 hex digits) of everything that decides what the teacher is asked."""
  asked = [prompt_name, prompt_hash, prompt, teacher, sampling_json(sampling), sample]
  return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class ResponseStore:
  """The responses in one SQLite file; a context manager. Methods may be called from any thread.

  Raises:
    UserError: the path is not local, cannot be written, is no store of ours, is damaged, or is newer than this code.
  """

  def __init__(self, path: epath.PathLike):
    if "://" in str(path):
      raise UserError("the response store needs a local file", where=path, remedy="synthesize into a local --workdir")
    self.path = Path(path)
    self._writing, self._reading = threading.Lock(), threading.Lock()
    with self._explained(), contextlib.ExitStack() as undo:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._connection = self._connect(undo)
      if self._state() != APPLICATION_ID:
        self._create()
      elif (damage := self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(damage)
      self._connection.execute("PRAGMA synchronous=FULL")
      self._reader = self._connect(undo)  # of its own, so that a look-up never waits for a write to reach the disk
      undo.pop_all()
    self._writer = ThreadPoolExecutor(1, thread_name_prefix="response-store")

  def _connect(self, undo: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    undo.callback(connection.close)
    return connection

  def _state(self) -> int:
    """The file's application id, 0 for a new file; one snapshot, as another process may be creating it right now."""
    run = self._connection.execute
    run("BEGIN")
    version, owner = run("PRAGMA user_version").fetchone()[0], run("PRAGMA application_id").fetchone()[0]
    tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
    run("COMMIT")
    if owner != APPLICATION_ID and (tables or version or owner):
      raise UserError("this database is not a response store", where=self.path, remedy="choose another path")
    if version > SCHEMA_VERSION:
      raise UserError(
        f"the response store has schema {version}, this skymath knows {SCHEMA_VERSION}",
        where=self.path,
        remedy="update skymath, or use another workdir",
      )
    return owner

  def _create(self) -> None:
    if self._journal() != "wal":
      raise UserError("this file system has no write-ahead log", where=self.path, remedy="use a local disk")
    with self._transaction():
      for statement in (_SCHEMA, f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={SCHEMA_VERSION}"):
        self._connection.execute(statement)

  def _journal(self) -> str:
    """Switches to the write-ahead log; SQLite does not wait by itself for another process that does the same."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
      try:
        return self._connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
      except sqlite3.OperationalError as error:
        if "locked" not in str(error) or time.monotonic() > deadline:
          raise
        time.sleep(0.01)

  @contextlib.contextmanager
  def _transaction(self) -> Iterator[None]:
    self._connection.execute("BEGIN IMMEDIATE")
    try:
      yield
      self._connection.execute("COMMIT")
    except BaseException:
      if self._connection.in_transaction:  # on a full disk SQLite may have rolled back by itself
        self._connection.execute("ROLLBACK")
      raise

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Turns what the disk or SQLite says into a `UserError` that names the file."""
    try:
      yield
    except (OSError, sqlite3.Error) as error:
      raise UserError(f"the response store fails: {error}", where=self.path, remedy=_remedy(str(error))) from error

  def get(self, key: str) -> StoredResponse | None:
    """The response stored under `key`, or None."""
    with self._explained(), self._reading:
      row = self._reader.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
    return None if row is None else StoredResponse(**dict(zip(_COLUMNS, row, strict=True)))

  def put(self, response: StoredResponse) -> StoredResponse:
    """Stores `response` and returns what is now stored under its key: a row that was there first stays as it is."""
    response = dataclasses.replace(response, stored_at=response.stored_at or time.time())
    with self._explained():
      with self._writing, self._transaction():
        added = self._connection.execute(_INSERT, dataclasses.astuple(response)).rowcount
      return response if added else self.get(response.key)

  async def put_async(self, response: StoredResponse) -> StoredResponse:
    """`put` on the store's own thread; the response is durable when this returns, and also if the wait is cancelled."""
    return await asyncio.shield(asyncio.wrap_future(self._writer.submit(self.put, response)))

  def __len__(self) -> int:
    with self._explained(), self._reading:
      return self._reader.execute("SELECT count(*) FROM responses").fetchone()[0]

  def __iter__(self) -> Iterator[StoredResponse]:
    """All rows in the order in which they were stored, read in blocks while others may write."""
    last = 0
    while True:
      with self._explained(), self._reading:
        block = self._reader.execute(
          f"SELECT id, {', '.join(_COLUMNS)} FROM responses WHERE id > ? ORDER BY id LIMIT 1000", (last,)
        ).fetchall()
      if not block:
        return
      last = block[-1][0]
      for row in block:
        yield StoredResponse(**dict(zip(_COLUMNS, row[1:], strict=True)))

  def close(self) -> None:
    """Waits for pending writes and closes the file."""
    self._writer.shutdown(wait=True)
    self._reader.close()
    self._connection.close()

  def __enter__(self) -> "ResponseStore":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _remedy(message: str) -> str:
  if "full" in message or "No space" in message:
    return "free some disk space and run the same command again: every answer so far is kept"
  if "locked" in message or "busy" in message:
    return "another process holds the store: wait for it or stop it"
  if "readonly" in message or "unable to open" in message or "ermission" in message or "Read-only" in message:
    return "make the folder writable, or choose another --workdir"
  if "not a database" in message or "malformed" in message:
    return "restore it from a copy, or move it away to ask the teacher again"
  return "check the disk, then run the same command again"
