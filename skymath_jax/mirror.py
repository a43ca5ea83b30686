"""A workdir in a bucket, worked on from a local copy: databases, appended logs and data sets need real files.

    mirror = Mirror("gs://bucket/runs/a", process=0)
    mirror.local          ~/.cache/skymath/workdirs/process0/gs/bucket/runs/a: what the stages read and write
    mirror.pull("seeds")  bucket → local, what is missing or different
    mirror.push("seeds")  local → bucket, what has changed since; COMPLETE.json last: "complete" means "all there"

Checkpoints' arrays (`checkpoints/STAGE/steps`) are not copied: all processes write them straight into the bucket. A
workdir on a file system is its own local copy, and nothing is copied. SKYMATH_SCRATCH moves the local copies.
"""

import contextlib
import errno
import functools
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from skymath_jax import files
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.lease import OWNER, Lease

SCRATCH_VARIABLE, SCRATCH = "SKYMATH_SCRATCH", "~/.cache/skymath/workdirs"
NEVER_COPIED = {"steps", "profile"}  # folders
TOKEN = ".mirror.json"  # names the local copy that wrote to the bucket last
NO_FILE = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
PUSH_SECONDS = 300.0  # between two copies of the stage at work; paid answers do not wait for it (`synthesis.ahead`)
PATIENCE_SECONDS = 300.0  # how long a bucket may refuse what must be there before the work goes on
AGAIN_SECONDS = 5.0


def scratch(url: epath.PathLike, process: int = 0) -> epath.Path:
  """Where the local copy of a URL is kept; a path on a file system is returned as it is."""
  if "://" not in os.fspath(url):
    return epath.Path(url)
  root = os.path.expanduser(os.environ.get(SCRATCH_VARIABLE, SCRATCH))
  scheme, _, rest = os.fspath(url).partition("://")
  return epath.Path(root) / f"process{process}" / scheme / rest.strip("/")


def not_installed(error: ImportError, where: epath.PathLike | None = None) -> UserError:
  """What to tell where a bucket's library is missing: gs:// needs gcsfs, others have libraries of their own."""
  what = f"what reads this kind of bucket is not installed ({str(error)[:100]})"
  return UserError(what, where=where, remedy='for gs://: pip install "skymath-jax[gcs]"')


@contextlib.contextmanager
def reachable(url: epath.PathLike) -> Iterator[None]:
  """Tells of a bucket that cannot be read.

  Raises:
    UserError: what reads buckets is not installed, or the bucket cannot be reached.
  """
  try:
    yield
  except ImportError as error:
    raise not_installed(error, url) from None
  except FileNotFoundError:
    raise UserError("no such folder in the bucket", where=url, remedy="check the path") from None
  except UserError:
    raise
  except Exception as error:  # no credentials, no network, no such bucket, no permission: gcsfs has many names for it
    what = f"the bucket cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
    remedy = "check its name and, with gcloud auth application-default login, your permission"
    raise UserError(what, where=url, remedy=remedy) from error


def fetch(source: epath.Path, target: epath.Path) -> None:
  """Copies a file of a bucket, unless one of the same size and at least as new lies there already.

  Raises:
    UserError: the bucket cannot be read.
  """
  with reachable(source):
    there = source.stat()
    if target.exists() and target.stat().length == there.length and target.stat().mtime >= there.mtime:
      return
    with files.replacing(target) as file, source.open("rb") as remote:
      shutil.copyfileobj(remote, file, 1 << 24)


