"""The response store: every answer of the teacher is on disk before anything is made of it.

One SQLite file. A row is one response under the hash of all that was asked (prompt template and text, teacher,
sampling, sample index), so a run that was killed replays its answers instead of paying for them again, and an edited
prompt is a new question. Write-ahead log, synchronous FULL; what waits while the disk writes shares the next commit.
Rows are only ever added.

Several processes may work on one file: who asks first writes a claim (`claims.py`), the others wait for the answer.
The file of a workdir in a bucket is a local copy; there answers are sent ahead of it (`ahead.py`).
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from etils import epath

from skymath_jax.errors import UserError
from skymath_jax.generation.types import Sampling
from skymath_jax.synthesis import ahead, claims
from skymath_jax.synthesis.writer import GroupWriter, transaction

SCHEMA_VERSION = 3
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
MIGRATIONS = {  # schema version → what leads to the next; 0 is an empty file
  0: (_SCHEMA,),
  1: claims.SCHEMA,
  2: ("ALTER TABLE responses ADD COLUMN thought TEXT NOT NULL DEFAULT ''",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredResponse:
  """One row: what was asked, and what is visible of the answer.

  `sampling` is JSON; times are seconds since 1970; `stored_at` 0 means "now", set when it is written; `thought` is what
  a reasoning model thought before.
  """

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
  thought: str = ""


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

  Args:
    path: of the file, which is made where there is none. Answers that were sent ahead and lie beside it are taken in.
    send: makes a file beside it, of a name and content, in the bucket that the folder is a copy of; None for no bucket.

  Attributes:
    connection: the writer's connection to SQLite, for looking into the file; only the store's own thread writes.

  Raises:
    UserError: the path is not local, cannot be written, is no store of ours, is damaged, or is newer than this code.
  """

  def __init__(self, path: epath.PathLike, send: Callable[[str, bytes], None] | None = None):
    if "://" in str(path):
      raise UserError("the response store needs a local file", where=path, remedy="synthesize into a local --workdir")
    self.path = Path(path)
    self._reading = threading.Lock()
    with self._translated(), contextlib.ExitStack() as undo:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self.connection = self._connect(undo)
      version = self._version()
      if version and (damage := self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(damage)
      if version < SCHEMA_VERSION:
        self._migrate()
      self._reader = self._connect(undo)  # of its own, so that a look-up never waits for a write to reach the disk
      undo.pop_all()
    self._claims = claims.Claims(self.path, self.connection)
    self._writer = GroupWriter(self.connection, self._translated, self._claims.renew)
    ahead.recover(self.path.parent, lambda row: self._writer.submit(self._insert, self._response(row)).result())
    self._ahead = ahead.Ahead(send) if send else None

  def _connect(self, undo: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    undo.callback(connection.close)
    return connection

  def _version(self) -> int:
    """The file's schema, 0 for a new file; one snapshot, as another process may be creating it right now."""
    run = self.connection.execute
    run("BEGIN")
    version, owner, tables = (
      int(run(query).fetchone()[0])
      for query in ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
    )
    run("COMMIT")
    if owner != APPLICATION_ID and (tables or version or owner):
      raise UserError("this database is not a response store", where=self.path, remedy="choose another path")
    if version > SCHEMA_VERSION:
      raise UserError(
        f"the response store has schema {version}, this skymath knows {SCHEMA_VERSION}",
        where=self.path,
        remedy="update skymath, or use another workdir",
      )
    return version

  def _migrate(self) -> None:
    """Brings the file to the present schema in one transaction: a kill leaves the old one whole."""
    if self._journal() != "wal":
      raise UserError("this file system has no write-ahead log", where=self.path, remedy="use a local disk")
    run = self.connection.execute
    with transaction(self.connection):
      version = run("PRAGMA user_version").fetchone()[0]  # another process may have been quicker
      for step in range(version, SCHEMA_VERSION):
        for statement in MIGRATIONS[step]:
          run(statement)
      run(f"PRAGMA application_id={APPLICATION_ID}")
      run(f"PRAGMA user_version={SCHEMA_VERSION}")

  def _journal(self) -> str:
    """Switches to the write-ahead log; SQLite does not wait by itself for another process that does the same."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
      try:
        return str(self.connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
      except sqlite3.OperationalError as error:
        if "locked" not in str(error) or time.monotonic() > deadline:
          raise
        time.sleep(0.01)

  @contextlib.contextmanager
  def _translated(self) -> Iterator[None]:
    """Turns what the disk or SQLite says into a `UserError` that names the file."""
    try:
      yield
    except (OSError, sqlite3.Error) as error:
      raise UserError(f"the response store fails: {error}", where=self.path, remedy=_remedy(str(error))) from error

  def get(self, key: str) -> StoredResponse | None:
    """The response stored under `key`, or None.

    Raises:
      UserError: the disk or SQLite fails; so do all methods below.
    """
    with self._translated(), self._reading:
      return _find(self._reader, key)

  def put(self, response: StoredResponse) -> StoredResponse:
    """Stores `response` and returns what is now stored under its key: a row that was there first stays as it is."""
    return self._put(response).result()

  async def put_async(self, response: StoredResponse) -> StoredResponse:
    """`put`, awaited; the response is durable when this returns, and also if the wait is cancelled."""
    return await asyncio.shield(asyncio.wrap_future(self._put(response)))

  def _response(self, row: dict[str, Any]) -> StoredResponse:
    """The row of a file that was sent ahead."""
    try:
      return StoredResponse(**row)
    except TypeError as error:
      what, remedy = f"a file that was sent ahead holds no answer ({error})", f"remove {ahead.PREFIX}* here"
      raise UserError(what, where=self.path.parent, remedy=remedy) from None

  def _put(self, response: StoredResponse) -> Future[StoredResponse]:
    """Done when the response is on disk and, of a folder in a bucket, there."""
    stored = self._writer.submit(self._insert, response)
    if (sender := self._ahead) is None:
      return stored
    done: Future[StoredResponse] = Future()

    def go_on(stored: Future[StoredResponse]) -> None:
      if error := stored.exception():
        done.set_exception(error)
      else:
        sender.add(stored.result(), done)

    stored.add_done_callback(go_on)
    return done

  def _insert(self, response: StoredResponse) -> StoredResponse:
    response = dataclasses.replace(response, stored_at=response.stored_at or time.time())
    added = self.connection.execute(_INSERT, dataclasses.astuple(response)).rowcount
    self._claims.release(response.key)
    return response if added else _find(self.connection, response.key) or response

  async def claim(self, key: str) -> StoredResponse | bool:
    """The response stored under `key`; else whether it is now this process that has to ask for it.

    False says that another process is at it: come back later. A claim dies with its process.
    """
    return await asyncio.shield(asyncio.wrap_future(self._writer.submit(self._claim, key, durable=False)))

  def _claim(self, key: str) -> StoredResponse | bool:
    return _find(self.connection, key) or self._claims.acquire(key)

  def release(self, key: str) -> None:
    """Gives a claim back: the request got no answer."""
    self._writer.submit(self._claims.release, key, durable=False)

  def shared(self) -> bool:
    """Whether another living process has claims in this store."""
    return self._writer.submit(self._claims.others_alive, durable=False).result()

  def __len__(self) -> int:
    with self._translated(), self._reading:
      return int(self._reader.execute("SELECT count(*) FROM responses").fetchone()[0])

  def tokens_of(self, teacher: str) -> tuple[int, int]:
    """Prompt and response tokens of all responses of this teacher.

    Raises:
      UserError: the file cannot be read.
    """
    sums = "SELECT total(prompt_tokens), total(completion_tokens) FROM responses WHERE teacher = ?"
    with self._translated(), self._reading:
      prompt, completion = self._reader.execute(sums, (teacher,)).fetchone()
    return int(prompt), int(completion)

  def __iter__(self) -> Iterator[StoredResponse]:
    """All rows in the order in which they were stored, read in blocks while others may write."""
    last = 0
    while True:
      with self._translated(), self._reading:
        block = self._reader.execute(
          f"SELECT id, {', '.join(_COLUMNS)} FROM responses WHERE id > ? ORDER BY id LIMIT 1000", (last,)
        ).fetchall()
      if not block:
        return
      last = block[-1][0]
      for row in block:
        yield StoredResponse(**dict(zip(_COLUMNS, row[1:], strict=True)))

  def close(self) -> None:
    """Waits for pending writes, gives all claims back and closes the file."""
    with contextlib.suppress(UserError):  # on a full disk the claims stay, but their owner is dead
      self._writer.submit(self._claims.release_all, durable=False).result()
    self._writer.close()
    if self._ahead is not None:
      self._ahead.close()
    self._claims.close()
    self._reader.close()
    self.connection.close()

  def __enter__(self) -> "ResponseStore":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _find(connection: sqlite3.Connection, key: str) -> StoredResponse | None:
  row = connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
  return None if row is None else StoredResponse(**dict(zip(_COLUMNS, row, strict=True)))


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
