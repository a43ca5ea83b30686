"""Accuracy against teacher tokens on the micro world, with and without rounds: several RNG seeds, with intervals.

    skymath bench rounds FOLDER [--seeds=300] [--problems=400] [--rng_seeds=3] [--arms="4 draws,rounds"]

Every arm answers the same seed problems by answer augmentation alone, keeps right answers, trains the micro base on
them for EPOCHS epochs, and is asked the same unseen problems. `student` goes on where `rounds` ends: the model asks
itself, in rounds again, and is trained on what it got right; the teacher says nothing more. What is there already is
not made again, so a killed run goes on. The table for benchmarks/results/synthesis.md goes to stderr at the end.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skymath_jax import config as config_lib
from skymath_jax import models, records
from skymath_jax.cli import shipped
from skymath_jax.config import Experiment
from skymath_jax.recipe import stages
from skymath_jax.study import resample
from skymath_jax.synthesis import ResponseStore

TEACHER = "asset:micro_teacher"
HARD = (4, 5)
EPOCHS = 3
# Arm → draws a problem at most, right answers that end them (0: none do), filters
ARMS: dict[str, tuple[float, int, tuple[str, ...]]] = {
  "2 draws": (2.0, 0, ("gold",)),
  "4 draws": (4.0, 0, ("gold",)),
  "rounds": (8.0, 2, ("gold",)),
  "rounds without the solved": (8.0, 2, ("gold", "solved")),
  "student": (8.0, 2, ("gold",)),
}
PAIRS = (("rounds", "2 draws"), ("rounds", "4 draws"), ("rounds without the solved", "rounds"), ("student", "rounds"))


def experiment(arm: str, rng_seed: int, chosen: argparse.Namespace) -> Experiment:
  """The quickstart with one stage of synthesis and training."""
  draws, right, filters = ARMS[arm]
  nothing: dict[str, float] = {}
  changes: dict[str, Any] = {
    "rng_seed": rng_seed, "seeds.limit": chosen.seeds, "teacher.backend": "local",
    "synthesis.pass1": {"answer_augmentation": draws}, "synthesis.pass2": nothing, "synthesis.hard": nothing,
    "synthesis.rounds": right, "synthesis.max_rejected": 1.0, "curation.quality": filters,
    "training.stage1.epochs": EPOCHS, "evaluation.models": ("stage1",), "evaluation.limit": chosen.problems,
  }  # fmt: skip
  if arm == "student":
    before = str(cell("rounds", rng_seed, chosen) / "checkpoints" / "stage1")
    changes |= {"teacher.model": before, "synthesis.prompts": "question", "model.path": before}
    changes |= {"training.stage1.learning_rate": 5e-4}  # as the quickstart's second stage
  quickstart = config_lib.resolve(config_lib.load(shipped.folder("configs") / "quickstart.py"))
  return config_lib.changed(quickstart, changes)


def cell(arm: str, rng_seed: int, chosen: argparse.Namespace) -> Path:
  return chosen.folder / arm.replace(" ", "_") / f"seed{rng_seed}"


def make(arm: str, rng_seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
  """Does what of a cell is not there yet; its answers by problem, and what it took."""
  config, workdir = experiment(arm, rng_seed, chosen), cell(arm, rng_seed, chosen)
  wanted = [stage for stage in stages.recipe(config) if stage.name == "seeds" or stage.folder.endswith("stage1")]
  facts = stages.perform(wanted, config, workdir)
  answers = {row["id"]: row for _, row in records.read_lines(workdir / "evaluation" / "stage1" / "predictions.jsonl")}
  paid = cell("rounds", rng_seed, chosen) if arm == "student" else workdir
  with ResponseStore(paid / "synthesis" / "stage1" / "responses.sqlite") as store:
    prompt, completion = store.tokens_of(models.model_id(TEACHER))
    requests = len(store)
  return {
    "correct": {key: row["correct"] for key, row in answers.items()},
    "level": {key: row["level"] for key, row in answers.items()},
    "tokens": completion, "prompt_tokens": prompt, "requests": requests, "pairs": facts["curate stage 1"]["kept"],
    "seconds": sum(fact["seconds"] for fact in facts.values()),
  }  # fmt: skip


def measured(found: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
  """A row an arm, for all problems and for the hard ones, and a row a comparison."""
  problems = sorted(next(iter(found.values()))[0]["level"])
  level = np.array([int(next(iter(found.values()))[0]["level"][key]) for key in problems])
  correct = {arm: np.array([[c["correct"][key] for key in problems] for c in cells]) for arm, cells in found.items()}
  for which, chosen in (("all", level > 0), ("hard", np.isin(level, HARD))):
    part = {arm: array[:, chosen] for arm, array in correct.items()}
    draws = resample.means(part)
    for arm, array in part.items():
      took = {
        key: round(float(np.mean([c[key] for c in found[arm]])), 1)
        for key in ("tokens", "prompt_tokens", "requests", "pairs", "seconds")
      }
      low, high = resample.share_interval(array, draws[arm])
      facts = {"arm": arm, "levels": which, "ci95": [low, high], "by_seed": array.mean(1).tolist(), **took}
      yield {"name": "rounds", "value": float(array.mean()), "unit": "share right", "settings": facts}
    for arm, other in PAIRS:
      if {arm, other} <= part.keys():
        facts = {"arm": arm, "beside": other, "levels": which, "ci95": resample.interval(draws[arm] - draws[other])}
        gain = float(part[arm].mean() - part[other].mean())
        yield {"name": "rounds.difference", "value": gain, "unit": "share right", "settings": facts}


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
  """The rows as Markdown: arms, then differences, in points."""

  def points(which: str, name: str, **settings: str) -> str:
    for row in rows:
      s = row["settings"]
      if row["name"] == name and s["levels"] == which and all(s[key] == value for key, value in settings.items()):
        low, high = s["ci95"]
        return f"{100 * row['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    return ""

  yield "| arm | teacher tokens | requests | pairs | % right (95 %) | levels 4, 5 |"
  yield "|---|--:|--:|--:|--:|--:|"
  for row in rows:
    s = row["settings"]
    if row["name"] == "rounds" and s["levels"] == "all":
      shown = [points(which, "rounds", arm=s["arm"]) for which in ("all", "hard")]
      yield f"| {s['arm']} | {s['tokens']:,.0f} | {s['requests']:,.0f} | {s['pairs']:,.0f} | {' | '.join(shown)} |"
    elif s["levels"] == "all":
      shown = [points(w, "rounds.difference", arm=s["arm"], beside=s["beside"]) for w in ("all", "hard")]
      yield f"| {s['arm']} − {s['beside']} | | | | {' | '.join(shown)} |"


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Makes the cells, one RNG seed after another; the rows come at the end, of all seeds together."""
  parser = argparse.ArgumentParser("skymath bench rounds")
  parser.add_argument("folder", type=Path)
  parser.add_argument("--seeds", type=int, default=300)
  parser.add_argument("--problems", type=int, default=400)
  parser.add_argument("--rng_seeds", type=int, default=3)
  parser.add_argument("--arms", default=",".join(ARMS), help="names of ARMS with commas between them")
  chosen = parser.parse_args(words)
  chosen.folder = chosen.folder.absolute()
  arms = [arm for arm in ARMS if arm in chosen.arms.split(",")]
  found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
  for rng_seed in range(chosen.rng_seeds):
    for arm in arms:
      found[arm].append(make(arm, rng_seed, chosen))
  rows = list(measured(found))
  yield from rows
  print(*table(rows), sep="\n", file=sys.stderr)