class Mirror:
  """The two sides of one workdir. Only one process of a job pushes a folder; each has a local copy of its own."""

  def __init__(self, workdir: epath.PathLike, *, process: int = 0):
    self.durable = epath.Path(workdir)
    self.local = scratch(workdir, process)
    self.remote = "://" in os.fspath(workdir)
    self._pushed: dict[str, tuple[int, int]] = {}  # file → (size, mtime in ns) as it lies in the bucket
    self._pushing = threading.Lock()
    self._lease: Lease | None = None

  @functools.cached_property
  def _bucket(self) -> tuple[AbstractFileSystem, str]:
    """What reads and writes the bucket, and the name of the workdir there."""
    return url_to_fs(os.fspath(self.durable))

  def open(self, *, writer: bool) -> None:
    """Brings the local copy up to date. One that another machine has overtaken in the bucket is thrown away.

    Raises:
      UserError: what reads buckets is not installed, or the bucket cannot be reached.
    """
    if not self.remote:
      return
    self.require_reachable()
    self._require_apart()
    mine, theirs = self.local / TOKEN, self.durable / TOKEN
    ours = mine.exists() and theirs.exists() and mine.read_text() == theirs.read_text()
    if not ours:
      self._clear_local()
    self.pull("", ours=ours)
    if writer and ours:  # who was killed here may have had more than has been copied
      self.push("")
    elif writer:
      files.write_json(mine, secrets.token_hex(8))
      self._upload(TOKEN)

  def _clear_local(self) -> None:
    """Removes a half-made local copy; puts one aside that was worked on: it may hold answers that were paid."""
    if (self.local / TOKEN).exists():
      aside = self.local.parent / f".{self.local.name}.overtaken"
      shutil.rmtree(aside, ignore_errors=True)
      self.local.rename(aside)
      log(f"{self.durable}: another machine has gone on here; what this one had and did not copy lies in {aside}")
    shutil.rmtree(self.local, ignore_errors=True)

  def _require_apart(self) -> None:
    """Raises a `UserError` where this workdir lies in another one, whose local copy would hold this one's."""
    system, root = self._bucket
    above = root.rpartition("/")[0]
    while above.strip("/"):
      with contextlib.suppress(OSError):  # who may not look there has no workdir there
        if system.exists(f"{above}/{TOKEN}"):
          raise self._nested(above)
      above = above.rpartition("/")[0]

  def _nested(self, other: str) -> UserError:
    return UserError(f"a workdir in another one ({other})", where=self.durable, remedy="choose a folder beside it")

  def require_reachable(self) -> None:
    """Raises a `UserError` where the bucket cannot be read."""
    with reachable(self.durable):
      system, root = self._bucket
      system.exists(root)

  @contextlib.contextmanager
  def owned(self) -> Iterator[None]:
    """Keeps other machines out of the bucket's folder while the block runs.

    Raises:
      UserError: another one works there.
    """
    if not self.remote:
      yield
      return
    self.require_reachable()
    self._lease = Lease(*self._bucket, self.durable, self.local.parent / f".{self.local.name}.owner")
    with self._lease.held():
      yield

  def pull(self, folder: str, *, ours: bool = False) -> None:
    """Copies what the bucket has and the local copy has not, or has in another size; COMPLETE.json always.

    Args:
      folder: in the workdir.
      ours: of folders that are not complete, what the local copy has is at least as new as what the bucket has.

    Raises:
      UserError: an object's name leads out of the workdir, or another workdir lies in it.
    """
    if not self.remote:
      return
    # another mark, another making of the folder, whatever the sizes are
    anew = bool(folder) and files.completion(self.durable / folder) != files.completion(self.local / folder)
    system, root = self._bucket
    system.invalidate_cache()  # of what others have changed meanwhile
    found = _sizes(system, root, folder)
    # The mark goes before a folder is worked on again, and comes last: what lies beside one is whole
    whole = tuple(name.removesuffix(files.COMPLETE) for name in found if os.path.basename(name) == files.COMPLETE)
    for name, size in found.items():
      target = self._target(name)
      if target.name in (TOKEN, OWNER):
        if "/" in name:
          raise self._nested(f"{root}/{name}".rpartition("/")[0])
        continue
      there = target.exists()
      kept = ours and there and not name.startswith(whole)
      same = there and not anew and target.name != files.COMPLETE and target.stat().length == size
      if not (same or kept):
        with self._named(name), files.replacing(target) as file:
          system.get_file(f"{root}/{name}", file.name)
      self._pushed[name] = (0, 0) if kept else _state(target)

  def _target(self, name: str) -> epath.Path:
    """Where an object lies in the local copy; a link in that copy leads nowhere else."""
    target = self.local / name
    with self._named(name):
      folder, here = (Path(os.fspath(path)).resolve() for path in (target.parent, self.local))
      if ".." in name.split("/") or not folder.is_relative_to(here):
        remedy = "look at who writes into this bucket, and remove the object"
        raise UserError(f"the object {name} would lie outside of the local copy", where=self.durable, remedy=remedy)
    return target

  @contextlib.contextmanager
  def _named(self, name: str) -> Iterator[None]:
    """Names the object that cannot be a file here: too long, with a NUL, a folder for another object."""
    try:
      yield
    except (ValueError, OSError) as error:
      if isinstance(error, OSError) and error.errno not in NO_FILE:
        raise
      remedy = "look at who writes into this bucket, and remove the object"
      why = error.strerror if isinstance(error, OSError) else error
      raise UserError(
        f"the object {name[:100]!r} cannot be a file here ({why})", where=self.durable, remedy=remedy
      ) from None

  def push(self, folder: str) -> None:
    """Copies what has changed since it was last copied; then what is gone locally goes in the bucket, too."""
    if not self.remote:
      return
    with self._pushing:
      known = list(self._pushed)  # before the listing and the copies: what is `put` meanwhile is not gone
      here, _ = url_to_fs(os.fspath(self.local))
      names = [
        n
        for n in _sizes(here, os.fspath(self.local), folder)
        if not n.endswith((TOKEN, OWNER, ".lock", "-wal", "-shm"))
      ]
      below = f"{folder}/" if folder else ""
      for name in sorted(names, key=lambda n: (n.endswith(files.COMPLETE), n)):
        if _has_log(self.local / name) or self._pushed.get(name) != _state(self.local / name):
          self._upload(name)
      for name in [n for n in known if n.startswith(below) and n not in names and below]:
        if not any(part in NEVER_COPIED for part in name.split("/")) and not name.startswith("checkpoints/"):
          (self.durable / name).unlink(missing_ok=True)
        del self._pushed[name]

  def push_files(self, *names: str) -> None:
    """Copies these files, whether they have changed or not; a bucket that refuses is asked again for a while.

    Raises:
      UserError: it goes on refusing, or another machine has taken the workdir over.
    """
    for name in names if self.remote else ():
      self._patiently(name, functools.partial(self._upload, name))

  def put(self, name: str, data: bytes) -> None:
    """Makes an object that has no file here, as `push_files` would; it goes with the next `push` of its folder.

    Raises:
      UserError: as `push_files`.
    """

    def make() -> None:
      if self._lease is not None:
        self._lease.require()
      system, root = self._bucket
      system.pipe_file(f"{root}/{name}", data)

    self._patiently(name, make)
    self._pushed[name] = (0, 0)

  def _patiently(self, name: str, copy: Callable[[], None]) -> None:
    end, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
      try:
        copy()
        return
      except UserError:  # another machine has taken the workdir over
        raise
      except Exception as error:  # the network, the bucket's permissions: gcsfs has many names for it
        what = f"{name} could not be copied there ({type(error).__name__}: {str(error)[:200]})"
        if time.monotonic() > end:
          remedy = "look at the network and the bucket's permissions, then run the same command again on this machine"
          raise UserError(what, where=self.durable, remedy=remedy) from error
        if not told:
          log(f"warning: {self.durable}: {what}; tried again for {PATIENCE_SECONDS:.0f} s")
        told = True
        time.sleep(AGAIN_SECONDS)

  def _upload(self, name: str) -> None:
    if self._lease is not None:
      self._lease.require()
    state = _state(self.local / name)
    system, root = self._bucket
    with _snapshot(self.local / name) as whole:
      system.put_file(os.fspath(whole), f"{root}/{name}")
    self._pushed[name] = state

  @contextlib.contextmanager
  def kept_up(self, folder: str) -> Iterator[None]:
    """Pushes `folder` every PUSH_SECONDS while the block runs; a push that fails is told and tried again."""
    if not self.remote:
      yield
      return
    done = threading.Event()

    def repeat() -> None:
      while not done.wait(PUSH_SECONDS):
        try:
          self.push(folder)
        except Exception as error:  # the network, the bucket's permissions: the block's own work goes on
          log(f"warning: {folder} could not be copied to {self.durable} ({type(error).__name__}: {error})")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
      yield
    finally:
      done.set()
      thread.join()


