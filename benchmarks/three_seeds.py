"""The quickstart's claim, for three RNG seeds: accuracy before and after each stage, and on the hard levels.

    skymath bench three_seeds RUNS_FOLDER [--config.KEY=VALUE ...]

About four minutes a seed on two CPU cores.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import statistics

HARD = ("4", "5")


def hard_accuracy(workdir: Path, name: str) -> tuple[float, tuple[float, float]]:
  """Share right on levels 4 and 5, with its 95 % Wilson interval."""
  rows = [json.loads(line) for line in (workdir / "evaluation" / name / "predictions.jsonl").open()]
  correct = [row["correct"] for row in rows if str(row["level"]) in HARD]
  return sum(correct) / len(correct), statistics.wilson(sum(correct), len(correct))


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Runs (or resumes) the three seeds; a row each, then the means of what the stages gained."""
  folder, overrides = Path(words[0]), words[1:]
  gains, lifts = [], []
  for seed in range(3):
    workdir = folder / f"seed{seed}"
    command = [sys.executable, "-m", "skymath_jax.cli", "run", "--config=quickstart", f"--workdir={workdir}"]
    subprocess.run([*command, f"--config.rng_seed={seed}", *overrides], check=True, stdout=sys.stderr)
    summary = json.loads((workdir / "summary.json").read_text())
    accuracy, hard = summary["accuracy"], {name: hard_accuracy(workdir, name) for name in ("base", "stage1", "stage2")}
    gains.append(hard["stage2"][0] - hard["stage1"][0])
    lifts.append(accuracy["stage1"]["all"] - accuracy["base"]["all"])
    facts = {
      "seed": seed,
      "accuracy": {k: [v["all"], v["ci95"]] for k, v in accuracy.items()},
      "levels_4_5": hard,
      "kept": summary["instances"]["kept"],
      "seconds": round(sum(summary["seconds"].values()), 1),
    }
    yield {"name": "three_seeds", "value": accuracy["stage2"]["all"], "unit": "share right", "settings": facts}
  yield {"name": "three_seeds.stage1_minus_base", "value": sum(lifts) / 3, "unit": "share right"}
  yield {"name": "three_seeds.stage2_minus_stage1_levels_4_5", "value": sum(gains) / 3, "unit": "share right"}
