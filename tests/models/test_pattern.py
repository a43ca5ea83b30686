"""Layers of several kinds: how they are scanned, that every way through the model agrees, rope against transformers.

The families with such layers are compared with transformers in full by test_parity.py and test_families.py (slow for
most of them); the first test here is the short look at them that every run takes.
"""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax import numpy as jnp

from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, RopeScaling, attention, cache, families, hf, rope
from skymath_jax.models.config import LayerKind
from skymath_jax.models.published import PUBLISHED
from tests.support.published import MODELS
from tests.support.quick_jit import jit

forward = jit(lambda model, *arrays: model(*arrays))


def run(model, *arrays):
  return np.asarray(forward(model, *map(jnp.asarray, arrays)))


@pytest.mark.parametrize("name", ["olmo-3", "phi-4-mini", pytest.param("gemma-3", marks=pytest.mark.slow)])
def test_packed_logits_equal_transformers_of_each_piece(name, words, tmp_path):
  pytest.importorskip("torch")
  from tests.support import zoo

  # of longrope's two sets of factors one piece gets the long, the other the short one
  theirs = zoo.make(name, **({"original_max_position_embeddings": 12} if name == "phi-4-mini" else {}))
  theirs.save_pretrained(tmp_path)
  words.save(tmp_path)
  pieces = [np.random.default_rng(n).integers(3, 320, n) for n in (17, 9)]
  positions, segments = np.concatenate([np.arange(17), np.arange(9)]), np.repeat([1, 2], [17, 9])
  logits = run(hf.load(tmp_path)[0], np.concatenate(pieces)[None], positions[None], segments[None])[0]
  for piece, ours in zip(pieces, np.split(logits, [17]), strict=True):
    np.testing.assert_allclose(ours, zoo.logits(theirs, piece[None])[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_of_a_folder_that_sees_is_read(prefix, words, tmp_path):
  pytest.importorskip("torch")
  from tests.support import zoo

  zoo.make("gemma-3-tied").save_pretrained(tmp_path / "plain")
  tensors = safetensors.numpy.load_file(tmp_path / "plain" / "model.safetensors")
  text = json.loads((tmp_path / "plain" / "config.json").read_text())
  (tmp_path / "sees").mkdir()
  named = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
  seeing = {"vision_tower.patch.weight": np.zeros((3, 3), np.float32)}
  safetensors.numpy.save_file(named | seeing, tmp_path / "sees" / "model.safetensors")
  whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 9}}
  (tmp_path / "sees" / "config.json").write_text(json.dumps(whole))
  for folder in ("plain", "sees"):
    words.save(tmp_path / folder)
  plain, sees = (hf.load(tmp_path / folder)[0] for folder in ("plain", "sees"))
  assert sees.config == plain.config
  for a, b in zip(jax.tree.leaves(nnx.state(sees)), jax.tree.leaves(nnx.state(plain)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("name", "short"),
  [
    ("gemma-3-1b-pt", "Gemma-3-1B"), ("gemma-3-4b-pt", "Gemma-3-4B"), ("Olmo-3-1025-7B", "OLMo-3-7B"),
    ("Qwen3-8B-Base", "Qwen3-8B"), ("Llama-3.1-8B", "Llama-3.1-8B"),
  ],
)  # fmt: skip
def test_published_sizes_are_what_the_configs_say(name, short):
  ours, theirs = PUBLISHED[name], families.config_from_hf(MODELS[short])
  assert ours == theirs
  assert families.config_from_hf(families.config_to_hf(ours)) == ours


@pytest.mark.parametrize("types", [["full_attention"] * 4, ["sliding_attention"] * 4])
@pytest.mark.parametrize("family", ["Gemma-2-2B", "Gemma-3-1B", "OLMo-3-7B"])
def test_layers_may_also_be_alike(family, types):
  config = families.config_from_hf(MODELS[family] | {"num_hidden_layers": 4, "layer_types": types})
  assert config.pattern == () and (config.window is None) == (types[0] == "full_attention")
  written = families.config_to_hf(config)
  assert families.config_from_hf(written) == config
  assert written["layer_types"] == types and written["sliding_window"]


def test_what_is_not_supported_is_refused_with_what_it_needs():
  for kind, needed in (("qwen2_moe", "expert"), ("deepseek_v3", "latent"), ("qwen3_next", "delta-net")):
    with pytest.raises(UserError, match=f"'{kind}' is not supported: it needs .*{needed}"):
      families.config_from_hf({"model_type": kind})


LOCAL = LayerKind(window=5, rope_theta=100.0)
GLOBAL = LayerKind(rope_scaling=RopeScaling(kind="linear", factor=4.0))
BARE = LayerKind(rotary=0.0)
CONFIG = DecoderConfig(
  vocab_size=97, embed=16, layers=5, heads=4, kv_heads=2, head_dim=6, mlp=24, pattern=(LOCAL, GLOBAL),
  attention_cap=3.0, logit_cap=4.0, norm="one_plus", norm_placement="both", activation="gelu_tanh", qk_norm=True,
  norm_all_heads=True, scale_embedding=True, query_scalar=9.0,
)  # fmt: skip


@functools.cache
def model():
  empty, draw = nnx.eval_shape(lambda: Decoder(CONFIG)), np.random.default_rng(1)
  state = nnx.state(empty, nnx.Param)
  nnx.update(empty, jax.tree.map(lambda w: jnp.asarray(0.3 * draw.standard_normal(w.shape), jnp.float32), state))
  return empty


def tokens(length):
  return np.random.default_rng(0).integers(0, 97, (1, length))


@pytest.mark.parametrize(
  ("pattern", "layers", "expected"),
  [
    ((), 7, [(0, 1, 7)]),
    ((LOCAL, GLOBAL), 6, [(0, 2, 3)]),
    ((LOCAL, GLOBAL), 5, [(0, 2, 2), (4, 1, 1)]),
    ((*[LOCAL] * 5, GLOBAL), 26, [(0, 6, 4), (24, 1, 2)]),  # Gemma 3 1B
    ((*[LOCAL] * 5, GLOBAL), 34, [(0, 6, 5), (30, 1, 4)]),  # 4B
    ((*[GLOBAL] * 28, *[LOCAL] * 8), 36, [(0, 1, 28), (28, 1, 8)]),  # Qwen with a window on later layers
    ((GLOBAL, GLOBAL, GLOBAL, BARE), 36, [(0, 4, 9)]),  # SmolLM3
  ],
)
def test_segments(pattern, layers, expected):
  config = dataclasses.replace(CONFIG, pattern=pattern, layers=layers)
  assert [tuple(segment) for segment in config.segments] == expected


def test_segments_hold_every_layer_once_and_repeat_what_they_say():
  rng = np.random.default_rng(5)
  for _ in range(200):
    drawn = tuple((LOCAL, GLOBAL, BARE)[i] for i in rng.integers(0, 3, rng.integers(1, 12)))
    config = dataclasses.replace(CONFIG, pattern=drawn, layers=int(rng.integers(1, 30)))
    assert [i for segment in config.segments for i in segment.layers] == list(range(config.layers))
    for start, period, repeats in config.segments:
      kinds = config.kinds[start : start + period * repeats]
      assert kinds == kinds[:period] * repeats


def test_every_way_through_gives_the_same():
  """The scan, unrolled layers, pieces of a prompt, and a token at a time, well beyond the window."""
  ours, x = model(), tokens(14)
  want = run(ours, x)
  plain = ours.unstacked()
  np.testing.assert_allclose(run(plain, x), want, atol=1e-5)
  whole = jit(lambda m: m.prefill(jnp.asarray(x)))(ours)
  context = jax.tree.map(lambda a: jnp.pad(a[:, :9], ((0, 0), (0, 7), (0, 0), (0, 0)), constant_values=5.0), whole)
  extend = jit(lambda m, t, c, n: m.extend(t, c, n))
  for a, b in zip(jax.tree.leaves(extend(plain, x[:, 9:], context, 9)), jax.tree.leaves(whole), strict=True):
    np.testing.assert_allclose(a, b[:, 9:], atol=1e-5)
  held = cache.insert(cache.init(CONFIG, 1, 16), jax.tree.map(lambda a: a[:, :9], whole), 0)
  decode = jit(lambda m, t, c, p: m.decode(t, c, p))
  for i in range(9, 14):
    logits, held = decode(plain, jnp.asarray(x[:, i]), held, jnp.array([i]))
    np.testing.assert_allclose(logits, want[:, i], atol=1e-5)


def test_counts_and_json():
  for changes in ({}, {"norm_placement": "after"}, {"norm_all_heads": False}, {"qk_norm": False}):
    config = dataclasses.replace(CONFIG, **changes)
    state = nnx.state(nnx.eval_shape(lambda config=config: Decoder(config)), nnx.Param)
    assert config.parameters == sum(w.size for w in jax.tree.leaves(state))
    assert DecoderConfig.from_json(dataclasses.asdict(config)) == config
  assert CONFIG.mean_keys(9) == (3 * (15 + 5 * 4) / 9 + 2 * 5) / 5


def test_what_a_pattern_says_is_not_said_twice():
  with pytest.raises(UserError, match="window and rope_scaling are not read"):
    dataclasses.replace(CONFIG, window=4)
  with pytest.raises(UserError, match="-1 is not positive"):
    dataclasses.replace(CONFIG, pattern=(LayerKind(window=-1),))
  with pytest.raises(UserError, match="yarn has no factor"):
    RopeScaling(kind="yarn")


def test_kernels_without_a_cap_are_not_chosen():
  config = dataclasses.replace(CONFIG, pattern=(), head_dim=128, dtype="bfloat16")
  assert attention.cudnn.unfit(config) == "it does not cap scores"
  assert attention.ragged.choose(jnp.zeros((1, 2, 2, 128)), jnp.zeros((1, 2, 128, 128)), None, 2.0) == "xla"


@pytest.mark.slow
def test_splash_caps_scores(monkeypatch):
  monkeypatch.setattr(attention, "INTERPRET", True)
  config = dataclasses.replace(CONFIG, pattern=(), window=40, head_dim=128, attention_cap=2.0)
  draw = np.random.default_rng(0)
  q, k, v = (jnp.asarray(draw.standard_normal((1, 128, heads, 128)), jnp.float32) for heads in (4, 2, 2))
  segments = jnp.ones((1, 128), jnp.int32)

  def loss(name, q, k, v):
    return jnp.square(attention.BACKENDS[name](config, segments)(q, k, v)).sum()

  want, got = (jax.grad(functools.partial(loss, name), argnums=(0, 1, 2))(q, k, v) for name in ("xla", "splash"))
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


ROPES = {
  "default": {},
  "linear": {"factor": 4.0},
  "dynamic": {"factor": 4.0},
  "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
  "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
  "yarn-told": {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 9.0, "beta_slow": 0.5}
  | {"truncate": False, "mscale": 0.7, "mscale_all_dim": 1.2},
  "longrope": {"short_factor": [1.0 + i / 9 for i in range(8)], "long_factor": [1.0 + i for i in range(8)]}
  | {"original_max_position_embeddings": 16},
}


@pytest.mark.parametrize("length", [9, 40])  # within and beyond the original 16 (dynamic: 32) positions
@pytest.mark.parametrize("name", ROPES)
def test_rotation_equals_transformers(name, length):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  from transformers.models.llama import modeling_llama

  parameters = {"rope_type": name.split("-")[0], "rope_theta": 200.0, **ROPES[name]}
  sizes = {"vocab_size": 9, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1}
  sizes |= {"num_attention_heads": 2, "max_position_embeddings": 32, "head_dim": 16}
  theirs = transformers.LlamaConfig(**sizes, rope_parameters=dict(parameters))
  config = families.config_from_hf({"model_type": "llama", **sizes, "rope_parameters": parameters})
  assert families.config_from_hf(families.config_to_hf(config)) == config
  x = np.random.default_rng(0).standard_normal((1, length, 2, 16)).astype("float32")
  positions = np.arange(length)[None]
  tables = modeling_llama.LlamaRotaryEmbedding(theirs)(torch.tensor(x), torch.tensor(positions))
  want, _ = modeling_llama.apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), *tables, unsqueeze_dim=2)
  got = rope.rotation(config, jnp.asarray(positions)).q(jnp.asarray(x))
  np.testing.assert_allclose(got, want.numpy(), atol=2e-5)


def test_each_text_of_a_packed_row_has_its_own_length():
  positions = jnp.array([[0, 1, 2, 0, 1, 0, 1, 2, 3], [0, 0, 0, 0, 1, 2, 3, 4, 5]])
  np.testing.assert_array_equal(rope.lengths_of(positions), [[3, 3, 3, 2, 2, 4, 4, 4, 4], [1, 1, 1, 6, 6, 6, 6, 6, 6]])
  np.testing.assert_array_equal(rope.lengths_of(jnp.arange(7, 11)[None]), [[11] * 4])


def test_longrope_is_served_up_to_where_its_angles_change():
  scaling = RopeScaling(kind="longrope", short_factors=(1.0,) * 3, long_factors=(2.0,) * 3, original_positions=64)
  config = dataclasses.replace(CONFIG, pattern=(), rope_scaling=scaling)
  assert config.servable_positions == 64
  assert dataclasses.replace(config, rope_scaling=None).servable_positions == config.max_positions
