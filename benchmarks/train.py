"""One optimizer step of a 7B model on this machine's accelerators; on one GPU beside transformers with torch's AdamW.

    skymath bench train                                          # Llama-2-7B, bfloat16 states, 10 packed rows of 2,048
    skymath bench train --states=mixed --rows=8 --remat=names    # float32 master weights and second moment
    skymath bench train --model=Mistral-7B-v0.1 --rows=9         # with its window
    skymath bench train --peer=FOLDER/train_hf_torch.py          # the peer runs first, in the same call
    skymath bench train --hardware=v5p-16                        # all chips of this slice, as the 7B recipe cuts it

It is the trainer's own step on random weights and random packed rows: no data set, TensorFlow or JetStream is needed.
The peer's script prints `RESULT {"tok_s": …}`; ours and its numbers are medians of synchronised steps after two to warm
up. MFU counts 6 FLOPs a matmul weight and trained token, and attention by the real segment lengths. With `--hardware`
each machine of the slice runs the command; rows, mesh and remat are the recipe's (`--set` changes them), and what
`tpu_step` reads of the compiled step stands beside what it takes.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What an H200 needs (benchmarks/results/training.md); anything the user has set stays
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.965")
os.environ.setdefault("XLA_FLAGS", "--xla_gpu_enable_dus_accumulator_zero_init_elimination=true")

import jax
import numpy as np
from flax import nnx

from skymath_jax import distributed, hardware, sharding
from skymath_jax.config import Training
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig
from skymath_jax.models.published import PUBLISHED
from skymath_jax.preflight import program
from skymath_jax.training import metrics, optimizer, step

from . import tpu_step

STATES = {  # weights and second moment, first moment
  "bfloat16": ("bfloat16", "bfloat16"),
  "mixed": ("float32", "bfloat16"),
  "float32": ("float32", "float32"),
}
PEERS = {  # (model, states) → the strongest settings of the peer that were found on an H200
  ("Llama-2-7b-hf", "bfloat16"): "llama2-7b:4:nockpt:layer:bf16",
  ("Llama-2-7b-hf", "mixed"): "llama2-7b:2:nockpt:layer:mixed",
  ("Mistral-7B-v0.1", "bfloat16"): "mistral-7b:10:nockpt:layer:bf16",
}
TINY = DecoderConfig(vocab_size=256, embed=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=96)


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Two rows, tokens/s: one segment a row, as the peer has it, and packed; loss-bearing tokens/s and MFU beside it."""
  parser = argparse.ArgumentParser("skymath bench train")
  parser.add_argument("--model", default="Llama-2-7b-hf", choices=[*PUBLISHED, "tiny"])
  parser.add_argument("--states", default="bfloat16", choices=STATES)
  parser.add_argument("--rows", type=int, default=10)
  parser.add_argument("--length", type=int, default=2048)
  parser.add_argument("--remat", default="wide", choices=("none", "wide", "names", "full"))
  parser.add_argument("--scan", action="store_true", help="scanned instead of unrolled layers")
  parser.add_argument("--steps", type=int, default=6)
  parser.add_argument("--examples", type=int, default=4, help="segments of a packed row")
  parser.add_argument("--peer", help="path of train_hf_torch.py")
  parser.add_argument("--hardware", help="the slice that this is, such as v5p-16")
  parser.add_argument("--set", default="", help="of its recipe: config key=value, several with commas between them")
  chosen = parser.parse_args(arguments)
  if chosen.hardware:
    chosen.examples = 1  # as the rows of `tpu_step`
    yield {"name": f"train.{chosen.model}.{chosen.hardware}", "unit": "tokens/s", **on_a_slice(chosen)}
    return
  peer = peers_rate(chosen) if chosen.peer else None
  packed = argparse.Namespace(**vars(chosen))
  chosen.examples = 1
  yield {"name": f"train.{chosen.model}", "unit": "tokens/s", "peer": peer, **measure(chosen)}
  yield {"name": f"train.{chosen.model}.packed", "unit": "tokens/s", **measure(packed)}


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
  """{"value": tokens/s, "settings": …} of the trainer's step with donated state."""
  weights, first = STATES[chosen.states]
  shape = TINY if chosen.model == "tiny" else PUBLISHED[chosen.model]
  config = dataclasses.replace(
    shape, dtype="bfloat16", param_dtype=weights, remat=chosen.remat, scan_layers=chosen.scan
  )
  settings = Training(rows=chosen.rows, max_length=chosen.length, mu_dtype=first, loss_chunk=4096, betas=(0.9, 0.95))
  chain = optimizer.make(settings)
  decoder = nnx.jit(lambda: Decoder(config))()  # each weight is made where it stays
  graph, state, _ = step.placed(decoder, chain, None)
  del decoder
  made = [rows(config, chosen, rng_seed) for rng_seed in range(4)]
  lowered = functools.partial(step.train_step.lower, graph=graph, optimizer=chain, loss_chunk=settings.loss_chunk)
  return timed(chosen, config, lowered, state, made)


