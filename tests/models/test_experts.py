"""Layers of experts against each token's experts by hand; on meshes; with adapters, in 8 bits, and from odd folders."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import weights
from skymath_jax.errors import UserError
from skymath_jax.models import DecoderConfig, experts, hf, lora, peft, product
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.lora import Adapters
from skymath_jax.preflight import estimate
from tests.support import doubles
from tests.support.processes import environment, python

CHANGES = {"experts": 5, "experts_per_token": 2, "mlp": 8, "normalize_experts": True, "family": "mixtral"}


def decoder(**changes):
  return doubles.decoder(**CHANGES, **changes)


def layer(block):
  return [w[...] for w in (block.router, block.expert_gate, block.expert_up, block.expert_down)]


@pytest.mark.parametrize("normalize", [True, False])
def test_each_token_has_the_sum_of_its_own_experts(normalize):
  config = dataclasses.replace(doubles.CONFIG, **{**CHANGES, "normalize_experts": normalize})
  arrays = layer(decoder(scan_layers=False).layers[0])
  x = np.random.default_rng(0).normal(size=(3, 7, config.embed)).astype(np.float32)
  got = experts.mixture(config, jax.nn.silu, jnp.asarray(x), *arrays)
  router, gate, up, down = map(np.asarray, arrays)
  for token, result in zip(x.reshape(-1, config.embed), np.asarray(got).reshape(-1, config.embed), strict=True):
    shares = np.exp(token @ router) / np.exp(token @ router).sum()
    mine = np.argsort(-shares)[: config.experts_per_token]
    scale = shares[mine].sum() if normalize else 1.0
    want = sum(
      shares[e] / scale * ((np.asarray(jax.nn.silu(token @ gate[e])) * (token @ up[e])) @ down[e]) for e in mine
    )
    np.testing.assert_allclose(result, want, atol=1e-5)


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-6), ("bfloat16", 0)])
def test_a_token_does_not_depend_on_its_company(dtype, apart):
  """As the engine traces it; in bfloat16, in which a CPU serves, bit for bit, also where many want one expert."""
  config = dataclasses.replace(doubles.CONFIG, **CHANGES)
  arrays = [w.astype(dtype) for w in layer(decoder(scan_layers=False).layers[0])]
  x = jnp.asarray(np.random.default_rng(0).normal(size=(48, config.embed)), dtype)
  x = x.at[8:].set(x[3])  # all the others want what the fourth wants

  @jax.jit
  def run(x):
    with product.fixed_order(True):
      return experts.mixture(config, jax.nn.silu, x, *arrays)

  whole = run(x)
  for few in (4, 16):
    np.testing.assert_allclose(run(x[:few]).astype("float32"), whole[:few].astype("float32"), atol=apart, rtol=0)
  np.testing.assert_allclose(run(x[::-1])[::-1].astype("float32"), whole.astype("float32"), atol=apart, rtol=0)


def test_counts():
  config = decoder().config
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config)), nnx.Param)
  assert config.parameters == sum(w.size for w in jax.tree.leaves(state))
  idle = config.layers * (config.experts - config.experts_per_token) * 3 * config.embed * config.mlp
  assert config.matmul_parameters == config.parameters - idle - (2 * config.layers + 1) * config.embed - 64 * 32
  assert DecoderConfig.from_json(dataclasses.asdict(config)) == config
  for wrong in ({"experts_per_token": 6}, {"experts_per_token": 0}, {"experts": 0}, {"experts": 10**6}):
    with pytest.raises(UserError, match="experts, of which there may be"):
      dataclasses.replace(config, **wrong)


ON_MESHES = """
  import jax, numpy as np
  from flax import nnx
  from jax import numpy as jnp
  from skymath_jax import sharding
  from tests.models.test_experts import decoder

  tokens = jnp.asarray(np.random.default_rng(0).integers(3, 64, (8, 12)))
  graph, params = nnx.split(decoder(remat="names", kv_heads=4), nnx.Param)

  def loss(params, tokens):
    logits = nnx.merge(graph, params)(tokens)
    return (logits * jnp.sin(jnp.arange(logits.size).reshape(logits.shape))).sum()

  want = jax.jit(jax.value_and_grad(loss))(params, tokens)
  for sizes in ({"fsdp": 8}, {"fsdp": 2, "tensor": 4}, {"data": 2, "fsdp": 2, "tensor": 2}):
    mesh = sharding.make_mesh(**sizes)
    with jax.set_mesh(mesh):
      mine = sharding.place(params, sharding.shardings_of(params, mesh))
      here = jax.device_put(tokens, sharding.named(mesh, "batch", "length", shape=tokens.shape))
      got = jax.jit(jax.value_and_grad(loss))(mine, here)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4 * max(1, float(np.abs(b).max())))
  print("same")
"""


def test_eight_devices_agree_with_one_gradients_too():
  done = python(ON_MESHES, env=environment(8))
  assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_adapters_leave_experts_and_router_as_they_are(tmp_path):
  adapters = Adapters(rank=2, alpha=2.0)
  model = lora.attach(decoder(), adapters)
  trained = lora.split(model)[1]
  assert {path[1] for path, _ in nnx.to_flat_state(trained)} == {"q", "k", "v", "o"}
  assert sum(w.size for w in jax.tree.leaves(trained)) == 2 * estimate.inputs_and_outputs(model.config)
  peft.save(model, tmp_path, adapters, base="b")
  assert len(safetensors.numpy.load_file(tmp_path / peft.WEIGHTS)) == 2 * 4 * model.config.layers
  peft.read(tmp_path, lora.attach(decoder(), adapters))


def test_in_8_bits_each_expert_has_scales_of_its_own():
  model = decoder(scan_layers=False)
  graph, params = nnx.split(model, nnx.Param)
  rounded = weights.quantize(params)
  for name, shape in (("expert_gate", (5, 1, 8)), ("expert_down", (5, 1, 32))):
    assert rounded.scales["layers"][0][name][...].shape == shape
    assert rounded.values["layers"][0][name][...].dtype == jnp.int8
  x = jnp.arange(3, 40)[None]
  got = weights.decoder(graph, rounded, "float32")(x)
  np.testing.assert_allclose(got, model(x), atol=0.05 * float(jnp.abs(model(x)).max()))


@pytest.fixture
def folder(tmp_path, words):
  hf.save(decoder(), tmp_path)
  words.save(tmp_path)
  return tmp_path


def rewritten(folder, change):
  path = folder / "model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


NAME = "model.layers.1.block_sparse_moe.experts.3.w2.weight"


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda tensors: tensors.pop(NAME), "missing: model.layers.1.block_sparse_moe.experts.#.w2.weight"),
    (lambda tensors: tensors.update({NAME: tensors[NAME].T.copy()}), "unexpected: .*experts.0.w2.weight"),
    (lambda tensors: tensors.update({NAME: tensors[NAME].astype(np.float16)}), "unexpected: .*experts.0.w2.weight"),
    (lambda tensors: tensors.update({NAME.replace(".3.", ".5."): tensors[NAME]}), "unexpected: .*experts.5.w2.weight"),
  ],
)
def test_an_expert_that_is_missing_or_odd_is_told(folder, change, said):
  hf.load(folder)
  rewritten(folder, change)
  with pytest.raises(UserError, match=said):
    hf.load(folder)
