"""Curation of files of any size: `curate` in memory, a bounded part at a time, on all cores of one machine or of many.

1. The files are cut into chunks at line ends; worker processes examine them and give back a few hundred bytes a row.
2. One process decides (`decide.py`) from these arrays, and has the texts of the rows that look alike read.
3. Worker processes read the chunks again and write what is kept, in shards, and what is dropped.

What comes out depends on the rows and the choices only, not on who works (`workers.py`) or the size of a chunk.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from skymath_jax import console, files, records, sft
from skymath_jax.config import Curation
from skymath_jax.curation import inputs, parquet, profile, rules, sensitivity
from skymath_jax.curation.card import card, pictures
from skymath_jax.curation.chunks import CHUNK_BYTES, Chunk, chunks
from skymath_jax.curation.decide import decide
from skymath_jax.curation.examine import Examined, concatenate, examine
from skymath_jax.curation.row import OFFSETS
from skymath_jax.curation.rules.base import Drop, Table
from skymath_jax.curation.run import label
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.votes import QUERIES
from skymath_jax.curation.workers import RULES, Workers
from skymath_jax.curation.workers import workers as choose
from skymath_jax.records import Instance, Problem

ROWS_PER_SHARD = sft.ROWS_PER_SHARD
ALONE_BYTES = 64 << 20  # below this, starting workers takes longer than the work
NULLABLE = ("gold_match", "level", "tokens", "thought")  # columns of an Instance that may be null, or not there
LOOKED_AT_BYTES = 1 << 20  # of kept.jsonl, from which readers may take the types of its columns


def curate_files(
  paths: str | Sequence[str],
  folder: epath.PathLike,
  *,
  test_sets: Mapping[str, Sequence[Problem]],
  settings: Settings,
  output: "Output",
  workers: int = Curation.workers,
  runner: str = "local",
  chunk_bytes: int = CHUNK_BYTES,
) -> dict[str, Any]:
  """Cleans rows; leaves kept.jsonl, dropped.jsonl, summary.json, card.md and what `output` asks for in `folder`.

  Args:
    paths: files, folders and hub ids of Instance rows or pairs.
    folder: replaced, once everything is whole.
    test_sets: name → problems that must not leak into what is kept.
    settings: the choices.
    output: name and facts of the card, and which further formats to write.
    workers: processes; 0 = one for each core, or none for small files.
    runner: whose processes: of this machine, or of a Ray cluster that sees the same files. What comes out is the same.
    chunk_bytes: how much a worker looks at in one go; changes memory and speed only.

  Returns: the contents of summary.json.

  Raises:
    UserError: a file or a row that cannot be read.
  """
  folder = epath.Path(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  steps = rules.by_step(settings, test_sets)
  with contextlib.ExitStack() as undo:
    lines = undo.enter_context(tempfile.TemporaryDirectory(dir=folder.parent, prefix=".inputs-"))
    parts = chunks(inputs.as_lines(paths, epath.Path(lines)), chunk_bytes)
    small = sum(part.stop - part.start for part in parts) <= ALONE_BYTES
    pool = undo.enter_context(choose(runner, workers, settings, test_sets, small=small))
    by_chunk = _all(pool.map(_examine, parts), "examine", len(parts))
    starts = np.cumsum([0, *(found.rows for found in by_chunk)]).tolist()
    examined = concatenate(by_chunk or [examine([], itertools.chain(*steps.values()))])
    del by_chunk
    rows = _Rows(pool, parts, starts, examined.columns[OFFSETS.name])
    drops, funnel, table = decide(examined, steps, rows)
    with files.new_folder(folder) as temporary:
      tasks = list(_tasks(parts, starts, table, drops, temporary, output))
      written = _all(pool.map(_write, tasks), "write", len(tasks))
      summary = {
        "in": funnel.entered,
        "kept": funnel.left,
        "dropped": funnel.dropped,
        "steps": funnel.to_json(),
        **profile.summary([found.profile for found in written]),
        "distinct_queries": len(np.unique(table[QUERIES][table.alive])),
        "settings": dataclasses.asdict(settings),
        "decontamination": sensitivity.report(examined, drops, test_sets, settings),
      }
      if output.yardstick:
        summary["yardstick"] = sensitivity.yardstick(output.yardstick, steps["decontamination"], settings)
      _finish(temporary, written, summary, output)
  return summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
  """What is written beside the JSON lines.

  Attributes:
    name: of the data set.
    facts: further lines of the card, such as the teacher; lists become nested lines.
    tfds: whether to make the folder a data set of `sft`.
    parquet: whether to write `parquet/train-NNNNN.parquet` too.
    yardstick: the seed problems, whose hits against the same test sets are reported beside ours: some overlap is in
      the sources already.
  """

  name: str
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tfds: bool = False
  parquet: bool = Curation.parquet
  yardstick: Sequence[Problem] = ()


class _Rows:
  """Reads single rows again, by their number: workers do, each those of a chunk."""

  def __init__(self, working: Workers, parts: Sequence[Chunk], starts: Sequence[int], offsets: np.ndarray):
    self._workers, self._parts, self._starts, self._offsets = working, parts, np.array(starts), offsets

  def __call__(self, rows: Sequence[int]) -> list[Instance]:
    numbers = np.asarray(rows, np.int64)
    part = np.searchsorted(self._starts, numbers, side="right") - 1
    order = np.argsort(part, kind="stable")
    chosen, begins = np.unique(part[order], return_index=True)
    offsets = np.split(self._offsets[numbers[order]], begins[1:])
    tasks = [(self._parts[number], places.tolist()) for number, places in zip(chosen, offsets, strict=False)]
    found = itertools.chain.from_iterable(self._workers.map(_read, tasks))
    return [instance for _, instance in sorted(zip(order.tolist(), found, strict=True), key=lambda pair: pair[0])]


def _read(task: tuple[Chunk, list[int]]) -> list[Instance]:
  chunk, offsets = task
  return chunk.instances_at(offsets)


def _all(results: Iterable[Any], name: str, total: int) -> list[Any]:
  """The results, with a progress bar."""
  found = []
  with console.bar(name, total) as bar:
    for result in results:
      found.append(result)
      bar.advance()
  return found


def _examine(chunk: Chunk) -> Examined:
  instances, offsets = chunk.instances()
  return examine(instances, RULES, offsets=offsets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
  """Chunks whose kept rows become one shard."""

  number: int
  chunks: list[Chunk]
  drops: dict[int, Drop]  # by row, counted from the first chunk's first
  samples: np.ndarray
  solve_rate: np.ndarray
  folder: str
  output: Output


@dataclasses.dataclass(frozen=True)
class _Written:
  """One task's share of the summary; `shard` is what `sft.finish` wants to know of it."""

  profile: profile.Profile
  shard: sft.Shard | None
  first: Mapping[str, tuple[int, int]]  # key of NULLABLE → (begin, end) of the first line that has a value


