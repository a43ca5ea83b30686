"""One file → its rows, by the end of its name: JSON lines, JSON, CSV, TSV, Parquet, Arrow; packed or not.

A row is named `file:number` in messages: the line of JSON lines and CSV, else the row, from 1.
"""

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet
from etils import epath

from skymath_jax import files, records
from skymath_jax.errors import UserError

Row = dict[str, Any]
PACKED = (".gz", ".bz2", ".xz", ".zst")
BEGINNINGS = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}  # no row's
BATCH = 1000  # rows of a Parquet file that are unpacked at a time
MAX_FIELD = 1 << 27  # characters of one CSV field


def kind_of(name: str) -> str | None:
  """The format's suffix in the name of a file, such as `.jsonl` of `a.jsonl.gz`; None for what is not read."""
  stem = next((name[: -len(end)] for end in PACKED if name.lower().endswith(end)), name)
  return next((kind for kind in READERS if stem.lower().endswith(kind)), None)


def read(path: epath.Path) -> Iterator[tuple[str, Row]]:
  """(file:number, row) of every row, a few at a time in memory; of `.json` that is a list, the whole.

  Raises:
    UserError: no such file, a format that is not read, or a row that is damaged; file and row are named.
  """
  kind = kind_of(path.name)
  if kind is None:
    remedy = f"make it one of {', '.join(READERS)}; .gz, .bz2, .xz or .zst may follow"
    raise UserError("this kind of file is not read", where=path, remedy=remedy)
  try:
    with path.open("rb") as file:
      yield from READERS[kind](_unpacked(file, path), path)
  except FileNotFoundError:
    raise UserError("no such file", where=path, remedy="check the path") from None
  except IsADirectoryError:
    raise UserError("this is a folder", where=path, remedy="name a file in it") from None
  except (pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
    raise UserError(f"this file cannot be read ({_one_line(error)})", where=path, remedy="write it again") from None


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200]


def _unpacked(file: IO[bytes], path: epath.Path) -> IO[bytes]:
  """The bytes inside of what is packed, by its name and its beginning: servers pack it, or unpack it, on the way."""
  start = file.read(len(files.LFS_POINTER))
  file.seek(0)
  files.refuse_lfs_pointer(start, path)
  named = "" if start.lstrip()[:1] in (b"{", b"[") or path.suffix.lower() not in PACKED else path.suffix.lower()
  suffix = next((packed for begins, packed in BEGINNINGS.items() if start.startswith(begins)), named)
  if not suffix:
    return file
  openers: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda packed: io.BufferedReader(pa.CompressedInputStream(packed, "zstd"), 1 << 20),
  }
  unpacked: IO[bytes] = openers[suffix](file)
  return unpacked


def _json(file: IO[bytes], path: epath.Path) -> Iterator[tuple[str, Row]]:
  """A list of objects, one object that holds such a list, or JSON lines under this name."""
  data = file.read()
  try:
    whole = json.loads(data)
  except (ValueError, RecursionError):  # several values one after the other
    yield from records.parse_lines(io.BytesIO(data), path)
    return
  if isinstance(whole, dict):
    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    whole = lists[0] if len(lists) == 1 else [whole]
  for number, row in enumerate(whole if isinstance(whole, list) else [whole], start=1):
    where = f"{path}:{number}"
    if not isinstance(row, dict):
      what = f"this is a JSON {type(row).__name__}, not an object"
      raise UserError(what, where=where, remedy='write a list of {"key": value} objects')
    yield where, records.without_surrogates(row)


def _separated(separator: str) -> Callable[[IO[bytes], epath.Path], Iterator[tuple[str, Row]]]:
  def read_file(file: IO[bytes], path: epath.Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(MAX_FIELD)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    number = 0
    try:
      first = text.readline()
      cut = next((other for other in ";\t" if other in first and separator not in first), separator)
      rows = csv.DictReader(itertools.chain([first] if first else [], text), delimiter=cut, strict=True)
      if twice := [name for name, count in Counter(rows.fieldnames or ()).items() if count > 1 and name]:
        raise UserError(f"two columns are called {twice[0]!r}", where=f"{path}:1", remedy="give each a name of its own")
      for row in rows:
        number = rows.line_num
        if None in row or None in row.values():
          wanted = f"{len(rows.fieldnames or ())} as the first line has"
          raise UserError("not as many fields as columns", where=f"{path}:{number}", remedy=f"write {wanted}")
        yield f"{path}:{number}", row
    except (csv.Error, UnicodeDecodeError) as error:
      what, remedy = f"this is no CSV in UTF-8 ({error})", "repair or remove the line"
      raise UserError(what, where=f"{path}:{number + 1}", remedy=remedy) from None

  return read_file


def _parquet(file: IO[bytes], path: epath.Path) -> Iterator[tuple[str, Row]]:
  batches = pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=BATCH)
  yield from _numbered((row for batch in batches for row in batch.to_pylist()), path)


def _arrow(file: IO[bytes], path: epath.Path) -> Iterator[tuple[str, Row]]:
  """The stream format, as `save_to_disk` writes it, or the file format, as Feather is."""
  start = file.read(6)
  file.seek(0)
  if start == b"ARROW1":
    reader = pa.ipc.open_file(file)
    batches: Iterable[Any] = (reader.get_batch(i) for i in range(reader.num_record_batches))
  else:
    batches = pa.ipc.open_stream(file)
  pieces = (batch.slice(i, BATCH) for batch in batches for i in range(0, batch.num_rows, BATCH))
  yield from _numbered((row for piece in pieces for row in piece.to_pylist()), path)


def _numbered(rows: Iterable[Row], path: epath.Path) -> Iterator[tuple[str, Row]]:
  return ((f"{path}:{number}", row) for number, row in enumerate(rows, start=1))


READERS: dict[str, Callable[[IO[bytes], epath.Path], Iterator[tuple[str, Row]]]] = {
  ".jsonl": records.parse_lines,
  ".ndjson": records.parse_lines,
  ".json": _json,
  ".csv": _separated(","),
  ".tsv": _separated("\t"),
  ".parquet": _parquet,
  ".arrow": _arrow,
  ".feather": _arrow,
}
