"""Files that a kill cannot leave half written: atomic replace, new folders, checksums, completion marks, a lock.

Everything durable in a workdir goes through here, so that "present" always means "whole". Paths are `epath.Path`,
which also reads and writes `gs://`.
"""

import contextlib
import glob
import hashlib
import io
import json
import os
import secrets
import shutil
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import filelock
from etils import epath

from skymath_jax.errors import UserError

COMPLETE = "COMPLETE.json"
LFS_POINTER = b"version https://git-lfs"
LFS_FOUND = ("a Git LFS pointer, not the file itself", "run `git lfs pull` in the clone, or download the file")
MARK = ".skymath_jax"  # in the folders that `new_folder` has made
ABOUT_MARK = "skymath_jax made this folder and may replace it; without this file it will not.\n"


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[IO[bytes]]:
  """Yields a temporary sibling to write to, flushed to disk and renamed over `path` when the block ends well."""
  path = epath.Path(path)
  if "://" in str(path):  # in a bucket an object is there whole or not at all
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getvalue())
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
  try:
    with temporary.open("wb") as f:
      yield f
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise


def write_bytes(path: epath.PathLike, data: bytes) -> None:
  """Writes `data` to a temporary sibling, flushes it to disk and renames it over `path`."""
  with replacing(path) as f:
    f.write(data)


def write_text(path: epath.PathLike, text: str) -> None:
  """`write_bytes` in UTF-8."""
  write_bytes(path, text.encode())


