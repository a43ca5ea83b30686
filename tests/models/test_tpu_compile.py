"""The forward pass of full-size models, compiled for eight TPU v5e chips that are not there: kernels, places, memory.

libtpu does that on any x86-64 Linux machine. Nothing is run, and no weight exists.
"""

import dataclasses
import functools
import importlib.util
import re

import jax
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax import hardware, sharding
from skymath_jax.models import Decoder, families
from skymath_jax.preflight import train
from tests.support.published import MODELS

USABLE = 15.75 * 2**30  # bytes of a v5e chip that a program can have
ROWS = 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is only for x86-64 Linux")
@pytest.mark.parametrize(
  ("name", "mesh", "length"),
  [
    ("Llama-2-7B", {"fsdp": 8}, 2048),
    ("Mistral-7B-v0.1", {"fsdp": 8}, 8192),  # twice its window
    ("DeepSeekMath-7B", {"fsdp": 8}, 2048),
    ("Qwen2.5-7B", {"fsdp": 8}, 2048),
    ("Qwen2.5-7B", {"fsdp": 2, "tensor": 4}, 2048),
    ("OLMo-3-7B", {"fsdp": 8}, 8192),  # twice its window
    ("Gemma-2-2B", {"fsdp": 8}, 8192),  # capped scores
    ("Gemma-3-4B", {"fsdp": 8}, 4096),
  ],
)
def test_the_forward_pass_compiles_for_v5e_8(name, mesh, length):
  devices = train.devices(hardware.find("v5e-8"))
  mesh = sharding.make_mesh(**mesh, devices=devices)
  config = dataclasses.replace(
    families.config_from_hf(MODELS[name]), dtype="bfloat16", param_dtype="bfloat16", attention="splash"
  )
  graph, state = nnx.split(nnx.eval_shape(functools.partial(Decoder, config)), nnx.Param)
  places = sharding.shardings_of(state, mesh)
  state = jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state, places)
  where = sharding.named(mesh, "batch", "length", shape=(ROWS, length))
  rows = jax.ShapeDtypeStruct((ROWS, length), jnp.int32, sharding=where)
  with jax.set_mesh(mesh):
    forward = jax.jit(lambda state, *arrays: nnx.merge(graph, state)(*arrays))
    program = forward.lower(state, rows, rows, rows).compile()
  plan = program.memory_analysis()
  peak = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
  print(f"{name}: {peak / 2**30:.2f} GiB a chip, {plan.argument_size_in_bytes / 2**30:.2f} of them weights")
  assert peak < USABLE
  assert plan.argument_size_in_bytes < 1.02 * 2 * config.parameters / 8 + 2**20  # weights are cut in eight
  text = program.as_text()
  assert re.search(r"custom-call\(.*tpu_custom_call", text), "attention is not the splash kernel"
  assert f"f32[{config.heads},{length},{length}]" not in text.replace(" ", "")  # no scores in memory
