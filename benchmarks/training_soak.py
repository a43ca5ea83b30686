"""Ten thousand steps of a small model through everything that a machine does in weeks: clocks, disks, kills.

    skymath bench training_soak FOLDER [--steps=10000] [--kills=10] [--full=10] [--seed=0]

The same training runs twice: once in peace, once with a clock that steps back and forth by days, a TensorBoard file
that at times cannot be written, a disk that is full for a while (the kernel refuses to let any file of the process
grow) and `kill -9`. A run that has ended is started again with the same command. Both must leave the same weights and
the same rows of metrics.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import models
from skymath_jax.cli import bench, main, shipped

ROWS_OF_DATA = 8  # of `micro_gsm/base`, that make about one step
SIZES = {"embed": 32, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 64}
SETTINGS = {"training.max_length": 64, "training.rows": 4, "training.checkpoint_every": 100}
FULL_BYTES = 2_000  # a file may have while the disk is full: too few for anything that is worth keeping
FULL_SECONDS, PAUSE_SECONDS = 4.0, (2.0, 8.0)


def trained(seed: str, *words: str) -> None:
  """In a process of its own: `skymath WORDS` with a clock and an event file that fail now and then."""
  from tensorboardX import record_writer

  rng, real, write = random.Random(seed), time.time, record_writer.RecordWriter.write
  shift = [0.0, 0.0]  # seconds, and when it changes next

  def clock() -> float:
    if time.monotonic() > shift[1]:
      shift[:] = rng.uniform(-30, 30) * 86_400, time.monotonic() + rng.uniform(0.5, 3)
    return real() + shift[0]

  def written(self: Any, data: bytes) -> None:
    if time.monotonic() % 7 < 1:  # one second in seven
      raise OSError(28, "No space left on device")
    write(self, data)

  if seed:
    time.time, record_writer.RecordWriter.write = clock, written
  main.main(words)


def command(folder: Path, steps: int, seed: str) -> list[str]:
  """Trains in FOLDER; with a seed, disturbed."""
  settings = {f"model.scratch.{key}": value for key, value in SIZES.items()} | SETTINGS
  words = ["train", f"--config={shipped.folder('configs') / 'micro_base.py'}", f"--workdir={folder}"]
  words += [f"--config.{key}={value}" for key, value in settings.items()]
  return bench.in_child("training_soak", "trained", seed, *words, f"--config.training.examples={steps * ROWS_OF_DATA}")


def disturbed(folder: Path, steps: int, kills: int, full: int, rng: random.Random) -> dict[str, int]:
  """Trains to the end, whatever comes; how often what came."""
  due = ["kills"] * kills + ["full disks"] * full
  rng.shuffle(due)
  came = {"starts": 0, "kills": 0, "full disks": 0, "ended by a full disk": 0, "uncaught": 0}
  while True:
    came["starts"] += 1
    # a pipe holds what it says: a file could not grow while the disk is full
    process = subprocess.Popen(command(folder, steps, str(came["starts"])), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and due:
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(*PAUSE_SECONDS))
      if process.poll() is not None or not _begun(folder):
        continue
      what = due.pop()
      came[what] += 1
      if what == "kills":
        process.send_signal(signal.SIGKILL)
        process.wait()
        break
      _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
      resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(FULL_SECONDS)
      if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    _, said = process.communicate()
    with folder.with_suffix(".log").open("a") as log:
      log.write(said)
    came["ended by a full disk"] += said.count("then run the same command")
    came["uncaught"] += "skymath_jax/cli/main.py" in said  # as against what Orbax's threads print of their own
    if process.returncode == 0:
      return came
    if came["starts"] > 5 * (kills + full) + 5:
      raise RuntimeError(f"it does not come to an end: {said[-2000:]}")


def _begun(folder: Path) -> bool:
  """Whether there is a checkpoint to go on from, so that every attempt gets somewhere."""
  return any((folder / "checkpoints" / "stage1" / "steps").glob("[0-9]*"))


def outcome(folder: Path) -> dict[str, Any]:
  """What a training has left: its weights, and what each step's row says apart from how long it took."""
  stage = folder / "checkpoints" / "stage1"
  rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
  return {"weights": models.weights_hash(stage), "rows": [(row["step"], row["loss"], row["grad_norm"]) for row in rows]}


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """One row: steps that came out the same."""
  parser = argparse.ArgumentParser("skymath bench training_soak")
  parser.add_argument("folder", type=Path)
  parser.add_argument("--steps", type=int, default=10_000)
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--full", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0)
  chosen = parser.parse_args(arguments)
  folder = chosen.folder.resolve()
  folder.mkdir(parents=True, exist_ok=True)
  for name in ("peace", "disturbed"):
    shutil.rmtree(folder / name, ignore_errors=True)
  start = time.monotonic()
  subprocess.run(command(folder / "peace", chosen.steps, ""), check=True, env={**os.environ})
  peace = time.monotonic() - start
  came = disturbed(folder / "disturbed", chosen.steps, chosen.kills, chosen.full, random.Random(chosen.seed))
  expected, found = outcome(folder / "peace"), outcome(folder / "disturbed")
  yield {
    "name": "training_soak",
    "value": sum(a == b for a, b in zip(expected["rows"], found["rows"], strict=False)),
    "unit": "steps alike",
    "settings": {
      "steps": len(expected["rows"]), "rows": len(found["rows"]), **came,
      "same_weights": expected["weights"] == found["weights"],
      "seconds": [round(peace), round(time.monotonic() - start - peace)],
    },
  }  # fmt: skip
