"""A name → the files that are one table: a file, a folder, or one split of a folder.

What `datasets.save_to_disk` left says itself which files count (`state.json`, `dataset_dict.json`): beside them lie the
caches of every later `map`. In other folders the split is in the names, as hubs have it. A folder of several splits is
refused with their names, and one that holds no training rows wants its split named: a test set is nobody's seeds
by accident.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from skymath_jax import files, hub, mirror
from skymath_jax.errors import UserError
from skymath_jax.rows import formats
from skymath_jax.rows.formats import Row
from skymath_jax.rows.presets import PRESETS, Preset

KEPT = "kept.jsonl"  # of a folder that `skymath curate` wrote; what it dropped lies beside it
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "summary.json", "config.json"}
MAX_DEPTH = 4
_SHARD = re.compile(r"(?P<split>[\w.]+?)-\d{5}-of-\d{5}\b")
# Words between which a split's name may stand, as the `datasets` library has them
_WORDS = {
  split: re.compile(rf"(?:^|[-._ 0-9])(?:{words})(?:[-_ ]?(?:set|split|data))?(?:$|[-._ 0-9])", re.IGNORECASE)
  for split, words in {
    "train": "train|training",
    "validation": "validation|valid|val|dev|development",
    "test": "test|testing|eval|evaluation|held[-_]?out|hold[-_]?out",
  }.items()
}
_SPLIT = re.compile(r"[A-Za-z_][\w.+-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Files whose rows, one after the other, are a data set.

  Args:
    name: of the file or folder, without endings.
    files: in order.
    indices: Arrow files that choose and order the rows, as `save_to_disk` may leave them.
    preset: what is known of a public set.
  """

  name: str
  files: tuple[epath.Path, ...]
  indices: tuple[epath.Path, ...] = ()
  preset: Preset | None = None

  def __iter__(self) -> Iterator[tuple[str, Row]]:
    """(file:number, row) of every row."""
    rows = (row for path in self.files for row in formats.read(path))
    if self.indices:
      held = list(rows)
      rows = (held[row["indices"]] for path in self.indices for _, row in formats.read(path))
    preset = self.preset
    return rows if preset is None else ((where, row) for where, row in rows if preset.wants(row))

  @property
  def fingerprint(self) -> str:
    """16 hex digits over the bytes of the files, in their order."""
    digest = hashlib.sha256()
    for path in (*self.files, *self.indices):
      digest.update(_sha256(path, *_age(path)).encode())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _sha256(path: epath.Path, size: int, time: float) -> str:
  """Of a file that is still as large and as old: a run asks several times, and gigabytes take seconds."""
  del size, time
  return files.sha256(path)


def _age(path: epath.Path) -> tuple[int, float]:
  if "://" in os.fspath(path):
    found = path.stat()
    return found.length, found.mtime
  local = os.stat(path)
  return local.st_size, local.st_mtime_ns


def read(text: str) -> Iterator[tuple[str, Row]]:
  """(file:number, row) of all rows of what `text` names; see `find`.

  Raises:
    UserError: it cannot be found or read; file and row are named.
  """
  return iter(find(text))


def is_table(text: str) -> bool:
  """Whether `text` names a preset, a file or folder that is there, what ends as the name of one, or a hub id."""
  path, _ = _split_off(text)
  known = str(path) in PRESETS or formats.kind_of(path.name) is not None
  return known or path.exists() or "://" in text or hub.is_id(str(path))


def find(text: str) -> Table:
  """The table of a file, `FOLDER`, `FOLDER:split`, `FOLDER:split+split`, hub id (`ORG/NAME@revision:split`) or preset.

  Raises:
    UserError: there is no such thing, it holds no rows, or several splits of which none is named.
  """
  if not text:
    raise UserError("the name of the data is empty", where="data", remedy="name a file, a folder or a hub id")
  with mirror.reachable(text) if "://" in text else contextlib.nullcontext():
    return _found(text)


def _found(text: str) -> Table:
  path, split = _split_off(text)
  if path.is_dir():
    return _in_folder(path, split, text)
  if path.exists():
    if split:
      raise UserError("a file has no splits", where=text, remedy=f"name the file alone: {path}")
    return Table(name=_stem(path.name), files=(path,))
  preset = PRESETS.get(str(path))
  name, split = (preset.repository, split or preset.split) if preset is not None else (str(path), split)
  if formats.kind_of(path.name) is None and hub.is_id(name):
    return dataclasses.replace(_on_hub(name, split, text), preset=preset)
  raise UserError("no such file or folder", where=text, remedy="check the path")


def _stem(name: str) -> str:
  kind = formats.kind_of(name)
  return name[: name.lower().rindex(kind)] if kind else name


def _split_off(text: str) -> tuple[epath.Path, str]:
  """(path, split) of `PATH:split`; a path that is there as it stands has no split."""
  whole = files.located(text)
  head, colon, split = text.rpartition(":")
  if not colon or not _SPLIT.fullmatch(split) or whole.exists():
    return whole, ""
  return files.located(head), split


def _in_folder(folder: epath.Path, split: str, text: str) -> Table:
  if (folder / "dataset_dict.json").exists():
    splits = _splits(folder / "dataset_dict.json")
    return _joined([_saved(folder / name) for name in _chosen(splits, split, text)], folder.name)
  if (folder / "state.json").exists():
    return _saved(folder)
  if (folder / KEPT).exists():
    return Table(name=folder.name, files=(folder / KEPT,))
  names = _chosen_files(_files_below(folder), split, text)
  return Table(name=folder.name, files=tuple(folder / name for name in names))


