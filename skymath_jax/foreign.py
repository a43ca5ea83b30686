"""Files of a folder that a stranger has made: regular ones only, of bounded size, in that folder or its hub cache.

A link would copy or show what lies elsewhere on this machine, a pipe or a device would never end.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError

MAX_JSON = 64 << 20  # bytes; the largest index and vocabulary files have a few
MAX_SIDE_FILE = 256 << 20  # bytes; tokenizer.json of the largest vocabularies has 35 MB
MAX_WEIGHTS = 1 << 44  # bytes
COPY = "take the folder from its origin again, as plain files"


def require_regular(path: epath.PathLike, *, most: int) -> epath.Path:
  """The path again, of a file in its own folder of at most `most` bytes.

  A link may lead to another file of the folder, or from a snapshot of Hugging Face's cache to its blobs.

  Raises:
    UserError: it is missing, too large, no regular file, or lies elsewhere.
  """
  path = epath.Path(path)
  if "://" in os.fspath(path):  # a bucket knows neither links nor pipes
    size = path.stat().length if path.exists() else None
  else:
    size = _size(Path(os.fspath(path)))
  if size is None:
    raise UserError("no such file", where=path, remedy="check the path")
  if size > most:
    raise UserError(f"{size:,} bytes, where at most {most:,} are taken", where=path, remedy=COPY)
  return path


def _size(path: Path) -> int | None:
  """Raises a `UserError` for what is no regular file of its folder."""
  try:
    real, folder = path.resolve(strict=True), path.parent.resolve()
  except FileNotFoundError:
    return None
  except (OSError, RuntimeError) as error:  # a circle of links
    raise UserError(f"cannot be read ({error})", where=path, remedy=COPY) from None
  blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else None
  if folder not in real.parents and real.parent != blobs:
    raise UserError("a link that leads out of its folder", where=path, remedy=COPY)
  found = real.stat()
  if not stat.S_ISREG(found.st_mode):
    raise UserError("not a regular file", where=path, remedy=COPY)
  return found.st_size


def read_bytes(path: epath.PathLike, *, most: int = MAX_SIDE_FILE) -> bytes:
  """The whole file.

  Raises:
    UserError: as `require_regular`.
  """
  return require_regular(path, most=most).read_bytes()


def read_object(path: epath.PathLike) -> dict[str, Any]:
  """The JSON object that a file holds.

  Raises:
    UserError: as `require_regular`, or it holds something else.
  """
  data = read_bytes(path, most=MAX_JSON)
  files.refuse_lfs_pointer(data, path)
  try:
    value = json.loads(data)
  except json.JSONDecodeError as error:
    what = f"not JSON ({error.msg})"
    raise UserError(what, where=f"{path}:{error.lineno}", remedy="repair or remove it") from None
  except (ValueError, RecursionError) as error:  # no UTF-8, a number of 5,000 digits, nested without end
    raise UserError(f"not JSON ({str(error)[:100]})", where=path, remedy="repair or remove it") from None
  if not isinstance(value, dict):
    raise UserError(f"{type(value).__name__} where an object is wanted", where=path, remedy="repair or remove it")
  return value
