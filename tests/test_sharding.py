"""Sharding on 8 fake devices, in a process of its own since the number of devices is fixed at start."""

import json
import os
import subprocess
import sys

import jax
import pytest
from jax.sharding import PartitionSpec

from skymath_jax import sharding
from skymath_jax.errors import UserError

PROGRAM = """
import json, sys
import jax, numpy as np
from flax import nnx
from jax import numpy as jnp
from skymath_jax import sharding, tokenizer
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, cache, hf

folder, out = sys.argv[1], {}
config = DecoderConfig(vocab_size=320, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48, remat="names")
alone = Decoder(config)
words = tokenizer.train_sentencepiece(["one two three 123\\n"] * 9, folder, vocab_size=275, fixed=[])
hf.save(alone, folder + "/m", words)
x = jnp.asarray(np.random.default_rng(0).integers(0, 320, (8, 16)))
read = lambda name: open(f"{folder}/{name}/model.safetensors", "rb").read()
run = nnx.jit(lambda m, x: m(x))
loss = nnx.jit(nnx.grad(lambda m, x: jnp.square(m(x)).mean()))
step = nnx.jit(lambda m, c, t, p: m.decode(t, c, p, length=4))
want = run(alone, x)
want_grads = nnx.to_pure_dict(loss(alone, x))
want_step = step(alone, cache.init(config, 8, 8), x[:, 0], jnp.zeros(8, int))[0]
for sizes in json.loads(sys.argv[2]):
  mesh = sharding.make_mesh(**sizes)
  model, _ = hf.load(folder + "/m", mesh=mesh)
  with jax.set_mesh(mesh):
    placed = jax.device_put(x, sharding.named(mesh, "batch", "length", shape=x.shape))
    logits, grads = run(model, placed), nnx.to_pure_dict(loss(model, placed))
    held = jax.jit(lambda: cache.init(config, 8, 8))()
    first = step(model, held, x[:, 0], jnp.zeros(8, int))[0]
  hf.save(model, folder + "/again", words)
  gap = lambda p, q: float(np.abs(np.asarray(p) - np.asarray(q)).max())
  diff = lambda a, b: max(jax.tree.leaves(jax.tree.map(gap, a, b)))
  out[json.dumps(sizes)] = {
    "logits": diff(logits, want), "grads": diff(grads, want_grads), "step": diff(first, want_step),
    "gate": list(model.layers.gate[...].sharding.spec), "k": list(model.layers.k[...].sharding.spec),
    "shard": list(model.layers.gate[...].addressable_shards[0].data.shape),
    "cache": str(held[0][0].sharding.spec), "logits_spec": str(logits.sharding.spec),
    "file": read("m") == read("again"),
  }
try:
  hf.load(folder + "/m", mesh=sharding.make_mesh(fsdp=1, tensor=8))
except UserError as error:
  out["refused"] = str(error)
print(json.dumps(out))
"""


MESHES = [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 1, "tensor": 4}]
WIDE = json.dumps(MESHES[1])  # a tensor axis wider than the number of key-value heads


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  env = os.environ | {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
    "JAX_PLATFORMS": "cpu",
  }
  command = [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("sharded")), json.dumps(MESHES)]
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("sizes", MESHES)
def test_every_mesh_computes_the_same(measured, sizes):
  row = measured[json.dumps(sizes)]
  assert row["logits"] <= 1e-5
  assert row["grads"] <= 1e-5
  assert row["step"] <= 1e-5
  assert row["file"], "export of sharded weights differs from the folder they came from"


def test_weights_lie_where_the_table_says(measured):
  both = measured[json.dumps({"fsdp": 4, "tensor": 2})]
  assert both["gate"] == [None, "fsdp", "tensor"]
  assert both["shard"] == [2, 32 // 4, 48 // 2]
  assert both["k"] == [None, "fsdp", "tensor"]
  assert "'fsdp'" in both["cache"] and "'tensor'" in both["cache"]
  assert "'fsdp'" in both["logits_spec"]


def test_where_kv_heads_are_fewer_than_the_tensor_axis_is_wide_embed_is_cut(measured):
  assert measured[WIDE]["k"] == [None, "tensor"]
  assert measured[WIDE]["gate"] == [None, None, "tensor"]


def test_an_indivisible_weight_is_named_with_a_remedy(measured):
  assert "heads = 4 of weight layers." in measured["refused"]
  assert "size 8" in measured["refused"]
  assert "smaller mesh axis" in measured["refused"]


@pytest.mark.parametrize("sizes", [{"fsdp": 3}, {"data": -1, "fsdp": -1}, {"tensor": 0}, {"data": 2, "fsdp": 1}])
def test_impossible_meshes_are_refused(sizes):
  with pytest.raises(UserError, match="mesh"):
    sharding.make_mesh(**sizes, devices=jax.devices()[:1])


def test_an_axis_without_a_row_is_refused():
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  with pytest.raises(UserError, match=r"'sequence' of layers\.q has no row"):
    sharding.spec(("sequence",), (8,), mesh, name="layers.q")


def test_two_axes_on_one_mesh_axis_are_refused():
  mesh = jax.sharding.AbstractMesh((1, 4, 1), sharding.MESH_AXES)
  with pytest.raises(UserError, match="'batch' and 'embed'"):
    sharding.spec(("batch", "embed"), (8, 8), mesh)
  assert sharding.spec(("batch", "length", "act_embed"), (8, 8, 8), mesh) == PartitionSpec("fsdp")


def test_constrain_does_nothing_without_a_mesh():
  x = jax.numpy.ones((3, 5))
  assert sharding.constrain(x, "batch", "length") is x
