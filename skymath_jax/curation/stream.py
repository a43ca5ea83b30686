"""Curation of files of any size on one machine: `curate` in memory, a bounded part at a time, on all cores.

1. The files are cut into chunks at line ends; worker processes examine them and give back a few hundred bytes a row.
2. One process decides (`decide.py`) from these arrays, and reads the texts of the rows that look alike.
3. Worker processes read the chunks again and write what is kept, in shards, and what is dropped.

What comes out depends on the rows and the choices only, not on the number of workers or the size of a chunk.
"""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import IO, Any

import numpy as np
from etils import epath

from skymath_jax import console, files, records
from skymath_jax.curation import inputs, parquet, statistics
from skymath_jax.curation.card import card, pictures
from skymath_jax.curation.decide import decide
from skymath_jax.curation.examine import Drop, Examiner, Facts, joined
from skymath_jax.curation.quality import Votes
from skymath_jax.curation.run import labelled, sensitivity
from skymath_jax.curation.settings import Settings
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem

CHUNK_BYTES = 8 << 20
ROWS_PER_SHARD = 100_000
ALONE_BYTES = 64 << 20  # below this, starting workers takes longer than the work


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


def _parsed(line: bytes, where: Callable[[], str]) -> Instance:
  try:
    row = json.loads(line)
    if isinstance(row, dict) and {"id", "method", "parents"} <= row.keys():
      return records.from_json(Instance, row)
  except (ValueError, TypeError):
    row = None
  if isinstance(row, dict):
    return inputs.instance(row, where())
  found = where()
  for number, _ in records.read_lines(found.rpartition(":")[0]):  # says what is wrong with the line
    del number
  raise UserError("this line is not a row", where=found, remedy='write {"query": …, "response": …} or Instance rows')


def chunks(paths: Sequence[str], size: int = CHUNK_BYTES) -> list[Chunk]:
  """The files cut at line ends after about `size` bytes."""
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


def curate_files(
  paths: str | Sequence[str],
  folder: epath.PathLike,
  *,
  test_sets: Mapping[str, Sequence[Problem]],
  settings: Settings,
  output: "Output",
  workers: int = 0,
  chunk_bytes: int = CHUNK_BYTES,
) -> dict[str, Any]:
  """Cleans JSON lines; leaves kept.jsonl, dropped.jsonl, summary.json, card.md and what `output` asks for in `folder`.

  Args:
    paths: of Instance rows or plain {query, response} rows.
    folder: replaced, once everything is whole.
    test_sets: name → problems that must not leak into what is kept.
    settings: the choices.
    output: name and facts of the card, and which further formats to write.
    workers: processes; 0 = one for each core, or none for small files.
    chunk_bytes: how much a worker looks at in one go; changes memory and speed only.

  Returns: the contents of summary.json.

  Raises:
    UserError: a file or a row that cannot be read.
  """
  parts = chunks(inputs.listed(paths), chunk_bytes)
  small = sum(part.stop - part.start for part in parts) <= ALONE_BYTES
  count = 1 if small and not workers else workers or os.cpu_count() or 1
  with _Crew(count, (test_sets, settings)) as crew:
    with console.bar("examine", len(parts)) as bar:
      examined = []
      for found in crew.map(_examine, parts):
        examined.append(found)
        bar.advance()
    starts = np.cumsum([0, *map(len, examined)]).tolist()
    facts = joined(examined) if examined else Examiner({}, settings).examine([])
    del examined
    with _FileRows(parts, starts, facts.offsets) as rows:
      drops, funnel, votes = decide(facts, settings, rows)
    with files.new_folder(folder) as temporary:
      tasks = list(_tasks(parts, starts, facts, drops, votes, temporary, output))
      with console.bar("write", len(tasks)) as bar:
        written = []
        for found in crew.map(_write, tasks):
          written.append(found)
          bar.advance()
      summary = {
        "in": funnel.entered,
        "kept": funnel.left,
        "dropped": funnel.dropped,
        "steps": funnel.to_json(),
        **statistics.summary([found.statistics for found in written]),
        "distinct_queries": _distinct(facts, drops),
        "settings": dataclasses.asdict(settings),
        "decontamination": sensitivity(facts, drops, test_sets, settings),
        **({"yardstick": _yardstick(output.yardstick, test_sets, settings)} if output.yardstick else {}),
      }
      _finish(temporary, written, summary, output)
  return summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
  """What is written beside the JSON lines.

  Attributes:
    name: of the data set.
    facts: further lines of the card, such as the teacher; lists become nested lines.
    write_shard: `datasets.sft.write_shard`; None writes no TFDS set (rooms of one floor do not know each other, so the
      caller passes it in).
    finish: `datasets.sft.finish`.
    parquet: whether to write `parquet/train-NNNNN.parquet` too.
    yardstick: the seed problems, whose hits against the same test sets are reported beside ours: some overlap is in
      the sources already.
  """

  name: str
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  write_shard: Callable[..., Any] | None = None
  finish: Callable[..., None] | None = None
  parquet: bool = False
  yardstick: Sequence[Problem] = ()


