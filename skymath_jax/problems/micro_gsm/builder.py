"""The seeds and the test set of the micro world, drawn directly or prepared as a TFDS set (no TensorFlow)."""

import dataclasses
import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from skymath_jax.errors import UserError
from skymath_jax.problems.micro_gsm import draw, solution
from skymath_jax.problems.micro_gsm.program import SPLITS
from skymath_jax.problems.micro_gsm.story import Story, draw_scene
from skymath_jax.records import Problem

SOURCE = "micro_gsm"
LICENSE = "Apache-2.0"
COUNTS = {"train": 1200, "test": 500}
# Shares of levels 1 to 5: seeds are mostly easy, as real ones are; the test set is even.
LEVEL_SHARES = {"train": (0.30, 0.27, 0.20, 0.13, 0.10), "test": (0.2, 0.2, 0.2, 0.2, 0.2)}


def problems(split: str = "train", count: int | None = None, rng_seed: int = 0) -> list[Problem]:
  """The problems of a split: no two with equal relations and numbers, in random order, equal in every process.

  Args:
    split: "train" (seeds) or "test"; no problem of one has the relations and numbers of a problem of the other.
    count: how many; default 1,200 seeds or 500 test problems.
    rng_seed: another seed draws other problems, of the same split.

  Raises:
    UserError: there is no such split.
  """
  if split not in SPLITS:
    raise UserError(f"micro_gsm has no split {split!r}", where=f"{SOURCE}:{split}", remedy=f"use {' or '.join(SPLITS)}")
  return list(_problems(split, COUNTS[split] if count is None else count, rng_seed))


@functools.lru_cache(maxsize=8)
def _problems(split: str, count: int, rng_seed: int) -> tuple[Problem, ...]:
  rng = random.Random(f"{SOURCE} {split} {rng_seed}")
  levels = _levels(split, count)
  rng.shuffle(levels)
  seen: set[str] = set()
  return tuple(_draw(split, level, rng, seen) for level in levels)


def _levels(split: str, count: int) -> list[int]:
  """`count` levels in the shares of the split; what rounding leaves goes to the easy ones."""
  amounts = [int(count * share) for share in LEVEL_SHARES[split]]
  for i in range(count - sum(amounts)):
    amounts[i % len(amounts)] += 1
  return [level for level, amount in zip(draw.LEVELS, amounts, strict=True) for _ in range(amount)]


def _draw(split: str, level: int, rng: random.Random, seen: set[str]) -> Problem:
  while True:
    program = draw.draw_program(rng, level, split)
    if program.key not in seen:
      break
  seen.add(program.key)
  return to_problem(Story.draw(program, draw_scene(rng), rng), rng)


def to_problem(story: Story, rng: random.Random | None = None) -> Problem:
  """The record of a story, with its solution and answer."""
  text = solution.solution(story.program, story.scene, rng)
  return Problem.create(
    SOURCE,
    story.question,
    solution=text,
    answer=str(draw.answer_of(story.program)),
    level=draw.level_of(story.program),
    subject=story.scene.subject,
    license=LICENSE,
  )


class MicroGsm(tfds.core.GeneratorBasedBuilder):
  """Procedural grade-school word problems with exact solutions, in five levels (number of steps)."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First version."}
  pkg_dir_path = epath.Path(__file__).parent

  def _info(self) -> tfds.core.DatasetInfo:
    columns: dict[str, Any] = {field.name: tfds.features.Text() for field in dataclasses.fields(Problem)}
    columns["level"] = np.int32
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"{type(self).__doc__}",
      features=tfds.features.FeaturesDict(columns),
      supervised_keys=("question", "solution"),
      license=LICENSE,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager  # nothing to fetch
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, problem in enumerate(problems(split)):
      yield index, dataclasses.asdict(problem)


def prepare(data_dir: epath.PathLike) -> MicroGsm:
  """Writes both splits below `data_dir` unless they are there; read with `.as_data_source(split)`."""
  builder = MicroGsm(data_dir=epath.Path(data_dir), file_format="array_record")
  builder.download_and_prepare()
  return builder


def read(data_dir: epath.PathLike, split: str) -> list[Problem]:
  """The problems of a prepared split, equal to `problems(split)`."""

  def value(column: Any) -> Any:
    return column.decode() if isinstance(column, bytes) else int(column)

  rows = prepare(data_dir).as_data_source(split)
  return [Problem(**{key: value(column) for key, column in row.items()}) for row in rows]
