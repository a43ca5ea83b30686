"""After warm-up nothing is compiled any more, whatever is asked: to compile would stop all streams for seconds.

A CPU's state has too many sizes for that: it compiles little at first, and the rest as it is asked for.
"""

import asyncio
import dataclasses
import json
import os
import random
import subprocess
import sys

import jax
import pytest
from flax import nnx

from skymath_jax import sharding
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.models import Decoder
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import CONFIG, start_server

LENGTH, CHUNK = 200, 64
COMPILED = []  # durations, since this module was imported
WAYS = {  # a CPU's engine, whose cache grows and shrinks; a TPU's, whose prefills take several prompts; both on a mesh
  "cpu": {"attention": "auto", "requests": 18},
  "tpu": {"attention": "splash"},
  "cpu-mesh": {"attention": "auto", "mesh": {"data": 2, "fsdp": 2, "tensor": 2}},
  "tpu-mesh": {"attention": "splash", "mesh": {"data": 2, "fsdp": 2, "tensor": 2}},
  "int8-mesh": {"attention": "auto", "mesh": {"data": 4, "fsdp": 1, "tensor": 2}, "weights": "int8", "kv": "int8"},
}
SLOW = [way for way in WAYS if "mesh" in WAYS[way]]


def count(name, seconds, **_):
  if name == "/jax/core/compile/backend_compile_duration":
    COMPILED.append(seconds)


def mixed_load(requests):
  """Requests of every kind of length and sampling; a few come again, so that the prefix cache is asked, too."""
  rng = random.Random(0)
  lengths, news = (1, 2, 20, 33, 64, 65, 66, 100, 129, 140, 193, 198), (1, 3, 20, 60, 190)
  samplings = ({}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9, "top_k": 5})
  made = []
  for i in range(requests):
    prompt = "".join(rng.choice("abcdefgh") for _ in range(lengths[i % len(lengths)] - 1))
    sampling = Sampling(max_tokens=rng.choice(news), seed=i, **samplings[i % 3])
    made.append(Request(id=str(i), prompt=prompt, sampling=sampling))
  return made + [dataclasses.replace(request, id=f"again {request.id}") for request in made[:6]]


def compiled_after_warm_up(attention, mesh=None, requests=48, **settings):
  """(programs compiled before the server was ready, after it, requests answered)."""
  jax.monitoring.register_event_duration_secs_listener(count)
  decoder = Decoder(dataclasses.replace(CONFIG, max_positions=LENGTH), rngs=nnx.Rngs(0)).replace(attention=attention)
  graph, state = nnx.split(decoder)  # a model that is read from files is bound to devices
  places = sharding.shardings_of(state, sharding.make_mesh(**mesh)) if mesh else jax.devices()[0]
  decoder = nnx.merge(graph, jax.device_put(state, places))
  tokenizer, before = ByteTokenizer(eos_id=None), len(COMPILED)
  shape = {"max_length": LENGTH, "steps_per_call": 5, "prefill_chunk": CHUNK}
  server = start_server(decoder, tokenizer, **shape | settings)
  ready = len(COMPILED)

  async def ask():
    client = JetStreamGenerator([f"127.0.0.1:{server.port}"], tokenizer, "m", concurrency=9)
    answers = [response async for response in client.generate(mixed_load(requests))]
    for request in mixed_load(3):  # one by one: the cache shrinks in between
      answers.append(await client.complete(request))
    await client.close()
    return answers

  try:
    answers = asyncio.run(ask())
  finally:
    server.stop()
  return ready - before, len(COMPILED) - ready, len(answers)


@pytest.mark.parametrize("way", ["cpu", *(pytest.param(way, marks=pytest.mark.slow) for way in ("tpu", *SLOW))])
def test_nothing_is_compiled_after_warm_up(way):
  flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={8 if 'mesh' in WAYS[way] else 1}"}
  flags["XLA_FLAGS"] += " --xla_backend_optimization_level=0" * (way == "cpu")  # it compiles more than it computes
  code = f"from tests.server import test_warm_up as t; print(list(t.compiled_after_warm_up(**t.WAYS[{way!r}])))"
  environment = os.environ | flags | {"JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=580)
  assert done.returncode == 0, done.stderr[-3000:]
  before, after, answers = json.loads(done.stdout.splitlines()[-1])
  assert answers == WAYS[way].get("requests", 48) + 12
  if way.startswith(("cpu", "int8")):
    assert before < (15 if way.startswith("cpu") else 80)  # rounding to 8 bits takes small programs of its own
  else:
    assert before > 20 and after == 0
