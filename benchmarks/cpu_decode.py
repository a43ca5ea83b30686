"""CPU-milliseconds of a decode step of a real model on this machine's cores, in bfloat16, all slots live.

    skymath bench cpu_decode FOLDER [--slots=256] [--length=512] [--room=768] [--calls=2] [--temperature=1]

`length` is how far each slot's keys are read, half of which are seen; `room` how far they could go. A call makes 8
steps. Peak memory is of the whole process, loading included.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax import numpy as jnp

from skymath_jax.engine import programs
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.types import EngineSettings, SamplingMode
from skymath_jax.models import hf

STEPS = 8


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row; beside other work the CPU-seconds are what compares."""
  parser = argparse.ArgumentParser("skymath bench cpu_decode")
  parser.add_argument("folder", type=Path)
  for name, default in (("slots", 256), ("length", 512), ("room", 768), ("calls", 2)):
    parser.add_argument(f"--{name}", type=int, default=default)
  parser.add_argument("--temperature", type=float, default=1.0)
  chosen = parser.parse_args(words)
  decoder, _ = hf.load(chosen.folder.expanduser(), dtype="bfloat16")
  settings = EngineSettings(slots=chosen.slots, max_length=chosen.room, steps_per_call=STEPS, give_up=True)
  engine = Engine(decoder, settings)
  mode = jnp.int32(SamplingMode.PLAIN if chosen.temperature else SamplingMode.GREEDY)
  state = jax.device_put(programs.idle_state(engine.config, chosen.slots, chosen.room, engine.kv_dtype), engine.place)

  def steps(state: programs.State, calls: int) -> programs.State:
    live = {"positions": chosen.length // 2, "remaining": chosen.room, "temperature": chosen.temperature}
    fields = {name: jnp.full_like(getattr(state, name), value) for name, value in live.items()}
    held = {name: getattr(state, name) for name in programs.State.__annotations__}
    state = jax.device_put(programs.State(**(held | fields)), engine.place)
    for _ in range(calls):
      state, _ = engine.programs.generate(engine.params, state, mode, engine.stop_ids, length=chosen.length)
    return jax.block_until_ready(state)

  state = steps(state, 1)
  cpu, clock = time.process_time(), time.perf_counter()
  steps(state, chosen.calls)
  cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
  made = STEPS * chosen.calls
  yield {
    "name": f"cpu_decode.{chosen.folder.name}.{chosen.slots}",
    "value": round(1e3 * cpu / made),
    "unit": "CPU-ms a step",
    "settings": {
      "length": chosen.length,
      "room": chosen.room,
      "temperature": chosen.temperature,
      "ms_by_the_clock": round(1e3 * clock / made),
      "tokens_per_second": round(made * chosen.slots / clock, 1),
      "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1),
    },
  }
