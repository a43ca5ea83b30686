"""What lies in a complete folder, and whether it still does: sizes, times and hashes in `.files` beside the mark.

  integrity.complete("sft/stage1", {"output": …})  flushes and records every file, then leaves the mark
  integrity.completion("sft/stage1")               the facts; None where the mark or a file is missing: not complete
  integrity.damages("sft/stage1", contents=True)   every file that is not what it was

A look costs one `stat` a file; contents are read where size or time differ, or where all are asked for. A file that has
been removed makes its folder incomplete: the work that made it is done again, or goes on. So the remedy of any damage
is to remove what is damaged. In a bucket only sizes are recorded; arrays of checkpoints carry checksums of their own.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from skymath_jax import files
from skymath_jax.console import log
from skymath_jax.errors import UserError

MANIFEST = ".files"  # hidden: it is no part of what the folder holds
# What changes without harm, is read by nobody but people, or goes when it has served (`weights/` of a study's cells)
PASSED_OVER = re.compile(
  r"(^|/)(\.[^/]*|events\.out\.[^/]*|[^/]*\.lock|[^/]*-(wal|shm)|profile/.*|weights/.*|damaged-[^/]*/.*)$"
)
PAID = "responses.sqlite"  # is made again only by paying again
AT_A_PRICE = f"{PAID} holds the teacher's answers: restore it from a copy, or they are asked, and paid, again"
STEP = re.compile(r"(?:^|.*/)steps/\d+(?=/)")  # a step of a checkpoint is used whole or not at all
# What is made again only with all that lies beside it: a training's rows, and its tokens
WHOLE = re.compile(r"(^|/)(metrics\.jsonl|tokens\.json|tokens|trained|lengths|targets)$")


class DamagedError(UserError):
  """Files of a complete folder are not what they were."""

  def __init__(self, folder: epath.PathLike, names: list[str]):
    self.folder, self.names = folder, names
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    remedies = dict.fromkeys(os.path.join(os.fspath(folder), part) for part in map(to_remove, names))
    remedy = f"remove {' and '.join(list(remedies)[:5])}, then run the same command: what is missing is made again"
    super().__init__(
      f"damaged: {shown} changed after the work here was complete",
      where=folder,
      remedy=f"{remedy}; but {AT_A_PRICE}" if any(map(is_paid, names)) else remedy,
    )


def to_remove(name: str) -> str:
  """What has to be removed of a folder so that the damaged file `name` is made again; "" is the whole folder."""
  if step := STEP.match(name):
    return step[0]
  return "" if WHOLE.search(name) else name


def is_paid(name: str) -> bool:
  """Whether a file holds what was paid for."""
  return os.path.basename(name) == PAID


def complete(folder: epath.PathLike, facts: Mapping[str, Any], *, files_in: epath.PathLike | None = None) -> None:
  """Leaves the completion mark, when all files are on disk and recorded.

  Args:
    folder: gets the mark and the record.
    facts: of the mark.
    files_in: where the files lie, if elsewhere.
  """
  folder = epath.Path(folder)
  root = epath.Path(files_in or folder)
  found = {name: _entry(root / name) for name in _names(root)}
  mark = json.dumps(dict(facts), indent=2, ensure_ascii=False) + "\n"
  _write(
    folder, {"files": found, "mark": hashlib.sha256(mark.encode()).hexdigest(), "files_in": _relative(root, folder)}
  )
  files.write_text(folder / files.COMPLETE, mark)


def _relative(root: epath.Path, folder: epath.Path) -> str:
  return "" if root == folder else os.fspath(root)


def completion(folder: epath.PathLike) -> dict[str, Any] | None:
  """The facts of the completion mark; None while there is none, or a file is missing.

  A folder that was complete before there were records gets one.

  Raises:
    DamagedError: a file is not what it was.
  """
  folder = epath.Path(folder)
  if not (folder / files.COMPLETE).exists():
    return None
  if not (folder / MANIFEST).exists():
    log(f"{folder}: no record of what lies here ({MANIFEST}); what is there now is taken for right")
    complete(folder, files.completion(folder) or {})
  bad = damages(folder)
  if changed := [name for name, how in bad.items() if how == "changed"]:
    raise DamagedError(folder, changed)
  if bad:
    log(f"{folder}: not complete any more, {gone(bad)}")
  return None if bad else files.completion(folder)


def gone(names: Iterable[str]) -> str:
  """What to say of missing files."""
  first, *more = names
  said = f"{first} and {len(more)} more are missing" if more else f"{first} is missing"
  return f"{said}; {AT_A_PRICE}" if any(map(is_paid, (first, *more))) else said


def reopen(folder: epath.PathLike) -> None:
  """Takes the mark away: what lies there is being worked on again."""
  for name in (files.COMPLETE, MANIFEST):
    (epath.Path(folder) / name).unlink(missing_ok=True)


def damages(folder: epath.PathLike, *, contents: bool = False) -> dict[str, str]:
  """Name → "missing" or "changed", of the files that are not what they were.

  Args:
    folder: a complete one with a record.
    contents: read all of them, not only those whose size or time differ.
  """
  folder = epath.Path(folder)
  for name in (MANIFEST, files.COMPLETE):
    if not _is_regular(folder / name):
      return {name: "changed" if (folder / name).exists() else "missing"}
  try:
    record = json.loads((folder / MANIFEST).read_bytes())
    content = {key: record[key] for key in ("files", "mark", "files_in")}
    good = record["checksum"] == checksum(content)
  except (ValueError, KeyError, TypeError):
    good = False
  if not good:
    return {MANIFEST: "changed"}
  mark = (folder / files.COMPLETE).read_bytes()
  bad = {} if hashlib.sha256(mark).hexdigest() == content["mark"] else {files.COMPLETE: "changed"}
  root, touched = epath.Path(content["files_in"] or folder), False
  for name, entry in content["files"].items():
    how = _compare(root / name, entry, contents=contents)
    if how == "touched":
      touched, content["files"][name] = True, _entry(root / name)
    elif how:
      bad[name] = how
  if touched and not bad:  # copied, perhaps: the next look is quick again
    _write(folder, content)
  return bad


def _compare(path: epath.Path, entry: Mapping[str, Any], *, contents: bool) -> str:
  """ "" for the same, else "missing", "changed", or "touched": another time, the same contents."""
  if not path.exists():
    return "missing"
  if not _is_regular(path) or path.stat().length != entry["bytes"]:
    return "changed"
  if entry["sha256"] is None:
    return ""
  same_time = Path(os.fspath(path)).stat().st_mtime_ns == entry["mtime_ns"]
  if same_time and not contents:
    return ""
  if files.sha256(path) != entry["sha256"]:
    return "changed"
  return "" if same_time else "touched"


def _is_regular(path: epath.Path) -> bool:
  """Whether this is a file: reading a pipe would never end."""
  return path.is_file() if "://" in os.fspath(path) else Path(os.fspath(path)).is_file()


def _entry(path: epath.Path) -> dict[str, Any]:
  """Size, time and hash of one file, which is on disk afterwards."""
  if "://" in os.fspath(path):
    return {"bytes": path.stat().length, "mtime_ns": None, "sha256": None}
  with Path(os.fspath(path)).open("rb") as f:
    os.fsync(f.fileno())
    stat = os.fstat(f.fileno())
  return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": files.sha256(path)}


def _names(root: epath.Path) -> list[str]:
  found = (os.path.relpath(os.fspath(path), os.fspath(root)) for path in _below(root))
  return sorted(n for n in found if not PASSED_OVER.search(n) and os.path.basename(n) not in (files.COMPLETE, MANIFEST))


def _below(folder: epath.Path) -> Iterator[epath.Path]:
  for path in folder.iterdir():
    if path.is_dir():
      yield from () if (path / files.COMPLETE).exists() else _below(path)  # a complete folder keeps its own record
    elif _is_regular(path):  # no pipe, no link that leads nowhere
      yield path


def checksum(content: Mapping[str, Any]) -> str:
  """Hex digest of JSON values, whatever the order of their keys."""
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(folder: epath.Path, content: Mapping[str, Any]) -> None:
  files.write_json(folder / MANIFEST, {**content, "checksum": checksum(content)})