class _FileRows:
  """Reads single rows again, by their number."""

  def __init__(self, parts: Sequence[Chunk], starts: Sequence[int], offsets: np.ndarray):
    self._parts, self._starts, self._offsets = parts, np.array(starts), offsets
    self._files: dict[str, IO[bytes]] = {}
    self._undo = contextlib.ExitStack()

  def __enter__(self) -> "_FileRows":
    for path in {part.path for part in self._parts}:
      self._files[path] = self._undo.enter_context(epath.Path(path).open("rb"))
    return self

  def __exit__(self, *_: object) -> None:
    self._undo.close()

  def __call__(self, rows: Sequence[int]) -> list[Instance]:
    found = []
    for row, number in zip(rows, (np.searchsorted(self._starts, rows, side="right") - 1).tolist(), strict=True):
      part, offset = self._parts[number], int(self._offsets[row])
      file = self._files[part.path]
      file.seek(offset)
      found.append(_parsed(file.readline(), functools.partial(part.where, offset)))
    return found


class _Crew:
  """Worker processes that hold the test sets, or this process alone; results come in the order of the tasks."""

  def __init__(self, count: int, arguments: tuple[Any, ...]):
    self._count, self._arguments = count, arguments
    self._pool: ProcessPoolExecutor | None = None

  def __enter__(self) -> "_Crew":
    if self._count > 1:
      context = multiprocessing.get_context("spawn")  # a fork would copy the threads of JAX and gRPC
      self._pool = ProcessPoolExecutor(self._count, context, _begin, self._arguments)
    else:
      _begin(*self._arguments)
    return self

  def __exit__(self, *_: object) -> None:
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)
    _STATE.clear()

  def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
    return map(function, tasks) if self._pool is None else self._pool.map(function, tasks)


_STATE: dict[str, Examiner] = {}  # of a worker process: what it was started with


def _begin(test_sets: Mapping[str, Sequence[Problem]], settings: Settings) -> None:
  _STATE["examiner"] = Examiner(test_sets, settings)


def _examine(chunk: Chunk) -> Facts:
  return _STATE["examiner"].examine(*chunk.instances())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
  """Chunks whose kept rows become one shard."""

  number: int
  chunks: list[Chunk]
  drops: dict[int, Drop]  # by row, counted from the first chunk's first
  tokens: np.ndarray
  samples: np.ndarray
  solve_rate: np.ndarray
  folder: str
  output: Output


@dataclasses.dataclass(frozen=True)
class _Written:
  """One task's share of the summary; `shard` is what `sft.finish` wants to know of it."""

  statistics: statistics.Statistics
  shard: Any