def _tasks(
  parts: Sequence[Chunk],
  starts: Sequence[int],
  table: Table,
  drops: Mapping[int, Drop],
  folder: epath.Path,
  output: Output,
) -> Iterator[_Task]:
  """Consecutive chunks, ROWS_PER_SHARD kept rows or a little more together."""
  output = dataclasses.replace(output, yardstick=())  # the workers do not need it
  begin, kept = 0, 0
  number = 0
  for index in range(len(parts)):
    kept += int(table.alive[starts[index] : starts[index + 1]].sum())
    if kept < ROWS_PER_SHARD and index + 1 < len(parts):
      continue
    first, last = starts[begin], starts[index + 1]
    yield _Task(
      number=number,
      chunks=list(parts[begin : index + 1]),
      drops={row: drops[first + row] for row in np.flatnonzero(~table.alive[first:last]).tolist()},
      samples=table.votes.samples[first:last],
      solve_rate=table.votes.solve_rate[first:last],
      folder=os.fspath(folder),
      output=output,
    )
    begin, kept, number = index + 1, 0, number + 1


def _write(task: _Task) -> _Written:
  """Writes the parts of one task: kept and dropped lines, the shard, the Parquet file."""
  folder, row = epath.Path(task.folder), 0
  kept: list[dict[str, Any]] = []
  counted, first = profile.Counter(), dict[str, tuple[int, int]]()
  with _part(folder, "kept", task.number).open("wb") as good, _part(folder, "dropped", task.number).open("wb") as bad:
    for chunk in task.chunks:
      for instance in chunk.instances()[0]:
        if row in task.drops:
          reason, detail = task.drops[row]
          bad.write(_line({**records.to_json(instance), "reason": reason, **detail}))
        else:
          known = label(instance, int(task.samples[row]), float(task.solve_rate[row]))
          counted.add(known)
          kept.append(records.to_json(known))
          begin = good.tell()
          good.write(_line(kept[-1]))
          for key in [k for k in NULLABLE if k not in first and kept[-1].get(k) is not None]:
            first[key] = begin, good.tell()
        row += 1
  shard = None
  if kept and task.output.tfds:
    shard = sft.write_shard(folder, task.number, kept)
  if kept and task.output.parquet:
    parquet.write(folder, task.number, kept)
  return _Written(counted.result(), shard, first)


