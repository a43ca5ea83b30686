"""`skymath bench NAME …`: the claims of this project as numbers, one JSON line a measurement.

A claim is one file in `benchmarks/` of the repository with a function that takes the command line's remaining words and
yields rows; this table names it. Nothing is imported before its name is asked for.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from skymath_jax.errors import UsageError, UserError

FOLDER = Path(__file__).parents[2] / "benchmarks"

# name → (file:function in benchmarks/, whether it ends in minutes on any machine, what it measures)
BENCHMARKS = {
  "train": ("train.py:run", False, "tokens/s of the 7B train step on this machine's accelerator, and of a peer"),
  "input": ("input.py:run", True, "packing fill, examples/s, and tokens/s of the input pipeline alone"),
  "serving_overhead": ("serving_overhead.py:run", True, "tokens/s through JetStream and gRPC against the bare engine"),
  "serving_quality": ("serving_quality.py:run", True, "what 8-bit weights and caches cost in accuracy"),
  "jetstream_client": ("jetstream_client.py:run", True, "JetStream's own benchmark client against our server"),
  "h200_decode": ("h200_decode.py:run", False, "7B generation on one GPU, engine and gRPC"),
  "serving_soak": ("serving_soak.py:run", False, "last-slot drains and start–stop cycles that the server survives"),
  "serving_fuzz": ("serving_fuzz.py:run", False, "malformed gRPC and HTTP requests that the server survives"),
  "serving_load": ("serving_load.py:run", False, "2,000 clients for ten minutes, some vanishing, some malformed"),
}
KEYS = ("name", "value", "unit", "peer", "ratio", "settings")


def bench(argv: Sequence[str]) -> int:
  """`skymath bench`: without a name, all that end in minutes on any machine; words after a name go to it."""
  if "--help" in argv or "-h" in argv:
    print(f"usage: skymath bench [NAME [--ITS_FLAG=VALUE …]]\n\n{_table()}")
    raise SystemExit(0)
  name, *rest = argv[1:] or [""]
  if name and name not in BENCHMARKS:
    raise UsageError(f"there is no benchmark {name!r}; it is one of: {', '.join(BENCHMARKS)}.")
  for chosen in [name] if name else [key for key, (_, anywhere, _) in BENCHMARKS.items() if anywhere]:
    for row in function_of(chosen)(rest):
      print(json.dumps(line(row)), flush=True)
  return 0


def function_of(name: str) -> Callable[[list[str]], Iterable[dict[str, Any]]]:
  """The function of a benchmark; `UserError` where the repository's folder is not at hand."""
  file, _, function = BENCHMARKS[name][0].partition(":")
  path = FOLDER / file
  if not path.exists():
    raise UserError("no such file", where=path, remedy="benchmarks run from a clone of the repository: make bench")
  spec = importlib.util.spec_from_file_location(f"skymath_benchmark_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # dataclasses look their module up
  spec.loader.exec_module(module)
  return getattr(module, function)


def line(row: dict[str, Any]) -> dict[str, Any]:
  """A row with all keys in order: `peer` is the other's value under the same settings, `ratio` ours over the peer's."""
  full = {"peer": None, "settings": {}, **row}
  if "ratio" not in full:
    full["ratio"] = full["value"] / full["peer"] if full["peer"] else None
  if unknown := full.keys() - set(KEYS):
    raise ValueError(f"a benchmark row has the key {min(unknown)!r}; put it into settings")
  return {key: full[key] for key in KEYS}


def _table() -> str:
  rows = [f"  {name:<18}{text}{'' if anywhere else ' *'}" for name, (_, anywhere, text) in BENCHMARKS.items()]
  return "\n".join([*rows, "\n  * only when named: needs an accelerator, much time or a peer"])
