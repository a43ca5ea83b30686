"""The token ids of a data set, made once: in memory, or in a folder from which every resume and every host reads them.

The folder is bound to data, tokenizer and template by `key`. Its arrays lie there as they are in memory and are mapped,
not read: a run of millions of rows starts in seconds, and takes the memory of the pages that it looks at.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from etils import epath

from skymath_jax import files, integrity
from skymath_jax.chat import encoding, frames
from skymath_jax.console import bar
from skymath_jax.errors import UserError
from skymath_jax.tokenizer import Tokenizer

FORMAT = 1  # to be raised where the same text becomes other ids
ABOUT = "tokens.json"
ARRAYS = {"tokens": np.int32, "trained": np.bool_, "lengths": np.int32, "targets": np.int32}


class Encoder(Protocol):
  """What making tokens needs of a tokenizer; chat templates, and more rows than one process does, need all of it."""

  @property
  def eos_id(self) -> int | None: ...

  def encode(self, text: str, *, bos: bool = False) -> list[int]: ...

  def token(self, token_id: int) -> str: ...


class Source(Protocol):
  """A data set of {"query", "response"} or {"messages"} rows; `fingerprint` changes with its content."""

  @property
  def fingerprint(self) -> str: ...

  def __len__(self) -> int: ...

  def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
  """All rows, one after the other, as `encoding.Encoded` has them; `largest` is the largest id, -1 without any."""

  tokens: np.ndarray
  trained: np.ndarray
  lengths: np.ndarray
  targets: np.ndarray
  largest: int


def make(source: Source, tokenizer: Encoder, template: str) -> Tokens:
  """The tokens of every row, in memory, by this process alone.

  Others would import the program of whoever calls this again, which not every script bears; the command line does.

  Raises:
    UserError: the tokenizer has no end token, or a row does not fit the frame `template`.
  """
  pieces = list(_told(source, tokenizer, template, processes=1))
  found = {
    name: np.concatenate([np.zeros(0, kind), *(getattr(piece, name) for piece in pieces)])
    for name, kind in ARRAYS.items()
  }
  return Tokens(**found, largest=int(found["tokens"].max(initial=-1)))


def key(source: Source, tokenizer: Tokenizer, template: str) -> str:
  """16 hex digits that change with what would become other tokens.

  Raises:
    UserError: there is no such template.
  """
  facts = [FORMAT, source.fingerprint, tokenizer.fingerprint, template, frames.load(template, tokenizer).hash]
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def keep(folder: epath.PathLike, source: Source, tokenizer: Tokenizer, template: str) -> None:
  """`make` by all cores, into a folder of a file system; at once where they lie there already.

  Raises:
    UserError: see `make`; or the folder holds something else, or what is there is damaged.
  """
  bound = key(source, tokenizer, template)
  if _about(folder).get("key") == bound and integrity.completion(folder) is not None:
    return
  with files.new_folder(folder) as temporary:
    counts, largest = dict.fromkeys(ARRAYS, 0), -1
    out = {name: (temporary / name).open("wb") for name in ARRAYS}
    try:
      for piece in _told(source, tokenizer, template, processes=0):
        largest = max(largest, int(piece.tokens.max(initial=-1)))
        for name, kind in ARRAYS.items():
          array = getattr(piece, name).astype(kind, copy=False)
          out[name].write(array.tobytes())
          counts[name] += len(array)
    finally:
      for file in out.values():
        file.close()
    files.write_json(temporary / ABOUT, {"key": bound, "largest": largest, **counts})
  integrity.complete(folder, {"output": bound})


def open(folder: epath.PathLike) -> Tokens:
  """What `keep` left, mapped into memory.

  Raises:
    UserError: it is not there, or not whole.
  """
  about = files.read_json(epath.Path(folder) / ABOUT)
  found: dict[str, np.ndarray] = {}
  for name, kind in ARRAYS.items():
    path = epath.Path(folder) / name
    if path.stat().length != about[name] * np.dtype(kind).itemsize:
      raise UserError("damaged: not as long as it was made", where=path, remedy=f"remove {folder}: it is made again")
    found[name] = np.memmap(path, kind, "r") if about[name] else np.zeros(0, kind)
  return Tokens(**found, largest=about["largest"])


def _about(folder: epath.PathLike) -> dict[str, Any]:
  path = epath.Path(folder) / ABOUT
  about: dict[str, Any] = files.read_json(path) if path.exists() else {}
  return about


def _told(source: Source, tokenizer: Encoder, template: str, *, processes: int) -> Iterator[encoding.Encoded]:
  """The pieces of `encoding.encode`, with a progress bar."""
  with bar("tokenizing", len(source)) as progress:
    for piece in encoding.encode(source, tokenizer, template, processes=processes):
      progress.advance(len(piece.lengths))
      yield piece
