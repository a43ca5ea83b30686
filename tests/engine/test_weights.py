import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import weights
from skymath_jax.engine.engine import Engine
from skymath_jax.models import Decoder, cache
from tests.support.serving import CONFIG, MAX_LENGTH, by_id, engine_settings, local_generator, requests

WAYS = {"weights": {"weights": "int8"}, "kv": {"kv": "int8"}, "both": {"weights": "int8", "kv": "int8"}}


def test_rounding_is_within_half_a_step_and_norms_stay(decoder):
  params = nnx.state(decoder.unstacked(), nnx.Param)
  rounded = weights.quantize(params)
  restored = nnx.state(weights.decoder(nnx.split(decoder.unstacked())[0], rounded, "float32"), nnx.Param)
  for (path, before), after in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(restored), strict=True):
    name = jax.tree_util.keystr(path)
    if "norm" in name:
      np.testing.assert_array_equal(before, after)
    else:
      assert np.abs(before - after).max() <= np.abs(before).max() / 254 * 1.001, name
      assert np.abs(before - after).max() > 0, name
  assert sum(x.dtype == jnp.int8 for x in jax.tree.leaves(rounded)) == 2 * 7 + 2


def test_keys_and_values_are_rounded_one_vector_at_a_time():
  x = np.float32(np.random.default_rng(0).normal(size=(3, 2, 5, 8))) * np.float32([1e-3, 1, 1e3])[:, None, None, None]
  rounded = cache.quantize(x)
  error = np.abs(np.asarray(rounded.values * rounded.scale[..., None]) - x).max(axis=-1)
  assert (error <= np.abs(x).max(axis=-1) / 254 * 1.001).all()


@pytest.mark.parametrize("way", WAYS)
def test_logits_stay_near(way):
  """One decode step after a prefill of 20 tokens, against full precision; weights as they are initialised."""
  decoder = nnx.jit(lambda: Decoder(CONFIG, rngs=nnx.Rngs(0)))()
  tokens = np.random.default_rng(1).integers(3, 259, (2, 21)).astype(np.int32)

  def logits(**settings):
    engine = Engine(decoder, engine_settings(**settings))
    kv = engine.programs.prefill(engine.params, tokens[:, :-1])
    held = cache.init(engine.config, 2, MAX_LENGTH, engine.kv_dtype)
    for row in range(2):
      held = cache.insert(held, cache.row_of(kv, row), row)
    model = engine.programs.decoder(engine.params)
    return np.asarray(model.decode(tokens[:, -1], held, jnp.full((2,), 20), length=MAX_LENGTH)[0])

  exact, rough = logits(), logits(**WAYS[way])
  error = np.sqrt(np.mean((rough - exact) ** 2)) / np.std(exact)
  assert 1e-5 < error < 0.03, error


@pytest.mark.parametrize("way", ["both", *(pytest.param(way, marks=pytest.mark.slow) for way in ("weights", "kv"))])
def test_whole_responses_are_the_same_whatever_the_neighbours(decoder, tokenizer, way):
  asked = requests(10)
  expected = by_id(local_generator(decoder, tokenizer, **WAYS[way]).generate_all(asked))
  assert by_id(local_generator(decoder, tokenizer, slots=3, **WAYS[way]).generate_all(asked[::-1])) == expected


def test_weights_and_cache_are_a_quarter_of_float32(decoder):
  def size(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))

  full, rounded = (Engine(decoder, engine_settings(**way)) for way in ({}, WAYS["both"]))
  assert size(rounded.params) < 0.35 * size(full.params)  # scales of these tiny matrices weigh more than usual
  # a scale for every 8 numbers here (head_dim), for every 128 in a real model
  share = (CONFIG.head_dim + 4) / (4 * CONFIG.head_dim)
  assert size(rounded.idle_state().cache) == size(full.idle_state().cache) * share


@pytest.mark.parametrize("way", [{}, {"weights": "int8"}], ids=["turned", "int8"])
def test_weights_that_the_decoder_gives_up_are_held_once(way):
  config = dataclasses.replace(CONFIG, dtype="bfloat16", param_dtype="bfloat16", scan_layers=False)
  asked = np.arange(3, 15, dtype=np.int32)[None]

  def prefilled(**more):
    decoder = nnx.jit(lambda: Decoder(config, rngs=nnx.Rngs(0)))()
    engine = Engine(decoder, engine_settings(**way, **more))
    held = jax.tree.leaves(nnx.state(decoder, nnx.Param))
    return engine.programs.prefill(engine.params, asked), sum(not x.is_deleted() for x in held), engine

  kept, all_of_them, engine = prefilled()
  given_up, left, _ = prefilled(give_up=True)
  jax.tree.map(np.testing.assert_array_equal, kept, given_up)
  matrices = 7 * config.layers + 2 * bool(way)  # the embedding and the head lie well as they are, but are rounded
  assert all_of_them - left == matrices
  assert isinstance(engine.params, weights.Quantized if way else weights.Turned)


def test_what_training_recomputed_is_nothing_to_the_engine():
  config = dataclasses.replace(CONFIG, dtype="bfloat16", param_dtype="bfloat16")
  asked = np.arange(3, 15, dtype=np.int32)[None]

  def prefilled(remat):
    decoder = nnx.jit(lambda: Decoder(dataclasses.replace(config, remat=remat), rngs=nnx.Rngs(0)))()
    engine = Engine(decoder, engine_settings())
    return engine.programs.prefill(engine.params, asked)

  jax.tree.map(np.testing.assert_array_equal, prefilled("none"), prefilled("names"))