def write_json(path: epath.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
  """Reads one JSON document; `UserError` names the file when it is missing or not JSON."""
  path = epath.Path(path)
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise UserError("no such file", where=path, remedy="check the path") from None
  except json.JSONDecodeError as error:
    raise UserError(f"not JSON ({error.msg})", where=f"{path}:{error.lineno}", remedy="repair or remove it") from None
  except (ValueError, RecursionError) as error:  # no UTF-8, nested without end
    raise UserError(f"not JSON ({str(error)[:100]})", where=path, remedy="repair or remove it") from None


def free_bytes(path: epath.PathLike) -> int | None:
  """Bytes free on the disk that `path` is, or will be, on; None for a bucket."""
  if "://" in os.fspath(path):
    return None
  place = Path(path).absolute()
  while not place.exists():
    place = place.parent
  return shutil.disk_usage(place).free


def refuse_lfs_pointer(beginning: bytes, where: epath.PathLike) -> None:
  """Raises a `UserError` where the first bytes of a file are those of the note that Git leaves in place of it."""
  if beginning.startswith(LFS_POINTER):
    what, remedy = LFS_FOUND
    raise UserError(what, where=where, remedy=remedy)


def is_lfs_pointer(path: epath.PathLike) -> bool:
  """Whether a file is the note that Git leaves in place of one that Git LFS would have fetched."""
  with epath.Path(path).open("rb") as f:
    return f.read(len(LFS_POINTER)) == LFS_POINTER


def sha256(path: epath.PathLike) -> str:
  """Hex digest of one file's bytes."""
  digest = hashlib.sha256()
  with epath.Path(path).open("rb") as f:
    while chunk := f.read(1 << 20):
      digest.update(chunk)
  return digest.hexdigest()


def fingerprint(folder: epath.PathLike) -> str:
  """Hash of the names and bytes of all files below `folder` (completion marks and hidden files left out)."""
  folder, digest = epath.Path(folder), hashlib.sha256()
  for path in files_below(folder):
    if path.name != COMPLETE and not path.name.startswith("."):
      digest.update(f"{path.relative_to(folder)}\0{sha256(path)}\n".encode())
  return digest.hexdigest()


def files_below(folder: epath.Path) -> list[epath.Path]:
  """All files of a folder and of those inside it, in order."""
  found = []
  for path in sorted(folder.iterdir()):
    found += files_below(path) if path.is_dir() else [path]
  return found


def matching(folder: epath.PathLike, pattern: str) -> list[epath.Path]:
  """What `folder.glob(pattern)` should give, in order: brackets in the folder's own name are no pattern."""
  return sorted(epath.Path(glob.escape(os.fspath(folder))).glob(pattern))


def require_plain_name(path: epath.PathLike) -> None:
  """Refuses a path that the library which keeps checkpoints would take for a pattern.

  Raises:
    UserError: it holds a bracket, star or question mark.
  """
  text = os.fspath(path) if "://" in os.fspath(path) else os.fspath(absolute(path))
  if odd := sorted(set(text) & set("*?[]")):
    what = f"checkpoints cannot be kept in a path with {' '.join(odd)}"
    raise UserError(what, where=path, remedy="name a folder without these characters")


def copy(source: epath.PathLike, target: epath.PathLike) -> None:
  """One file, between any two places; `target` is replaced."""
  source, target = epath.Path(source), epath.Path(target)
  target.parent.mkdir(parents=True, exist_ok=True)
  with source.open("rb") as f, target.open("wb") as g:
    shutil.copyfileobj(f, g, 1 << 20)


@contextlib.contextmanager
def new_folder(target: epath.PathLike, *, token: str | None = None) -> Iterator[epath.Path]:
  """Yields an empty sibling folder that replaces `target` when the block ends well; a killed block leaves no target.

  Only a folder that is empty or was made here is replaced. `token` makes the sibling's name the one that `temporary`
  tells other processes.

  Raises:
    UserError: `target` holds something else, or another process is making it.
  """
  target = absolute(target)
  require_replaceable(target)
  target.parent.mkdir(parents=True, exist_ok=True)
  with lock(target.parent / f".{target.name}.lock", f"the folder {target}", keep=False):
    for stale in matching(target.parent, f".{glob.escape(target.name)}.*.tmp"):
      stale.rmtree()
    new = temporary(target, token or secrets.token_hex(4))
    new.mkdir()
    try:
      yield new
      write_text(new / MARK, ABOUT_MARK)
      require_replaceable(target)  # much may have happened meanwhile
    except BaseException:
      shutil.rmtree(new, ignore_errors=True)
      raise
    if target.exists():
      target.rmtree()
    new.rename(target)


def temporary(target: epath.PathLike, token: str) -> epath.Path:
  """Where `new_folder` with this token builds `target`."""
  target = absolute(target)
  return target.parent / f".{target.name}.{token}.tmp"


def absolute(path: epath.PathLike) -> epath.Path:
  """The path without links, `..` and `~`; an address of a bucket as it is."""
  text = os.fspath(path)
  return epath.Path(
    text if "://" in text else Path(text).expanduser().resolve()
  )  # epath's own leaves links as they are


def located(path: epath.PathLike) -> epath.Path:
  """The path that somebody has named: `~` is the home folder, `file://` this machine, `gs://` a bucket.

  Raises:
    UserError: it is an address of another kind, as of the web.
  """
  text = os.fspath(path)
  if text.startswith("file://"):
    text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
  try:
    return epath.Path(text).expanduser()
  except KeyError:  # of the kinds of address that etils knows
    remedy = "download it and name the file; what lies on the hub is named ORG/NAME"
    raise UserError("an address of this kind is not read", where=text, remedy=remedy) from None


def require_replaceable(folder: epath.PathLike) -> None:
  """Raises a `UserError` where something lies that `new_folder` has not made, or that somebody works in."""
  folder = absolute(folder)
  try:
    held = list(folder.iterdir())
  except FileNotFoundError:
    held = []
  except NotADirectoryError:
    raise UserError("this is a file, or lies in one", where=folder, remedy="name a folder") from None
  if Path(os.fspath(folder)) in (here := Path.cwd(), *here.parents):
    raise UserError("this is the current folder or one above it", where=folder, remedy="name a new folder")
  if held and not (folder / MARK).exists():
    what = f"the folder holds what skymath_jax has not made ({held[0].name}, …)"
    raise UserError(what, where=folder, remedy="name a new folder, or an empty one")


def completion(folder: epath.PathLike) -> dict[str, Any] | None:
  """The facts of the completion mark (`integrity.complete`), or None where there is none.

  Raises:
    UserError: it is no JSON object.
  """
  path = epath.Path(folder) / COMPLETE
  facts = read_json(path) if path.exists() else None
  if facts is not None and not isinstance(facts, dict):
    raise UserError("no facts of a completed stage", where=path, remedy="remove it, then run the same command")
  return facts


@contextlib.contextmanager
def lock(path: epath.PathLike, what: str, *, keep: bool = True) -> Iterator[None]:
  """Holds an exclusive lock on a local file while the block runs.

  The lock dies with the process, so a `kill -9` leaves nothing to clean up.

  Args:
    path: the file; it holds the name of the process that has the lock, or had it last.
    what: is locked, for the message.
    keep: whether the file stays there afterwards.

  Raises:
    UserError: another process holds it; the message says which.
  """
  local = Path(os.fspath(path))
  local.parent.mkdir(parents=True, exist_ok=True)
  held = filelock.FileLock(local, blocking=False)
  try:
    held.acquire()
  except filelock.Timeout:
    holder = " ".join(local.read_text().split()) or "another process"
    raise UserError(f"{what} is in use by {holder}", where=local, remedy="wait for it or stop it") from None
  native = isinstance(held, filelock.UnixFileLock)  # where a file system knows no locks, the file itself is the lock
  try:
    if native:
      local.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    yield
  finally:
    if native and not keep:  # while it is held: who has opened it by now finds the name gone, and opens a new file
      local.unlink(missing_ok=True)
    held.release()