def _splits(path: epath.Path) -> list[str]:
  found = files.read_json(path)
  splits = found.get("splits") if isinstance(found, dict) else None
  if not isinstance(splits, list) or any(not isinstance(s, str) or "/" in s or s in ("", "..") for s in splits):
    raise UserError("splits is no list of folders here", where=path, remedy="save the data set again")
  return splits


def _on_hub(name: str, split: str, text: str) -> Table:
  """Only the files of the split that is read are fetched."""
  names = _chosen_files((file for file in hub.files_of(name) if not any(map(_aside, file.split("/")))), split, text)
  folder = hub.data_set(name, names)
  return Table(name=name.partition("@")[0].rpartition("/")[2], files=tuple(folder / file for file in names))


def _chosen_files(names: Iterable[str], split: str, text: str) -> list[str]:
  """Of the files of a folder those of the split that is read."""
  found: dict[str, list[str]] = {}
  for name in names:
    if formats.kind_of(name):
      found.setdefault(_split_of(name), []).append(name)
  if not found:
    known = ", ".join(formats.READERS)
    raise UserError("no file of rows in this folder", where=text, remedy=f"name a folder of {known} files, or a file")
  chosen = [file for name in _chosen(found, split, text) for file in found[name]]
  kinds = {formats.kind_of(file): file for file in chosen}
  if len(kinds) > 1:
    remedy = "name one file, or a folder of one kind"
    raise UserError(f"files of several kinds lie here ({', '.join(kinds.values())})", where=text, remedy=remedy)
  return chosen


def _joined(tables: list[Table], name: str) -> Table:
  if len(tables) == 1:
    return dataclasses.replace(tables[0], name=name)
  if any(table.indices for table in tables):
    raise UserError("a split is saved as indices into its rows", where=name, remedy="name one split, not several")
  return Table(name=name, files=tuple(path for table in tables for path in table.files))


def _saved(folder: epath.Path) -> Table:
  """What `Dataset.save_to_disk` wrote: `state.json` names its files, and those of its indices."""
  state = files.read_json(folder / "state.json")
  data, indices = (_named(state, key, folder) for key in ("_data_files", "_indices_data_files"))
  if not data:
    raise UserError("no data file is named here", where=folder / "state.json", remedy="save the data set again")
  return Table(name=folder.name, files=data, indices=indices)


def _named(state: Any, key: str, folder: epath.Path) -> tuple[epath.Path, ...]:
  try:
    names = [str(entry["filename"]) for entry in (state.get(key) or [])]
  except (AttributeError, TypeError, KeyError):
    names = ["?"]
  if odd := [name for name in names if "/" in name or name in ("?", "..")]:
    what = f"{key} names {odd[0]!r}, which is no file here"
    raise UserError(what, where=folder / "state.json", remedy="save the data set again")
  return tuple(folder / name for name in names)


def _files_below(folder: epath.Path, above: str = "") -> Iterator[str]:
  """Names, from `folder` on, of the files of rows, in order."""
  for path in sorted(folder.iterdir()):
    name = f"{above}{path.name}"
    if _aside(path.name):
      continue
    if path.is_dir():
      around = files.absolute(folder)
      if name.count("/") < MAX_DEPTH and files.absolute(path) not in (around, *around.parents):  # no link upwards
        yield from _files_below(path, f"{name}/")
    elif "://" in os.fspath(path) or os.path.isfile(path):  # a pipe or a device would never end, and is a file to epath
      yield name


def _aside(name: str) -> bool:
  """Whether a file or folder is hidden, a cache, or merely describes the data."""
  return name.startswith((".", "_", "cache-")) or name in ABOUT


def _split_of(name: str) -> str:
  """The split that a file's name tells, else that of a folder on the way to it; "" where none does.

  It is `CONFIG/split` where it lies in a folder of its own, as the configurations of a hub's data set do.
  """
  *folders, last = name.split("/")
  if shard := _SHARD.match(last):
    split = shard["split"]
  else:
    told = (s for part in (_stem(last), *reversed(folders)) for s, words in _WORDS.items() if words.search(part))
    split = next(told, "")
  own = [part for part in folders if part != "data" and not any(words.search(part) for words in _WORDS.values())]
  return f"{own[0]}/{split}" if own and split else split


def _chosen(found: Iterable[str], split: str, text: str) -> list[str]:
  """The splits to read.

  Raises:
    UserError: several, and none is named; one that is not for training and not named; or one that is not there.
  """
  splits = sorted(found)
  names = ", ".join(name or "files without a split" for name in splits)
  if split:
    wanted = split.split("+")
    if missing := [name for name in wanted if name not in splits]:
      raise UserError(f"no split {missing[0]!r} here", where=text, remedy=f"there are {names}")
    return wanted
  if len(splits) == 1 and splits[0].rpartition("/")[2] not in ("test", "validation"):
    return splits
  what = f"this holds {len(splits)} splits ({names})" if len(splits) > 1 else f"this holds only the split {names}"
  configurations = sorted({name.rpartition("/")[0] for name in splits if "/" in name})
  usual = "train" if "train" in splits else max(splits)
  remedy = f"{text}/{configurations[0]}:train" if configurations else f"{text}:{usual}"
  raise UserError(what, where=text, remedy=f"say which is meant, such as {remedy}")
