"""Decode attention alone, compiled for a TPU that is not here: JAX's two paged kernels beside ours.

    skymath bench tpu_decode_kernel [--slice=v5e-8] [--heads=4/1,32/8] [--slots=64] [--length=2048]

What libtpu makes of a kernel is bundles of instructions, one a cycle where nothing waits. Here those of each loop are
counted, all branches of it, times the loop's trips when every slot is full; where a chip has two cores, of the one that
has most to do. The floor is the reading of all keys and values at the data sheet's bandwidth, in cycles of the chip's
clock where that is published. A kernel reads the next block while it computes on this one, so below the floor it waits
for memory alone; whether its reads run at full speed only a chip can say. JAX's kernels are given the block that takes
them the fewest cycles.
"""

import argparse
import json
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax.cli import bench

HEAD_DIM, PAGE = 128, 128
CLOCK = {"v4": 1.05e9, "v5e": 1.5e9, "v5p": 1.75e9}  # the data sheet's FLOP/s over what the matrix units do in a cycle
KERNELS = {"ours": ("",), "paged": ("2", "4", "8", "16"), "ragged_paged": ("2", "4", "8", "16")}  # pages of a block
FLAGS = "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true --xla_jf_dump_hlo_text=false"
BUNDLE = re.compile(r"\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:\s*(>*)")  # an arrow for each loop that it is in


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """A row for each way of cutting the heads; `peer` is the better of JAX's kernels."""
  parser = argparse.ArgumentParser("skymath bench tpu_decode_kernel")
  parser.add_argument("--slice", default="v5e-8")
  parser.add_argument("--heads", default="4/1,32/8", help="query heads/key heads of a device, several with commas")
  parser.add_argument("--slots", type=int, default=64)
  parser.add_argument("--length", type=int, default=2048)
  chosen = parser.parse_args(arguments)
  for heads in chosen.heads.split(","):
    sizes = (chosen.slice, heads, str(chosen.slots), str(chosen.length))
    best = {name: min((_tried(name, b, *sizes) for b in blocks), key=_cycles) for name, blocks in KERNELS.items()}
    peer = min(_cycles(found) for name, found in best.items() if name != "ours")
    yield {
      "name": f"tpu_decode_kernel.{chosen.slice}.{heads.replace('/', '_')}",
      "value": best["ours"]["cycles"],
      "unit": "cycles",
      "peer": peer if math.isfinite(peer) else None,
      "settings": {"slots": chosen.slots, "length": chosen.length, **best},
    }


def _cycles(found: dict[str, Any]) -> float:
  return float(found.get("cycles", "inf"))


def _tried(kernel: str, block: str, *sizes: str) -> dict[str, Any]:
  """What a process of its own compiles: libtpu reads when it starts where its schedules are to be written."""
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "LIBTPU_INIT_ARGS": FLAGS.format(folder)}
    command = bench.in_child("tpu_decode_kernel", "child", kernel, block, *sizes)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and kernel == "ours":
      raise RuntimeError(done.stderr[-3000:])
    if done.returncode:
      return {"block": block, "failed": done.stderr.strip()[-300:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    (schedule,) = Path(folder).glob(f"*-{found.pop('program')}.*-*[0-9]-final_bundles.txt")
    loops = [len(m[1]) for line in schedule.read_text().splitlines() if (m := BUNDLE.match(line))]
  bundles = [loops.count(depth) for depth in range(max(loops) + 1)]
  trips = found["trips"] + found["trips"][-1:] * (len(bundles) - len(found["trips"]))  # inner ones: starts of reads
  return {
    "block": block,
    "cycles": sum(n * t for n, t in zip(bundles, trips, strict=True)),
    "bundles": bundles,
    **found,
  }


def child(kernel: str, block: str, slice_name: str, heads: str, slots: str, length: str) -> None:
  """Compiles one kernel and prints its sizes: `trips` of the loops, outermost first, of which the first is no loop."""
  import jax
  import numpy as np
  from jax import numpy as jnp
  from jax.experimental.pallas import tpu as pltpu
  from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention
  from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

  from skymath_jax import hardware, sharding
  from skymath_jax.models import ragged_tpu
  from skymath_jax.preflight import train

  target = hardware.find(slice_name)
  mesh = sharding.make_mesh(devices=train.devices(target)[:1])
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  with jax.set_mesh(mesh):
    cores = pltpu.get_tpu_info().num_cores
  H, K = map(int, heads.split("/"))
  S, L, D, pages = int(slots), int(length), HEAD_DIM, int(block or 1)

  def array(*shape: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=whole)

  q, lengths, table = array(S, H, D), array(S, dtype=np.int32), array(S, L // PAGE, dtype=np.int32)
  blocks, how = -(-L // PAGE // pages), {}
  if kernel == "ours":
    program, run, cache = "ragged_decode", jax.jit(ragged_tpu.attention, static_argnames="longest"), array(S, L, K * D)
    with jax.set_mesh(mesh):
      trips = [1, S // cores * L // ragged_tpu.block_size(L, K * D * 2)]
    arguments, how = (q, cache, cache, lengths), {"longest": L}
  elif kernel == "paged":
    program, run, cache = "paged_attention", paged_attention, array(K, S * L // PAGE, PAGE, D)
    trips = [1, S // cores * K, S // cores * K * blocks]
    arguments = (q, cache, cache, lengths, table)
    how = {"pages_per_compute_block": pages, "megacore_mode": "batch" if cores > 1 else None}
  else:
    program, run, queries = "ragged_paged_attention_kernel", ragged_paged_attention, 8
    trips = [1, S // queries, S, S * blocks]  # all on one core
    starts, live = array(S + 1, dtype=np.int32), array(1, dtype=np.int32)
    arguments = (q, array(S * L // PAGE, PAGE, 2 * K, D), lengths, table, starts, live)
    how = {"num_kv_pages_per_block": pages, "num_queries_per_block": queries, "vmem_limit_bytes": 2**26}
  with jax.set_mesh(mesh):
    plan = run.lower(*arguments, **how).compile().memory_analysis()
  found = {"program": program, "trips": trips, "temporary_bytes": plan.temp_size_in_bytes}
  if clock := CLOCK.get(slice_name.split("-")[0]):
    found["floor"] = round(S * L * K * D * 2 * 2 / target.chip.memory_bandwidth * clock)
  print(json.dumps(found))
