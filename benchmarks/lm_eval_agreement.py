"""An exported model scored by EleutherAI's lm-evaluation-harness and by `skymath evaluate`: the same number right?

    python -m venv HARNESS && HARNESS/bin/pip install torch==2.13.0 lm-eval accelerate
    skymath bench lm_eval_agreement runs/quickstart/export/stage2 --lm_eval=HARNESS/bin/lm_eval

Both run on the CPU in float32 on the problems of EXPORT/lm_eval (made by the export); with --front both ask our own
HTTP front instead, the harness as `local-completions`, ours as `--endpoint` (install lm-eval[api]). One row: how many
each counts right, how many responses are the same text, and every problem on which the verdicts differ.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import files, records
from skymath_jax.models import training_prompt
from skymath_jax.server.process import ServerProcess


def harness(lm_eval: str, export: Path, task: str, limit: int, out: Path, front: str) -> dict[str, dict]:
  """Problem id → the harness's logged sample, of the weights or, where there is one, of what `front` answers."""
  served = f"model=export,base_url={front}/v1/completions,tokenizer_backend=None,num_concurrent=16"
  weights = ["--model_args", "pretrained=.,dtype=float32", "--device", "cpu", "--batch_size", "32"]
  command = [
    lm_eval, "run", "--model", "local-completions" if front else "hf",
    *(["--model_args", served] if front else weights), "--include_path", "lm_eval",
    "--tasks", task, "--log_samples", "--output_path", os.fspath(out), *(["--limit", str(limit)] if limit else []),
  ]  # fmt: skip
  environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
  environment.pop("PYTHONPATH", None)
  subprocess.run(command, cwd=export, env=environment, check=True)
  [path] = out.rglob(f"samples_{task}_*.jsonl")
  return {row["doc"]["id"]: row for _, row in records.read_lines(path)}


def ours(export: Path, benchmark: Path, limit: int, out: Path, front: str) -> dict[str, dict]:
  """Problem id → our prediction, by the command line that a user would type."""
  command = [
    sys.executable, "-m", "skymath_jax.cli", "evaluate", "--config=quickstart", f"--model={export}",
    f"--benchmarks={benchmark}", f"--workdir={out}", f"--config.evaluation.limit={limit}",
    *([f"--endpoint={front}/v1"] if front else []),
  ]  # fmt: skip
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
  [path] = out.rglob("predictions.jsonl")
  return {row["id"]: row for _, row in records.read_lines(path)}


@contextlib.contextmanager
def serving(export: Path, *, wanted: bool) -> Iterator[str]:
  """Address of the HTTP front of a server of the export; nothing where none is wanted."""
  if not wanted:
    yield ""
    return
  command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={export}", "--port=0", "--http_port=0"]
  with ServerProcess([*command, "--max_length=1024", "--slots=16", "--exit_with_parent"]) as server:
    server.wait_until_ready(300)
    yield server.http_address


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row: how many we count right, with the harness's count as peer."""
  parser = argparse.ArgumentParser("skymath bench lm_eval_agreement")
  parser.add_argument("export", type=Path)
  parser.add_argument("--lm_eval", default="lm_eval", help="the harness's command")
  parser.add_argument("--limit", type=int, default=0, help="at most so many problems; 0 = all")
  parser.add_argument("--front", action="store_true", help="ask our HTTP front, not the weights")
  chosen = parser.parse_args(words)
  export = chosen.export.resolve()
  [task] = [path.stem for path in (export / "lm_eval").glob("*.yaml")][:1]
  with tempfile.TemporaryDirectory() as scratch, serving(export, wanted=chosen.front) as front:
    theirs = harness(chosen.lm_eval, export, task, chosen.limit, Path(scratch) / "harness", front)
    mine = ours(export, export / "lm_eval" / f"{task}.jsonl", chosen.limit, Path(scratch) / "ours", front)
  assert theirs.keys() == mine.keys(), "the two programs did not score the same problems"
  right = {id: bool(row["exact_match"]) for id, row in theirs.items()}
  texts = {id: row["resps"][0][0] for id, row in theirs.items()}
  differ = [id for id in mine if right[id] != mine[id]["correct"]]
  yield {
    "name": "lm_eval_agreement",
    "value": sum(row["correct"] for row in mine.values()),
    "unit": "right",
    "peer": sum(right.values()),
    "settings": {
      "problems": len(mine),
      "through": "HTTP front" if chosen.front else "weights",
      "same_text": sum(texts[id] == row["response"] for id, row in mine.items()),
      "verdicts_differ": [{"id": id, "lm_eval": texts[id], "skymath": mine[id]["response"]} for id in differ],
      "prompt": files.read_json(export / training_prompt.FILE),
    },
  }
