"""Full fine-tuning, LoRA, and LoRA over 8 and 4 bits, on the same pairs: accuracy, tokens a second, memory.

    skymath bench lora FOLDER [--ways=full,bfloat16,int8,nf4] [--pairs=micro_gsm:train*1500] [--count=1500]
                              [--model=asset:micro_base] [--benchmark=micro_gsm:test] [--rank=16] [--answer_in=float32]
                              [--config.KEY=VALUE …]

The default is the micro world: some minutes on two CPU cores. A real one, on 2,000 pairs:

    skymath bench lora runs/lora --model=HuggingFaceTB/SmolLM2-135M-Instruct --pairs=gsm8k:train --count=2000 \\
      --epochs=1 --rate=1e-4 --benchmark=gsm8k:test --config.training.max_length=512 --config.training.rows=8 \\
      --config.evaluation.max_tokens=256 --answer_in=bfloat16

`--rate` is of full fine-tuning; adapters learn at ten times that. Every way is `skymath train` and `skymath evaluate`
in a workdir of its own, which can be killed and goes on; answers are read in any form (the symbolic grader), since the
pairs decide in which one a model writes them. What each takes of a device's memory says `skymath preflight`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax.problems import catalog

FASTER = 10  # how much more an adapter's learning rate is than that of all weights
WAYS = {  # name → flags
  "full": (),
  "bfloat16": ("--config.model.param_dtype=bfloat16",),
  "int8": ("--config.model.param_dtype=int8",),
  "nf4": ("--config.model.param_dtype=nf4",),
}


def _pairs(name: str, count: int, path: Path) -> None:
  """Questions with their worked solutions, from the catalog."""
  rows = [{"query": p.question, "response": p.solution} for p in catalog.load(name) if p.solution][:count]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _one(way: str, chosen: argparse.Namespace, more: list[str]) -> dict[str, Any]:
  """Trains and evaluates one way; accuracy with its interval, and the medians of the steps."""
  workdir = chosen.folder / way
  rate = chosen.rate if way == "full" else FASTER * chosen.rate
  lora = () if way == "full" else (f"--config.training.lora_rank={chosen.rank}",)
  rates = (f"--config.training.stage1.learning_rate={rate}", f"--config.training.stage1.epochs={chosen.epochs}")
  words = ["train", f"--data={chosen.folder / 'pairs.jsonl'}", f"--model={chosen.model}", f"--workdir={workdir}"]
  asked = [word for word in more if word.startswith("--config.evaluation.")]
  _skymath(*words, *WAYS[way], *lora, *rates, *(word for word in more if word not in asked))
  checkpoint = workdir / "checkpoints/stage1"
  asked = ["--config.evaluation.mode=symbolic", f"--config.model.dtype={chosen.answer_in}", *asked]
  _skymath("evaluate", f"--model={checkpoint}", f"--benchmarks={chosen.benchmark}", f"--workdir={workdir}", *asked)
  (summary,) = (json.loads(path.read_text()) for path in workdir.glob("evaluation/*/summary.json"))
  rows = [json.loads(line) for line in (checkpoint / "metrics.jsonl").read_text().splitlines()]
  return {
    "accuracy": summary["accuracy"]["all"],
    "ci95": summary["accuracy"]["ci95"],
    "n": summary["accuracy"]["n"],
    "tokens_per_second": statistics.median(row["tokens"] / row["seconds"] for row in rows[1:]),
    "last_loss": rows[-1]["loss"],
    "learning_rate": rate,
    "checkpoint_bytes": sum(path.stat().st_size for path in checkpoint.glob("steps/*/**/*") if path.is_file()),
  }


def _skymath(*words: str) -> None:
  subprocess.run([sys.executable, "-m", "skymath_jax.cli", *words], check=True, stdout=sys.stderr)


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """A row for each way."""
  parser = argparse.ArgumentParser(prog="skymath bench lora")
  parser.add_argument("folder", type=Path)
  parser.add_argument("--ways", default=",".join(WAYS))
  parser.add_argument("--pairs", default="micro_gsm:train*1500")
  parser.add_argument("--count", type=int, default=1500)
  parser.add_argument("--model", default="asset:micro_base")
  parser.add_argument("--benchmark", default="micro_gsm:test")
  parser.add_argument("--rank", type=int, default=16)
  parser.add_argument("--rate", type=float, default=1e-3)
  parser.add_argument("--epochs", type=int, default=3)
  parser.add_argument("--answer_in", default="float32", help="type that all ways are evaluated in")
  chosen, more = parser.parse_known_args(words)
  chosen.folder.mkdir(parents=True, exist_ok=True)
  _pairs(chosen.pairs, chosen.count, chosen.folder / "pairs.jsonl")
  for way in chosen.ways.split(","):
    found = _one(way, chosen, more)
    settings = {"model": chosen.model, "pairs": chosen.pairs, "count": chosen.count, "rank": chosen.rank, **found}
    yield {"name": f"lora.{way}", "value": found["accuracy"], "unit": "share right", "settings": settings}