def _part(folder: epath.Path, name: str, number: int) -> epath.Path:
  return folder / f"{name}.{number:05d}.part"


def _line(row: Mapping[str, Any]) -> bytes:
  return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _finish(folder: epath.Path, written: Sequence[_Written], summary: dict[str, Any], output: Output) -> None:
  """Joins the parts, writes the summary and the card, and makes the shards a TFDS set."""
  _join(folder, "kept", len(written), _to_the_front(folder, written))
  _join(folder, "dropped", len(written), [])
  files.write_json(folder / "summary.json", summary)
  files.write_text(folder / "card.md", card(summary, name=output.name, facts=output.facts))
  for name, svg in pictures(summary).items():
    files.write_text(folder / name, svg)
  shards = [found.shard for found in written if found.shard is not None]
  if shards:
    sft.finish(folder, shards, name=output.name)


_Place = tuple[int, int, int]  # part, and the bytes in it from where to where


def _to_the_front(folder: epath.Path, written: Sequence[_Written]) -> list[_Place]:
  """The lines by which a reader that looks at the beginning alone learns the types of all columns.

  `datasets.load_dataset("json")` takes a column for empty that has nulls only in the first ten megabytes, and then
  fails at the first value. So the first line that has one goes to the front, where it comes late.
  """
  starts = np.cumsum([0, *(_part(folder, "kept", i).stat().length for i in range(len(written)))])
  found: dict[str, _Place] = {}
  for number, part in enumerate(written):
    for key, (begin, end) in part.first.items():
      found.setdefault(key, (number, begin, end))
  return sorted({place for place in found.values() if starts[place[0]] + place[1] > LOOKED_AT_BYTES})


def _join(folder: epath.Path, name: str, parts: int, front: Sequence[_Place]) -> None:
  """The parts as one file, the lines of `front` before all others."""
  with (folder / f"{name}.jsonl").open("wb") as whole:
    for number, begin, end in front:
      with _part(folder, name, number).open("rb") as file:
        file.seek(begin)
        whole.write(file.read(end - begin))
    for number in range(parts):
      part, at = _part(folder, name, number), 0
      with part.open("rb") as file:
        for _, begin, end in [*(place for place in front if place[0] == number), (number, part.stat().length, 0)]:
          file.seek(at)
          while block := file.read(min(16 << 20, begin - at)):
            whole.write(block)
            at += len(block)
          at = end
      part.unlink()
