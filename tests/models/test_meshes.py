"""Where weights lie: golden specs of real models, nothing large copied to every device, and one answer on any mesh.

The specs are in golden_specs.txt; `python tests/models/test_meshes.py` writes it anew, and the diff is for reviewing.
"""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest
from flax import nnx

from skymath_jax import sharding
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, families

if __package__:
  from tests.support.published import MODELS, PARAMETERS
else:  # run as a program
  from published import MODELS, PARAMETERS

MESHES = {
  "fsdp 8": {"fsdp": 8, "tensor": 1},
  "fsdp 4 x tensor 2": {"fsdp": 4, "tensor": 2},
  "tensor 8": {"fsdp": 1, "tensor": 8},
}
WIDE = {"fsdp 2 x tensor 4": {"fsdp": 2, "tensor": 4}}  # wider than the key-value heads of Qwen2.5-Math-1.5B
GOLDEN = Path(__file__).with_name("golden_specs.txt")
MEBIBYTE = 2**20


def specs(model, mesh):
  """Weight name → (bytes in float32, spec) of a real model on a mesh, without any array."""
  axes = (MESHES | WIDE)[mesh]
  sizes = (1, axes["fsdp"], axes["tensor"])
  abstract = jax.sharding.AbstractMesh(sizes, sharding.MESH_AXES)
  config = families.config_from_hf(MODELS[model])
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config)), nnx.Param)
  places = nnx.to_flat_state(sharding.shardings_of(state, abstract))
  leaves = dict(nnx.to_flat_state(state))
  return {
    ".".join(map(str, path)): (4 * math.prod(leaves[path].get_value().shape), place.get_value().spec)
    for path, place in places
  }


def lines():
  """The text of the golden file: model, mesh, weight, spec; or what is refused."""
  for model in MODELS:
    for mesh in MESHES | WIDE:
      try:
        for name, (_, spec) in sorted(specs(model, mesh).items()):
          yield f"{model} | {mesh} | {name} | {' '.join(map(str, spec)) or '-'}"
      except UserError as error:
        yield f"{model} | {mesh} | refused: {error.what}"


@pytest.mark.parametrize("model", MODELS)
def test_real_models_have_their_published_size(model):
  assert families.config_from_hf(MODELS[model]).parameters == PARAMETERS[model]


def test_golden_specs():
  assert list(lines()) == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize("mesh", MESHES | WIDE)
@pytest.mark.parametrize("model", MODELS)
def test_nothing_large_is_copied_to_every_device(model, mesh):
  """Also where the tensor axis is wider than the key-value heads, which go to another axis of the weight then."""
  heads = MODELS[model]["num_attention_heads"]
  if heads % (MESHES | WIDE)[mesh]["tensor"]:
    with pytest.raises(UserError, match=f"heads = {heads} of weight"):
      specs(model, mesh)
    return
  copied = {name: size for name, (size, spec) in specs(model, mesh).items() if not any(spec) and size > MEBIBYTE}
  assert not copied


def test_an_odd_vocabulary_is_cut_along_embed():
  """A token or two added to 32,000: the table still lies on all devices."""
  mesh = jax.sharding.AbstractMesh((1, 2, 4), sharding.MESH_AXES)
  got = sharding.spec(("vocab", "embed"), (32001, 64), mesh, name="embedding")
  assert got == jax.sharding.PartitionSpec(None, ("fsdp", "tensor"))
  with pytest.raises(UserError, match="vocab = 32001 of weight embedding"):
    sharding.spec(("vocab", "embed"), (32001, 36), mesh, name="embedding")


PROGRAM = """
  import json, sys
  import jax, numpy as np
  from flax import nnx
  from jax import numpy as jnp
  from skymath_jax import sharding
  from skymath_jax.models import hf
  meshes, run = json.loads(sys.argv[1]), nnx.jit(lambda m, x: m(x))
  for folder in sys.argv[2:]:
    alone, _ = hf.load(folder)
    x = jnp.asarray(np.random.default_rng(0).integers(3, 320, (8, 24)))
    want = np.asarray(run(alone, x))
    for name, sizes in meshes.items():
      mesh = sharding.make_mesh(**sizes)
      model, _ = hf.load(folder, mesh=mesh)
      same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), nnx.state(alone), nnx.state(model))
      with jax.set_mesh(mesh):
        logits = np.asarray(run(model, jax.device_put(x, sharding.named(mesh, "batch", "length", shape=x.shape))))
      matrices = [w for w in jax.tree.leaves(nnx.state(model)) if w.size >= 256]
      spread = [len({str(shard.index) for shard in w.addressable_shards}) for w in matrices]
      fact = {"folder": folder, "mesh": name, "apart": float(np.abs(logits - want).max()), "spread": min(spread)}
      print(json.dumps(fact | {"same": all(jax.tree.leaves(same))}))
"""
QUICK = ("llama-3.2", "mistral-v0.1", "qwen2.5", "qwen3")  # one of each entry of FAMILIES; key-value heads 2, 1, 1, 2


def compare(names, words, tmp_path):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from tests.support import zoo

  for name in names:
    wide = {"hidden_size": 64} if name == "phi-4-mini" else {}  # whose factors are for three pairs of dimensions
    zoo.make(name, num_attention_heads=8, **wide).save_pretrained(tmp_path / name)
    words.save(tmp_path / name)
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
  }
  folders = [str(tmp_path / name) for name in names]
  command = [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps(MESHES), *folders]
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  facts = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(facts) == len(names) * len(MESHES)
  for fact in facts:
    assert fact["apart"] <= 1e-5, fact
    assert fact["same"], fact
    assert fact["spread"] == 8, fact  # every matrix is cut into as many parts as there are devices


@pytest.mark.slow
def test_every_family_computes_the_same_on_eight_devices(words, tmp_path):
  compare(QUICK, words, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["MODELS", "LATER_MODELS"])
def test_all_models_compute_the_same_on_eight_devices(which, words, tmp_path):
  from tests.support import zoo

  compare([name for name in getattr(zoo, which) if name not in QUICK], words, tmp_path)


if __name__ == "__main__":
  GOLDEN.write_text("\n".join(lines()) + "\n")