def on_a_slice(chosen: argparse.Namespace) -> dict[str, Any]:
  """The same over all devices of the slice that this is, cut as the 7B recipe fitted to it says."""
  distributed.initialize()
  target, recipe = hardware.find(chosen.hardware), tpu_step.recipe(chosen.hardware, chosen.set)
  if jax.device_count() != target.devices:
    raise UserError(
      f"{target.title} has {target.devices} devices, JAX sees {jax.device_count()}",
      where="--hardware",
      remedy="name the slice that this is, and run the command on all of its machines at once",
    )
  shape = TINY if chosen.model == "tiny" else PUBLISHED[chosen.model]
  config = dataclasses.replace(shape, **tpu_step.from_recipe(recipe))
  chosen.states, chosen.remat, chosen.scan = config.param_dtype, config.remat, config.scan_layers
  chosen.rows, chosen.length = recipe.training.rows, recipe.training.max_length
  chain, mesh = optimizer.make(recipe.training), sharding.make_mesh(**dataclasses.asdict(recipe.mesh))
  graph, _, places = step.placed(nnx.eval_shape(lambda: Decoder(config)), chain, mesh)
  state = jax.jit(lambda: step.init(Decoder(config), chain)[1], out_shardings=places)()
  with jax.set_mesh(mesh):
    made = [step.to_devices(rows(config, chosen, rng_seed), mesh=mesh) for rng_seed in range(4)]
    run = step.sharded(places)
    lowered = functools.partial(run.lower, graph=graph, optimizer=chain, loss_chunk=recipe.training.loss_chunk)
    found = timed(chosen, config, lowered, state, made)
  found["settings"] |= {"mesh": dict(mesh.shape), "tokens_per_second_a_device": found["value"] / target.devices}
  return found


def timed(
  chosen: argparse.Namespace, config: DecoderConfig, lower: Callable[..., Any], state: Any, made: list[dict[str, Any]]
) -> dict[str, Any]:
  """The row's value and settings, of steps over the batches `made`; `state` is given up."""
  start = time.perf_counter()
  compiled = lower(state, made[0], np.float32(0)).compile()
  compile_seconds = time.perf_counter() - start
  figures = dataclasses.asdict(program.figures(compiled.as_text())) if sharding.platform() == "tpu" else {}
  seconds, losses = [], []
  for number in range(2 + chosen.steps):
    start = time.perf_counter()
    state, result = compiled(state, made[number % 4], np.float32(1e-5))
    losses.append(result.loss.item())
    seconds.append(time.perf_counter() - start)
  facts = {"compile_seconds": compile_seconds, "losses": losses, "compiled": figures}
  return describe(chosen, config, rows(config, chosen, 0), seconds[2:], facts)


def describe(
  chosen: argparse.Namespace, config: DecoderConfig, batch: dict[str, np.ndarray], seconds: list[float], more: dict
) -> dict[str, Any]:
  """The row's value and settings."""
  tokens, trained = int((batch["segment_ids"] > 0).sum()), int((batch["loss_weights"] > 0).sum())
  median, peak = statistics.median(seconds), metrics.peak_flops()
  flops = metrics.step_flops(config, tokens, trained, metrics.attention_pairs(batch["segment_ids"]))
  settings = {key: value for key, value in vars(chosen).items() if key != "peer"}
  settings |= {
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
    "loss_tokens_per_second": round(trained / median, 1),
    "mfu": round(flops / median / peak, 4) if peak else None,
    "step_seconds": [round(s, 4) for s in (min(seconds), median, max(seconds))],
    **{key: round(value, 2) for key, value in metrics.memory().items()},
    "compile_seconds": round(more["compile_seconds"], 1),
    "loss": [round(more["losses"][0], 3), round(more["losses"][-1], 3)],
    "compiled": more["compiled"],
  }
  return {"value": round(tokens / median, 1), "settings": settings}


def rows(config: DecoderConfig, chosen: argparse.Namespace, rng_seed: int) -> dict[str, np.ndarray]:
  """A batch of full rows: `examples` equal segments each, the first third of a segment prompt."""
  rng, shape = np.random.default_rng(rng_seed), (1, chosen.rows, chosen.length)
  size = -(-chosen.length // chosen.examples)
  place = np.arange(chosen.length)
  weights = (place % size >= size // 3) if chosen.examples > 1 else np.ones(chosen.length)
  every = {"positions": place % size, "segment_ids": place // size + 1}
  batch = {key: np.broadcast_to(value, shape).astype(np.int32) for key, value in every.items()}
  batch["tokens"] = rng.integers(0, config.vocab_size, shape, dtype=np.int32)
  batch["loss_weights"] = np.broadcast_to(weights, shape).astype(np.float32)
  return batch


def peers_rate(chosen: argparse.Namespace) -> float:
  """tokens/s of the peer's script on this machine, run to its end before our model takes the memory."""
  spec = PEERS[chosen.model, chosen.states]
  path = Path(chosen.peer).resolve()
  done = subprocess.run([sys.executable, path.name, spec], cwd=path.parent, capture_output=True, text=True, check=True)
  results = [
    json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines() if line.startswith("RESULT ")
  ]
  return float(results[-1]["tok_s"])