def _sizes(system: AbstractFileSystem, root: str, folder: str) -> dict[str, int]:
  """Path below `root` → bytes, of the files in `folder`; temporary ones and folders that are never copied left out.

  Unlike `find` and `walk` of fsspec it enters no folder in vain, and fails where a listing does.
  """
  found: dict[str, int] = {}
  waiting = [f"{root}/{folder}".rstrip("/")]
  while waiting:
    here = waiting.pop()
    try:
      entries = system.ls(here, detail=True)
    except FileNotFoundError:
      continue
    for entry in entries:
      path = entry["name"].rstrip("/")
      last = path.rpartition("/")[2]
      if entry["type"] == "directory":
        waiting += [path] if path != here and last not in NEVER_COPIED else []
      elif not last.endswith(".tmp"):
        found[path.removeprefix(root).lstrip("/")] = entry["size"]
  return found


def _state(path: epath.Path) -> tuple[int, int]:
  found = Path(os.fspath(path)).stat()
  return found.st_size, found.st_mtime_ns


def _has_log(path: epath.Path) -> bool:
  """Whether this is a database, and rows of it lie in its write-ahead log, as they do while it is open."""
  return path.name.endswith(".sqlite") and path.with_name(f"{path.name}-wal").exists()


@contextlib.contextmanager
def _snapshot(path: epath.Path) -> Iterator[epath.Path]:
  """The file itself, or of a database that is open a consistent copy, write-ahead log included.

  Such a copy has the same rows, not the same bytes. Closed, a database has no log and is copied as any file: its bytes
  are what the record of a complete folder holds.
  """
  if not _has_log(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as temporary:
    copy = epath.Path(temporary) / path.name
    copy_database(path, copy)
    yield copy


def copy_database(source: epath.PathLike, target: epath.PathLike) -> None:
  """The rows of a local SQLite file, open or not, into a new one: what lies in its write-ahead log is among them."""
  with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
    old.backup(new)
