"""What the jobs of a pass made, kept on disk: millions of instances take the memory of a few numbers each.

The file has no name and lies beside the store. It goes with the process; what it held is made again from the store.
"""

import array
import collections
import contextlib
import dataclasses
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from skymath_jax import records
from skymath_jax.errors import UserError
from skymath_jax.records import Instance
from skymath_jax.synthesis.methods import Rejected

MAX_REJECTED_TEXT = 500  # characters of a reply that a rejection keeps


class Outcomes:
  """Instances and rejections, put in as the jobs end and read in the order of the jobs.

  An instance made twice (same text from the same parent) is kept once and says so (`said` in its `quality`); the
  others count as rejected.

  Args:
    folder: whose disk is used, about as much as the instances' JSON lines take.

  Raises:
    UserError: the disk takes no more; so do `put` and `finish`.
  """

  def __init__(self, folder: epath.PathLike):
    self._folder = os.fspath(folder)
    with self._translated():
      self._file = tempfile.TemporaryFile(dir=self._folder)
    weakref.finalize(self, self._file.close)
    self._jobs = array.array("q")
    self._offsets = array.array("q")
    self._ids = array.array("Q")  # of instances; 0 for a rejection
    self._end = 0
    self._order = np.zeros(0, np.int64)
    self._again: dict[int, int] = {}  # id → how often it was made, of those made more than once
    self._by_method: collections.Counter[str] = collections.Counter()
    self._rejected: collections.Counter[tuple[str, str]] = collections.Counter()

  @contextlib.contextmanager
  def _translated(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise UserError(
        f"what was made cannot be kept ({error.strerror})",
        where=self._folder,
        remedy="free some disk space and run the same command again: every answer so far is kept",
      ) from error

  def put(self, job: int, made: Iterable[Instance | Rejected]) -> None:
    """Keeps what one job made.

    Raises:
      UserError: the disk is full, or the file is lost.
    """
    for each in made:
      if isinstance(each, Rejected):
        each = dataclasses.replace(each, text=each.text[:MAX_REJECTED_TEXT])
        self._rejected[each.method, each.reason.partition(":")[0]] += 1
        row = dataclasses.asdict(each)
        identity = 0
      else:
        self._by_method[each.method] += 1
        row = records.to_json(each)
        identity = int(each.id, 16)
      line = json.dumps(row).encode() + b"\n"
      with self._translated():
        self._file.write(line)
      self._jobs.append(job)
      self._offsets.append(self._end)
      self._ids.append(identity)
      self._end += len(line)

  def finish(self) -> "Outcomes":
    """To be called once, after the last `put`.

    Raises:
      UserError: as `put`.
    """
    with self._translated():
      self._file.flush()
    self._order = np.argsort(np.array(self._jobs, np.int64), kind="stable")
    ids, counts = np.unique(np.array(self._ids, np.uint64), return_counts=True)
    several = (counts > 1) & (ids != 0)
    self._again = dict(zip(ids[several].tolist(), counts[several].tolist(), strict=True))
    for duplicate in self.rejected() if self._again else ():
      if duplicate.reason == "duplicate":
        self._by_method[duplicate.method] -= 1
        self._rejected[duplicate.method, "duplicate"] += 1
    return self

  @property
  def share(self) -> tuple[int, int]:
    """(rejections, all outcomes) so far."""
    rejected = self._rejected.total()
    return rejected, rejected + self._by_method.total()

  @property
  def by_method(self) -> dict[str, int]:
    """Method → instances, sorted."""
    return dict(sorted(self._by_method.items()))

  @property
  def rejected_by_method(self) -> dict[str, dict[str, int]]:
    """Method → reason → rejections, sorted."""
    found: dict[str, dict[str, int]] = {}
    for (method, reason), count in sorted(self._rejected.items()):
      found.setdefault(method, {})[reason] = count
    return found

  def instances(self) -> Iterator[Instance]:
    """The instances, read from disk."""
    seen: set[int] = set()
    for place in map(int, self._order):
      identity = self._ids[place]
      if not identity or identity in seen:
        continue
      instance = records.from_json(Instance, self._row(place))
      if identity in self._again:
        seen.add(identity)
        instance = dataclasses.replace(instance, quality=instance.quality | {"said": self._again[identity]})
      yield instance

  def rejected(self) -> Iterator[Rejected]:
    """The rejections, read from disk."""
    seen: set[int] = set()
    for place in map(int, self._order):
      identity = self._ids[place]
      if not identity:
        yield Rejected(**self._row(place))
      elif identity in seen:
        row = self._row(place)
        yield Rejected(problem_id=row["parents"][0], method=row["method"], reason="duplicate")
      elif identity in self._again:
        seen.add(identity)

  def _row(self, place: int) -> dict[str, Any]:
    self._file.seek(self._offsets[place])
    row: dict[str, Any] = json.loads(self._file.readline())
    return row
