"""One decode step of the engine compiled for TPU slices that are not here: cycles, bytes, and the floor beside them.

    skymath bench tpu_decode [--models=Qwen3-8B] [--slices=v5e-8] [--slots=64] [--length=2048] [--kv="as computed",int8]

Bfloat16 weights, all slots live and full. Cycles are the compiler's own estimates for the code that it made
(`preflight.program`): with sampling by top_p, without the attention kernel, without links. The floor is the reading of
a chip's weights and of what is in its slots, at the data sheet's bandwidth; beside it, of what is in the slots alone.
"""

import argparse
import dataclasses
import os
from collections.abc import Iterator
from typing import Any


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """A row for each model, slice and form of the cache."""
  parser = argparse.ArgumentParser("skymath bench tpu_decode")
  parser.add_argument("--models", default="Qwen3-8B")
  parser.add_argument("--slices", default="v5e-8")
  parser.add_argument("--slots", type=int, default=64)
  parser.add_argument("--length", type=int, default=2048)
  parser.add_argument("--kv", default="as computed,int8")
  chosen = parser.parse_args(arguments)
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # of a compiled program that was kept there is no text
  for model in chosen.models.split(","):
    for machine in chosen.slices.split(","):
      for kv in chosen.kv.split(","):
        yield _row(model, machine, kv, chosen.slots, chosen.length)


def _row(model: str, machine: str, kv: str, slots: int, length: int) -> dict[str, Any]:
  from skymath_jax import hardware
  from skymath_jax.engine.types import EngineSettings
  from skymath_jax.models.published import PUBLISHED
  from skymath_jax.preflight import program, serving

  target = hardware.find(machine)
  config = dataclasses.replace(PUBLISHED[model], dtype="bfloat16", param_dtype="bfloat16")
  settings = EngineSettings(slots=slots, max_length=length, steps_per_call=16, kv=kv)
  step = serving.lowered(config, settings, target)
  compiled = step.decode.compile()
  found, plan = program.figures(compiled.as_text()), compiled.memory_analysis()
  steps, gigabytes = settings.steps_per_call, target.chip.memory_bandwidth / 1e9
  return {
    "name": f"tpu_decode.{model}.{machine}.{kv.replace(' ', '_')}",
    "value": found.cycles / steps / 1e6,
    "unit": "million cycles a step, without the attention kernel",
    "settings": {
      "mesh": step.mesh_sizes,
      "slots": slots,
      "length": length,
      "weight_bytes": step.weight_bytes,
      "cache_bytes": step.cache_bytes,
      "temporary_bytes": plan.temp_size_in_bytes,
      "copied_bytes_a_step": round(found.copied_bytes / steps),
      "synchronous_bytes_a_step": round(found.synchronous_bytes / steps),
      "floor_ms": (step.weight_bytes + step.cache_bytes) / gigabytes / 1e6,
      "floor_of_the_cache_ms": step.cache_bytes / gigabytes / 1e6,
    },
  }
