"""The quickstart's claim, for three RNG seeds: accuracy before and after each stage, and on the hard levels.

  python benchmarks/three_seeds.py RUNS_FOLDER [--config.KEY=VALUE ...]

One JSON line a seed, then the means. About six minutes a seed on two CPU cores.
"""

import json
import subprocess
import sys
from pathlib import Path

from skymath_jax import statistics

ROOT = Path(__file__).parents[1]
HARD = ("4", "5")


def hard_accuracy(workdir: Path, name: str) -> tuple[float, tuple[float, float]]:
  """Share right on levels 4 and 5, with its 95 % Wilson interval."""
  rows = [json.loads(line) for line in (workdir / "evaluation" / name / "predictions.jsonl").open()]
  correct = [row["correct"] for row in rows if str(row["level"]) in HARD]
  return sum(correct) / len(correct), statistics.wilson(sum(correct), len(correct))


def main() -> None:
  """Runs (or resumes) the three seeds and prints what they came to."""
  folder, overrides = Path(sys.argv[1]), sys.argv[2:]
  gains, lifts = [], []
  for seed in range(3):
    workdir = folder / f"seed{seed}"
    command = [sys.executable, "-m", "skymath_jax.cli", "run", f"--config={ROOT / 'configs' / 'quickstart.py'}"]
    subprocess.run([*command, f"--workdir={workdir}", f"--config.rng_seed={seed}", *overrides], check=True)
    summary = json.loads((workdir / "summary.json").read_text())
    hard = {name: hard_accuracy(workdir, name) for name in ("base", "stage1", "stage2")}
    gains.append(hard["stage2"][0] - hard["stage1"][0])
    lifts.append(summary["accuracy"]["stage1"]["all"] - summary["accuracy"]["base"]["all"])
    row = {
      "name": "quickstart",
      "seed": seed,
      "accuracy": {k: [v["all"], v["ci95"]] for k, v in summary["accuracy"].items()},
      "levels_4_5": hard,
      "kept": summary["instances"]["kept"],
      "seconds": round(sum(summary["seconds"].values()), 1),
    }
    print(json.dumps(row), flush=True)
  means = {"stage1_minus_base": sum(lifts) / 3, "stage2_minus_stage1_levels_4_5": sum(gains) / 3}
  print(json.dumps({"name": "quickstart means", **means}))


if __name__ == "__main__":
  main()
