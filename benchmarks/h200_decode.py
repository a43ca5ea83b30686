"""Generation of a 7B model on one GPU: 512 prompts of 100–300 tokens, 256–512 new tokens each, bfloat16, greedy.

    skymath bench h200_decode [--model=llama2-7b|mistral-7b] [--slots=256] [--kv=int8] [--engine_only]
    beside it, the peer: python decode_hf_torch.py cb llama2-7b fa2 512   (transformers' continuous batching)

Random weights, lengths forced: the workload of the measurements that the targets come from (Llama-2-7B 12,000 and
Mistral-7B 20,000 new tokens/s end to end, JetStream's path at least 95 % of the engine's). Rows: the bare engine loop
and the same through gRPC, whose client is a process of its own. `--model=tiny` is a dry run for a CPU;
`--engine_only` leaves gRPC out and runs where JetStream is not installed.
"""

import argparse
import dataclasses
import os
import random
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

import jax
from flax import nnx

from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings
from skymath_jax.engine.warm_up import warm_up
from skymath_jax.models import Decoder, DecoderConfig
from skymath_jax.testing.tokenizers import CodePointTokenizer

from . import serving_bare

LLAMA2 = DecoderConfig(
  vocab_size=32_000, embed=4096, layers=32, heads=32, kv_heads=32, head_dim=128, mlp=11_008,
  dtype="bfloat16", param_dtype="bfloat16", scan_layers=False,
)  # fmt: skip
MODELS = {
  "llama2-7b": LLAMA2,
  "mistral-7b": dataclasses.replace(LLAMA2, kv_heads=8, mlp=14_336),  # its window is longer than these sequences
  "tiny": dataclasses.replace(LLAMA2, embed=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=128, vocab_size=512),
}
SLOTS = {"llama2-7b": 256, "mistral-7b": 512, "tiny": 8}
Work: TypeAlias = list[tuple[str, int, int]]  # (prompt, new tokens, sampling seed)
MAX_LENGTH = 832  # 300 + 512, in whole blocks of the decode kernel


def workload(vocab: int, count: int, *, rng_seed: int = 0) -> Work:
  """`count` requests; a prompt is a text whose code points are its tokens."""
  rng = random.Random(rng_seed)
  lengths = [(rng.randint(100, 300), rng.randint(256, 512)) for _ in range(count)]
  return [("".join(chr(rng.randrange(3, vocab)) for _ in range(n)), new, 0) for n, new in lengths]


def through_grpc(decoder: Decoder, settings: EngineSettings, work: Work) -> float:
  """New tokens/s of the same workload through JetStream, its client a process of its own."""
  from skymath_jax.server import serve as server_lib
  from skymath_jax.server.settings import ServerSettings

  from . import serving_client  # these bring gRPC and JetStream in

  server = server_lib.start(decoder, CodePointTokenizer(), "random", settings, ServerSettings(port=0))
  try:
    return serving_client.rate(f"127.0.0.1:{server.port}", work, concurrency=2 * settings.slots)
  finally:
    server.stop()


def alone(decoder: Decoder, settings: EngineSettings, work: Work) -> tuple[float, float]:
  """New tokens/s of the engine itself, and the seconds that it took to compile."""
  start, engine = time.perf_counter(), Engine(decoder, settings)
  if jax.default_backend() != "cpu":  # a dry run compiles only what it needs
    warm_up(engine)
  compiled = time.perf_counter() - start
  slots, prompts = Slots(engine), serving_bare.prompts_of(CodePointTokenizer(), work, 0.0)
  serving_bare.rate(engine, slots, [dataclasses.replace(p, max_tokens=40) for p in prompts[: settings.slots + 8]])
  return serving_bare.rate(engine, slots, prompts), compiled


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: engine, then gRPC with the engine as peer."""
  parser = argparse.ArgumentParser("skymath bench h200_decode")
  parser.add_argument("--model", choices=MODELS, default="llama2-7b")
  parser.add_argument("--slots", type=int, default=0)
  parser.add_argument("--requests", type=int, default=512)
  parser.add_argument("--kv", choices=("as computed", "int8"), default="as computed")
  parser.add_argument("--weights", choices=("as stored", "int8"), default="as stored")
  parser.add_argument("--engine_only", action="store_true")
  chosen = parser.parse_args(arguments)
  decoder = nnx.jit(lambda: Decoder(MODELS[chosen.model], rngs=nnx.Rngs(0)))()
  shape = {"max_length": MAX_LENGTH, "prefill_chunk": 1024, "prefix_tokens": 0, "steps_per_call": 32}
  settings = EngineSettings(slots=chosen.slots or SLOTS[chosen.model], kv=chosen.kv, weights=chosen.weights, **shape)
  work = workload(MODELS[chosen.model].vocab_size, chosen.requests)
  engine, seconds = alone(decoder, settings, work)  # its slots are given up before the server's are made
  facts = {
    "device": jax.devices()[0].device_kind,
    "slots": settings.slots,
    "requests": chosen.requests,
    "new_tokens": sum(new for _, new, _ in work),
    "kv": chosen.kv,
    "weights": chosen.weights,
    "start_seconds": round(seconds, 1),
  }
  name = f"h200_decode.{chosen.model}"
  yield {"name": f"{name}.engine", "value": round(engine, 1), "unit": "new tokens/s", "settings": facts}
  if not chosen.engine_only:
    served = through_grpc(decoder, settings, work)
    yield {"name": f"{name}.grpc", "value": round(served, 1), "unit": "new tokens/s", "peer": round(engine, 1)}
