"""Files of JSON lines in parts of a bounded size, cut at line ends, and single rows read again."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from skymath_jax import records
from skymath_jax.curation import inputs
from skymath_jax.errors import UserError
from skymath_jax.records import Instance

CHUNK_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Whole lines of a file: bytes `start` to `stop`."""

  path: str
  start: int
  stop: int

  def lines(self) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of every line that is not blank."""
    with epath.Path(self.path).open("rb") as file:
      file.seek(self.start)
      offset = self.start
      for line in file.read(self.stop - self.start).splitlines(keepends=True):
        if line.strip():
          yield offset, line
        offset += len(line)

  def where(self, offset: int) -> str:
    """file:line of the row at `offset`."""
    with epath.Path(self.path).open("rb") as file:
      number = file.read(offset).count(b"\n") + 1
    return f"{self.path}:{number}"

  def instances(self) -> tuple[list[Instance], list[int]]:
    """The rows, and where each begins.

    Raises:
      UserError: a row is no Instance and no pair; file and line are named.
    """
    made, offsets = [], []
    for offset, line in self.lines():
      made.append(_parsed(line, functools.partial(self.where, offset)))
      offsets.append(offset)
    return made, offsets

  def instances_at(self, offsets: Sequence[int]) -> list[Instance]:
    """The rows that begin at `offsets`.

    Raises:
      UserError: a row is no Instance and no pair; file and line are named.
    """
    with epath.Path(self.path).open("rb") as file:
      found = []
      for offset in offsets:
        file.seek(offset)
        found.append(_parsed(file.readline(), functools.partial(self.where, offset)))
    return found


def _parsed(line: bytes, where: Callable[[], str]) -> Instance:
  try:
    return inputs.instance(records.parse_line(line))
  except UserError as error:  # what finds the line's number reads the file up to there
    raise UserError(error.what, where=where(), remedy=error.remedy) from None


def chunks(paths: Sequence[str], size: int = CHUNK_BYTES) -> list[Chunk]:
  """The files cut at line ends after about `size` bytes.

  Raises:
    UserError: a file is not there.
  """
  found = []
  for path in paths:
    if not epath.Path(path).exists():
      raise UserError("no such file", where=path, remedy="check the path in the config")
    with epath.Path(path).open("rb") as file:
      end, start = file.seek(0, os.SEEK_END), 0
      while start < end:
        file.seek(min(start + size, end))
        file.readline()
        found.append(Chunk(str(path), start, file.tell()))
        start = file.tell()
  return found
