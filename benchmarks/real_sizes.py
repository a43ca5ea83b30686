"""Sizes of a real run side by side: the same recipe on the first problems of its seeds, more and more of them.

    skymath bench real_sizes FOLDER --seeds=100,300,900 [--config=configs/real.py] [--config.KEY=VALUE ...]

Each size is a workdir of its own, FOLDER/SEEDS, made by `skymath run`: seeds to report. A larger one begins with a
copy of the smaller one's answers, so nothing is asked twice, and leaves out the base model, which the first has asked.
A row for each model of each size: right by the symbolic and by the strict grader, with 95 % intervals, and what it
learned from. Killed, the same command goes on where it was.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skymath_jax import files, grading, mirror, records
from skymath_jax.integrity import PAID
from skymath_jax.statistics import wilson

MODELS = ("base", "stage1", "stage2")
OWN = ("--workdir", "--config.seeds.limit", "--config.evaluation.models")  # of each size; a list given twice is joined


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """The rows of a size as it is done."""
  parser = argparse.ArgumentParser("skymath bench real_sizes", allow_abbrev=False)
  parser.add_argument("folder", type=Path)
  parser.add_argument("--seeds", required=True, help="numbers of problems, as 100,300,900")
  parser.add_argument("--config", default="configs/real.py")
  chosen, overrides = parser.parse_known_args(words)
  if taken := [word for word in overrides if word.startswith(OWN)]:
    parser.error(f"{taken[0]} is chosen for each size; leave it out")
  before: Path | None = None
  for seeds in sorted({int(word) for word in chosen.seeds.split(",")}):
    workdir = chosen.folder.expanduser() / str(seeds)
    models = MODELS[1:] if before else MODELS
    if before:
      copy_answers(before, workdir)
    command = [sys.executable, "-m", "skymath_jax.cli", "run", f"--config={chosen.config}", f"--workdir={workdir}"]
    own = [f"--config.seeds.limit={seeds}", f"--config.evaluation.models={models!r}"]
    if code := subprocess.run([*command, *overrides, *own], stdout=sys.stderr).returncode:
      sys.exit(code)  # the run has said why
    yield from rows_of(workdir, models)
    before = workdir


def copy_answers(source: Path, target: Path) -> None:
  """What the teacher answered in the workdir `source`, in that of `target` too, unless it has answers of its own."""
  for path in sorted(source.glob(f"synthesis/*/{PAID}")):
    there = target / path.relative_to(source)
    if there.exists():
      continue
    there.parent.mkdir(parents=True, exist_ok=True)
    partial = there.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # of a copy that was killed
    mirror.copy_database(path, partial)
    os.replace(partial, there)


def rows_of(workdir: Path, models: Sequence[str] = MODELS) -> Iterator[dict[str, Any]]:
  """One row a model of a finished workdir."""
  kept = {stage: sum(1 for _ in records.read_lines(workdir / "sft" / stage / "kept.jsonl")) for stage in MODELS[1:]}
  seconds = files.read_json(workdir / "summary.json")["seconds"]
  for model in models:
    answers = [row for _, row in records.read_lines(workdir / "evaluation" / model / "predictions.jsonl")]
    right = {
      mode: sum(grading.grade_response(row["gold"], row["response"], mode)[1] for row in answers)
      for mode in ("symbolic", "strict")
    }
    yield {
      "name": f"real_sizes.{workdir.name}.{model}",
      "value": right["symbolic"] / len(answers),
      "unit": "share right, symbolic",
      "settings": {
        "problems": len(answers),
        "right": right,
        "intervals": {mode: wilson(count, len(answers)) for mode, count in right.items()},
        "cut_off": sum(row["finish_reason"] == "length" for row in answers),
        "kept": {stage: kept[stage] for stage in MODELS[1 : MODELS.index(model) + 1]},
        "seconds": seconds,
      },
    }
