"""The engine's decode and prefill, compiled by libtpu for a slice that is not here."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from skymath_jax.engine import plan
from skymath_jax.engine.types import EngineSettings
from skymath_jax.hardware import find
from skymath_jax.models.published import PUBLISHED

COMPILE = """
import dataclasses, json, sys
from skymath_jax.models import DecoderConfig
from skymath_jax.hardware import find
from skymath_jax.preflight import serving
from skymath_jax.engine.types import EngineSettings
LLAMA2 = DecoderConfig(vocab_size=32000, embed=4096, layers=int(sys.argv[3]), heads=32, kv_heads=32, head_dim=128,
                       mlp=11008, dtype="bfloat16", param_dtype="bfloat16", scan_layers=False)
MISTRAL = dataclasses.replace(LLAMA2, kv_heads=8, mlp=14336, window=4096, max_positions=32768)
config = {"llama2": LLAMA2, "mistral": MISTRAL}[sys.argv[1]]
report = serving.check(config, EngineSettings(slots=64, max_length=2048, steps_per_call=8), find(sys.argv[2]))
print(json.dumps(dataclasses.asdict(report)))
"""


def compiled(model, topology, layers):
  command = [sys.executable, "-c", COMPILE, model, topology, str(layers)]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("topology", ["v5e-8", "v4-8"])
@pytest.mark.parametrize("model", ["llama2", "mistral"])
def test_7b_models_serve_from_a_slice(model, topology):
  """Prints how many slots fit: `pytest -s`."""
  report = compiled(model, topology, 32)
  print(model, json.dumps(report))
  kv_heads = {"llama2": 32, "mistral": 8}[model]
  chips = {"v5e-8": 8, "v4-8": 4}[topology]
  assert report["mesh"]["tensor"] == chips and report["fits"]
  assert report["bytes_per_token"] == 2 * 32 * kv_heads * 128 * 2 // chips
  assert report["cache_bytes"] == 64 * 2048 * report["bytes_per_token"]
  assert report["kept_bytes"] == 2 * 4096 * report["bytes_per_token"]
  assert report["peak_bytes_per_chip"] >= sum(report[f"{part}_bytes"] for part in ("weight", "cache", "kept"))
  assert report["temporary_bytes"] < report["cache_bytes"] / 8  # no second copy of it
  assert report["slots_of_max_length"] > 40


@pytest.mark.parametrize(
  ("name", "topology", "sizes"),
  [
    ("gemma-3-4b-pt", "v5e-8", (2, 4)),  # 4 key-value heads of 8 query heads: 8 × copies of all that is in the slots
    ("Olmo-3-1025-7B", "v5e-8", (1, 8)),  # a vocabulary that divides by 2 alone is cut along embed
    ("Llama-3.1-8B", "v5e-8", (1, 8)),
    ("Qwen2.5-Math-7B-Instruct", "v5e-8", (2, 4)),
    ("Qwen3-30B-A3B-Base", "v5e-8", (1, 8)),  # a quarter of its weights would fill a chip
    ("Qwen3-30B-A3B-Base", "tpu7x-8", (2, 4)),
    ("gemma-3-1b-pt", "v6e-8", (8, 1)),  # one key-value head
  ],
)
def test_keys_and_values_lie_once_on_all_chips_unless_the_weights_need_the_room(name, topology, sizes):
  config, target = dataclasses.replace(PUBLISHED[name], param_dtype="bfloat16"), find(topology)
  found = plan.mesh_sizes(
    config, EngineSettings(slots=64, max_length=2048, steps_per_call=8), target.devices, target.chip.usable_bytes
  )
  assert (found["data"], found["tensor"]) == sizes and found["fsdp"] == 1