def _tasks(
  parts: Sequence[Chunk],
  starts: Sequence[int],
  facts: Facts,
  drops: Mapping[int, Drop],
  votes: Votes,
  folder: epath.Path,
  output: Output,
) -> Iterator[_Task]:
  """Consecutive chunks, ROWS_PER_SHARD kept rows or a little more together."""
  output = dataclasses.replace(output, yardstick=())  # the workers do not need it
  begin, kept = 0, 0
  alive = np.ones(len(facts), bool)
  alive[list(drops)] = False
  number = 0
  for index in range(len(parts)):
    kept += int(alive[starts[index] : starts[index + 1]].sum())
    if kept < ROWS_PER_SHARD and index + 1 < len(parts):
      continue
    first, last = starts[begin], starts[index + 1]
    yield _Task(
      number=number,
      chunks=list(parts[begin : index + 1]),
      drops={row: drops[first + row] for row in np.flatnonzero(~alive[first:last]).tolist()},
      tokens=facts.tokens[first:last],
      samples=votes.samples[first:last],
      solve_rate=votes.solve_rate[first:last],
      folder=os.fspath(folder),
      output=output,
    )
    begin, kept, number = index + 1, 0, number + 1


def _write(task: _Task) -> _Written:
  """Writes the parts of one task: kept and dropped lines, the shard, the Parquet file."""
  folder, row = epath.Path(task.folder), 0
  kept: list[dict[str, Any]] = []
  counted = statistics.Counter()
  with _part(folder, "kept", task.number).open("wb") as good, _part(folder, "dropped", task.number).open("wb") as bad:
    for chunk in task.chunks:
      for instance in chunk.instances()[0]:
        if row in task.drops:
          reason, detail = task.drops[row]
          bad.write(_line({**records.to_json(instance), "reason": reason, **detail}))
        else:
          known = labelled(instance, int(task.tokens[row]), int(task.samples[row]), float(task.solve_rate[row]))
          counted.add(known)
          kept.append(records.to_json(known))
          good.write(_line(kept[-1]))
        row += 1
  shard = None
  if kept and task.output.write_shard is not None:
    shard = task.output.write_shard(folder, task.number, kept)
  if kept and task.output.parquet:
    parquet.write(folder, task.number, kept)
  return _Written(counted.result(), shard)


def _part(folder: epath.Path, name: str, number: int) -> epath.Path:
  return folder / f"{name}.{number:05d}.part"


def _line(row: Mapping[str, Any]) -> bytes:
  return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _distinct(facts: Facts, drops: Mapping[int, Drop]) -> int:
  alive = np.ones(len(facts), bool)
  alive[list(drops)] = False
  return len(np.unique(facts.queries[alive]))


def _yardstick(
  problems: Sequence[Problem], test_sets: Mapping[str, Sequence[Problem]], settings: Settings
) -> dict[str, Any]:
  """What the same rules find in the problems' own questions."""
  examiner = Examiner(test_sets, settings)
  verdicts = [examiner.index.check(problem.question, "") for problem in problems]
  lengths = sorted({settings.ngram, *settings.sensitivity})
  clean = [problem.question for problem, verdict in zip(problems, verdicts, strict=True) if verdict.hit is None]
  return {
    "name": "the seed problems",
    "checked": len(problems),
    "exact": sum(v.hit is not None and v.hit.kind == "exact" for v in verdicts),
    "fuzzy": sum(hit is not None for hit in examiner.alike(clean)),
    "ngram_hits": {str(n): sum(v.longest_run >= n for v in verdicts) for n in lengths},
  }


def _finish(folder: epath.Path, written: Sequence[_Written], summary: dict[str, Any], output: Output) -> None:
  """Joins the parts, writes the summary and the card, and makes the shards a TFDS set."""
  for name in ("kept", "dropped"):
    with (folder / f"{name}.jsonl").open("wb") as whole:
      for number in range(len(written)):
        part = _part(folder, name, number)
        with part.open("rb") as file:
          while block := file.read(16 << 20):
            whole.write(block)
        part.unlink()
  files.write_json(folder / "summary.json", summary)
  files.write_text(folder / "card.md", card(summary, name=output.name, facts=output.facts))
  for name, svg in pictures(summary).items():
    files.write_text(folder / name, svg)
  shards = [found.shard for found in written if found.shard is not None]
  if shards:
    output.finish(folder, shards, name=output.name)
