"""What JetStream and gRPC cost on top of the engine: tokens/s through the server against the bare engine loop.

    skymath bench serving_overhead [--only=model|7b|7b_short] [--requests=N] [--repeats=3]

`model`: the bundled micro teacher, 64 slots, on this machine's CPU, which engine, server and client share. `7b`: an
engine that takes 12 ms a step for 256 slots and leaves the host alone meanwhile, as an accelerator does; prompts of 100
to 300 tokens, answers of 64 to 192 (`7b_short`: 20 to 60). The bare loop fills free slots, steps and reads, in one
thread and with no more bookkeeping than that. Server and client are processes of their own. Bare and served runs take
turns; medians are compared. The peer in each row is the bare loop.
"""

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from skymath_jax import models
from skymath_jax.cli import bench
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings
from skymath_jax.engine.warm_up import warm_up
from skymath_jax.server.serve import start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.null_engine import NullEngine, NullSlots
from skymath_jax.testing.tokenizers import CodePointTokenizer

from . import serving_bare, serving_client

MODEL = "asset:micro_teacher"
STEP_SECONDS, SLOTS = 0.012, {"model": 64, "7b": 256, "7b_short": 256}
NEW_TOKENS = {"model": (64, 192), "7b": (64, 192), "7b_short": (20, 60)}
REQUESTS = {"model": 512, "7b": 1024, "7b_short": 3072}  # several seconds of work


def engine_of(kind: str) -> tuple[Any, Any, Any]:
  """(engine, slots, tokenizer); compiled where there is something to compile."""
  if kind != "model":
    return NullEngine(), NullSlots(SLOTS[kind], step_seconds=STEP_SECONDS), CodePointTokenizer()
  decoder, tokenizer = models.load_any(MODEL)
  tokenizer.eos_id = None  # lengths are forced
  engine = Engine(decoder, EngineSettings(slots=SLOTS[kind], max_length=256, steps_per_call=16))
  warm_up(engine)
  return engine, Slots(engine), tokenizer


def workload(kind: str, count: int) -> list[tuple[str, int, int]]:
  """(prompt, new tokens, seed); lengths are forced."""
  rng = random.Random(0)
  if kind != "model":
    return [
      ("".join(chr(97 + rng.randrange(26)) for _ in range(rng.randint(100, 300))), rng.randint(*NEW_TOKENS[kind]), 0)
      for _ in range(count)
    ]
  names = ("Ava", "Ben", "Cleo", "Dan")
  texts = [
    f"{rng.choice(names)} has {rng.randint(2, 60)} pens and buys {rng.randint(2, 60)} more. How many pens now?\n"
    for _ in range(count)
  ]
  return [(text, rng.randint(*NEW_TOKENS[kind]), number) for number, text in enumerate(texts)]


def serve(kind: str) -> None:
  """The server's process, until standard input closes."""
  server = start_engine(*engine_of(kind), "m", ServerSettings(port=0))
  print(server.port, flush=True)
  sys.stdin.read()
  server.stop()


@contextlib.contextmanager
def server_process(kind: str) -> Iterator[str]:
  """The address of a server in a process of its own."""
  process = subprocess.Popen(
    bench.in_child("serving_overhead", "serve", kind), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  try:
    yield f"127.0.0.1:{int(process.stdout.readline())}"
  finally:
    process.stdin.close()
    process.wait(60)


def measure(kind: str, count: int, repeats: int) -> dict[str, Any]:
  """One row: served tokens/s, with the bare loop's as peer."""
  work, rates = workload(kind, count), {"bare": [], "served": []}
  engine, slots, tokenizer = engine_of(kind)
  temperature, folder = (1.0, str(models.resolve(MODEL))) if kind == "model" else (0.0, "")
  asked = {"concurrency": 4 * SLOTS[kind], "temperature": temperature, "tokenizer": folder}
  prompts = serving_bare.prompts_of(tokenizer, work, temperature)
  with server_process(kind) as address:
    for number in range(repeats + 1):
      alone = serving_bare.rate(engine, slots, prompts)
      through = serving_client.rate(address, work, **asked)
      if number:  # the first round warms up
        rates["bare"].append(alone)
        rates["served"].append(through)
  settings = {"slots": SLOTS[kind], "requests": count, "concurrency": 4 * SLOTS[kind]}
  settings |= {name: [round(rate) for rate in found] for name, found in rates.items()}
  middle = {name: round(statistics.median(found), 1) for name, found in rates.items()}
  return {
    "name": f"serving.overhead.{kind}",
    "value": middle["served"],
    "unit": "tokens/s",
    "peer": middle["bare"],
    "settings": settings,
  }


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: the model on this CPU, and the 7B-sized step."""
  parser = argparse.ArgumentParser("skymath bench serving_overhead")
  parser.add_argument("--requests", type=int, default=0)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--only", choices=tuple(SLOTS), default=None)
  chosen = parser.parse_args(arguments)
  for kind in [chosen.only] if chosen.only else SLOTS:
    yield measure(kind, chosen.requests or REQUESTS[kind], chosen.repeats)
