"""The train step compiled for TPU slices that are not here: cycles, bytes moved, memory; MaxText's beside it.

    skymath bench tpu_step [--models=Llama-2-7b-hf] [--slices=v5e-16,v5p-16] [--set=training.loss_chunk=256]
    skymath bench tpu_step --peer=FOLDER/mt.py --python=ENVIRONMENT/bin/python
    skymath bench tpu_step --models=Qwen3-8B --tunix=ENVIRONMENT/bin/python

The settings are those of the shipped 7B recipes for the slice: 8 rows of 2,048 with segment ids, float32 master weights
and Adam, bfloat16 compute, clipping. `--peer` names a script that compiles MaxText's step with the words given here and
writes OUT.hlo and OUT.json; `--python` has MaxText, and compiles ours, too, so that both have one compiler. Cycles are
the compiler's own estimates, loops times their trips, without kernels and links (`preflight.program`).
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax.cli import bench, shipped

RECIPE = "skywork_llama2_7b"
MAXTEXT = {  # model → its name there, slice → how it is cut there as our recipe cuts it
  "Llama-2-7b-hf": "llama2-7b", "Mistral-7B-v0.1": "mistral-7b", "Qwen3-8B": "qwen3-8b",
}  # fmt: skip
COMMON = (
  "compile_topology_num_slices=1", "max_target_length=2048", "attention=flash", "dtype=bfloat16",
  "weight_dtype=float32", "opt_type=adamw", "adam_b2=0.999", "adam_weight_decay=0.0", "gradient_clipping_threshold=1.0",
  "packing=true", "enable_checkpointing=false", "run_name=x", "ici_fsdp_parallelism=8", "sa_use_fused_bwd_kernel=true",
  "remat_policy=custom", "query_proj=device", "key_proj=device", "value_proj=device", "context=device",
)  # fmt: skip
KEPT = ("mlpwi_0=device", "mlpwi_1=device", "out_proj=device")  # what our remat `wide` keeps beside
TUNED = ("param_scan_axis=0",)


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """A row for each model and slice: our cycles, the tuned peer's, and everything else in the settings."""
  parser = argparse.ArgumentParser("skymath bench tpu_step")
  parser.add_argument("--models", default="Llama-2-7b-hf")
  parser.add_argument("--slices", default="v5e-16,v5p-16")
  parser.add_argument("--set", default="", help="config key=value, several with commas between them")
  parser.add_argument("--peer", help="path of mt.py")
  parser.add_argument("--python", default=sys.executable)
  parser.add_argument("--tunix", help="python that has google-tunix: its step of Qwen3-8B beside ours")
  chosen = parser.parse_args(arguments)
  for model in chosen.models.split(","):
    for machine in chosen.slices.split(","):
      yield _row(model, machine, chosen)


def _row(model: str, machine: str, chosen: argparse.Namespace) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as folder:
    ours = _compiled([chosen.python, *bench.in_child("tpu_step", "child", model, machine, chosen.set)[1:]], folder)
    shipped_peer, tuned = ({}, {})
    if chosen.peer:
      words = [chosen.python, str(Path(chosen.peer).absolute()), "out", *_maxtext(model, machine)]
      shipped_peer, tuned = (_or_failed(command, folder) for command in (words, [*words, *TUNED]))
    tunix = _or_failed([chosen.tunix, *_tunix(machine)], folder) if chosen.tunix and model == "Qwen3-8B" else {}
  return {
    "name": f"tpu_step.{model}.{machine}",
    "value": ours["cycles"] / 1e6,
    "unit": "million cycles a device",
    "peer": tuned["cycles"] / 1e6 if "cycles" in tuned else None,
    "settings": {"set": chosen.set, "ours": ours, "maxtext": shipped_peer, "maxtext_tuned": tuned, "tunix": tunix},
  }


def _or_failed(command: list[str], folder: str) -> dict[str, Any]:
  """What a peer compiled, or what it ended with."""
  try:
    return _compiled(command, folder)
  except RuntimeError as error:
    return {"failed": str(error).strip().splitlines()[-1][:300]}


def _compiled(command: list[str], folder: str) -> dict[str, Any]:
  """Figures of what a child compiled in the folder, which it leaves as out.hlo and out.json."""
  from skymath_jax.preflight import program

  root = str(Path(__file__).parents[1])
  environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
  environment.pop("TPU_LIBRARY_PATH", None)  # of this process's libtpu
  start = time.perf_counter()
  done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(f"{command[:3]}: {done.stderr[-3000:]}")
  found = dataclasses.asdict(program.figures((Path(folder) / "out.hlo").read_text()))
  memory = json.loads((Path(folder) / "out.json").read_text())["mem"]
  held = memory["argument_size_in_bytes"] + memory["output_size_in_bytes"] - memory["alias_size_in_bytes"]
  found |= {"temporary_bytes": memory["temp_size_in_bytes"], "held_bytes": held}
  return found | {"seconds": round(time.perf_counter() - start)}


def child(model: str, machine: str, changes: str) -> None:
  """Compiles our step; leaves out.hlo and out.json in the working folder."""
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  from skymath_jax import hardware, sharding
  from skymath_jax.models.published import PUBLISHED
  from skymath_jax.preflight import train

  settings = recipe(machine, changes)
  shape = dataclasses.replace(PUBLISHED[model], **from_recipe(settings), attention="splash")
  mesh = sharding.make_mesh(**dataclasses.asdict(settings.mesh), devices=train.devices(hardware.find(machine)))
  compiled = train.lower(shape, settings.training, mesh).compile()
  keep(compiled)


def keep(compiled: Any) -> None:
  """Leaves what `_compiled` reads in the working folder."""
  Path("out.hlo").write_text(compiled.as_text())
  plan: Any = compiled.memory_analysis()
  sizes = {name: getattr(plan, name) for name in dir(plan) if name.endswith("_in_bytes")}
  Path("out.json").write_text(json.dumps({"mem": sizes}))


def recipe(machine: str, changes: str = "") -> Any:
  """The shipped recipe, fitted to the slice; `changes` is KEY=VALUE, several with commas between them."""
  from skymath_jax import config as config_lib

  fitted = config_lib.resolve(config_lib.load(shipped.folder("configs") / f"{RECIPE}.py", machine))
  pairs = (pair.split("=") for pair in filter(None, changes.split(",")))
  return config_lib.changed(fitted, {key: json.loads(value) for key, value in pairs})


def from_recipe(settings: Any) -> dict[str, Any]:
  """What a recipe says of a decoder, whichever model it is."""
  return {name: getattr(settings.model, name) for name in ("dtype", "param_dtype", "remat", "scan_layers")}


def _maxtext(model: str, machine: str) -> list[str]:
  """Words that give MaxText our recipe's settings on this slice."""
  from skymath_jax import hardware

  ours, devices = recipe(machine), hardware.find(machine).devices
  words = [f"compile_topology={machine}", f"model_name={MAXTEXT[model]}", "base_output_directory=out", *COMMON]
  words += [f"per_device_batch_size={ours.training.rows / devices}"]
  if ours.mesh.tensor > 1:
    words += [f"ici_tensor_parallelism={ours.mesh.tensor}", "allow_split_physical_axes=true"]
  return words + (list(KEPT) if ours.model.remat == "wide" else [])


def _tunix(machine: str) -> list[str]:
  """Words that give Tunix the same."""
  ours = recipe(machine)
  sizes = (ours.mesh.fsdp, ours.mesh.tensor, ours.training.rows, ours.training.max_length)
  return [str(Path(__file__).with_name("tpu_step_tunix.py")), machine, *map(str, sizes)]
