"""Synthesis at scale: memory, disk and pace of a whole stage with a teacher that answers at once.

    skymath bench synthesis_scale FOLDER INSTANCES [INSTANCES …]        e.g. … 100000 250000

Runs the stage that `skymath run` runs (stage 2, which has one pass: 6 answers augmented and 4 questions rephrased of
ten) on 5,000 seeds and instances of about 1 KB in FOLDER/run, which is removed. Memory is the process's own peak; each
size has a process of its own.
"""

import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from skymath_jax import config as config_lib
from skymath_jax import records
from skymath_jax.generation import Response
from skymath_jax.recipe import synthesize
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.records import Problem

SEEDS = 5000
WORDS = "the of sum is that we have so then a each total first number times more all and get equals two".split()


class Teacher:
  """Answers every prompt at once, with about 700 characters that depend on prompt and seed."""

  model_id = "none@0"

  async def complete(self, request) -> Response:
    dice = random.Random(f"{request.prompt} {request.sampling.seed}")
    words = " ".join(dice.choices(WORDS, k=150))
    asks_question = request.prompt.rstrip().endswith("New wording:")
    text = f"{words} {dice.random()}?" if asks_question else f"{words}\nThe answer is {dice.randrange(10**6)}"
    return Response(id=request.id, text=text, finish_reason="stop", prompt_tokens=100, completion_tokens=160)

  async def close(self) -> None:
    pass


def measure(folder: pathlib.Path, instances: int) -> dict[str, Any]:
  """The row of one size."""
  runs = {"answer_augmentation": 0.6 * instances / SEEDS, "rephrase": 0.4 * instances / SEEDS}
  run, config = folder / "run", config_lib.changed(config_lib.Experiment(), {"synthesis.hard": runs})
  question = f"{' '.join(random.Random(0).choices(WORDS, k=50))}?"
  records.write_lines(
    run / "seeds" / "problems.jsonl",
    (Problem.create("s", f"{n} {question}", answer="1", level=5, solution="x") for n in range(SEEDS)),
  )
  start, cpu = time.perf_counter(), time.process_time()
  teacher = SimpleNamespace(client=Teacher, requests_served=lambda: 0)
  facts = synthesize.hard(
    SimpleNamespace(config=config, workdir=Workdir(run), teacher=teacher)
  )  # all that the stage uses
  seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
  written = run / "synthesis" / "stage2" / "instances.jsonl"
  size, store = written.stat().st_size, (run / "synthesis" / "stage2" / "responses.sqlite").stat().st_size
  shutil.rmtree(run)
  return {
    "name": "synthesis_scale", "value": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    "unit": "GB at the peak",
    "settings": {
      "instances": facts["instances"], "bytes_an_instance": round(size / facts["instances"]),
      "store_gb": round(store / 1e9, 2), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
    },
  }  # fmt: skip


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a size."""
  parser = argparse.ArgumentParser("skymath bench synthesis_scale")
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("instances", nargs="+", type=int)
  chosen = parser.parse_args(words)
  if len(chosen.instances) == 1:
    yield measure(chosen.folder, chosen.instances[0])
    return
  for size in chosen.instances:
    command = [sys.executable, "-m", "skymath_jax.cli", "bench", "synthesis_scale", str(chosen.folder), str(size)]
    yield json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
