"""The TPU kernel's arithmetic in interpret mode, what it reads, and its compilation for TPUs that are not here."""

import functools
import importlib.util

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax import hardware, sharding
from skymath_jax.models import Decoder, DecoderConfig, cache, ragged_tpu
from skymath_jax.preflight import train
from tests.support.one_query import reference

S, K, G, D, ROOM = 5, 2, 3, 128, 512
LENGTHS = [1, 127, 128, 300, 512]


@pytest.fixture
def interpreted(monkeypatch):
  monkeypatch.setattr(ragged_tpu, "INTERPRET", True)
  monkeypatch.setattr(ragged_tpu, "block_bytes", lambda: 128 * K * D * 4)  # blocks of 128 positions


def inputs(dtype="float32"):
  rng = np.random.default_rng(0)
  q = jnp.asarray(rng.normal(size=(S, K, G, D)) * 0.1, dtype)
  keys, values = (jnp.asarray(rng.normal(size=(S, K, ROOM, D)), dtype) for _ in range(2))
  return q, keys, values, jnp.asarray(LENGTHS, jnp.int32)


def flat(x):
  """`[slots kv_heads length head_dim]` with heads side by side; an `Int8` likewise."""
  if isinstance(x, cache.Int8):
    return cache.Int8(flat(x.values), x.scale.reshape(S, K, -1, 128))
  return x.swapaxes(1, 2).reshape(S, ROOM, K * D)


def attention(q, keys, values, lengths, **more):
  more = {"longest": ROOM, **more}
  return ragged_tpu.attention(q.reshape(S, K * G, D), flat(keys), flat(values), lengths, **more).reshape(q.shape)


@pytest.mark.parametrize("window", [None, 1, 7, 128, 200, 600])
def test_each_slot_sees_its_own_length(interpreted, window):
  given = inputs()
  np.testing.assert_allclose(attention(*given, window=window), reference(*given, window), atol=1e-5)


def test_scores_are_capped(interpreted):
  q, keys, values, lengths = inputs()
  scores = 0.5 * np.tanh(np.einsum("skgd,skld->skgl", q, keys) / 0.5)
  seen = np.arange(ROOM) < np.asarray(lengths)[:, None, None, None]
  weights = np.where(seen, np.exp(scores), 0)
  wanted = np.einsum("skgl,skld->skgd", weights / weights.sum(-1, keepdims=True), values)
  np.testing.assert_allclose(attention(q, keys, values, lengths, cap=0.5), wanted, atol=1e-5)


def test_what_lies_past_the_length_does_not_matter(interpreted):
  q, keys, values, lengths = inputs()
  dirty = jnp.arange(ROOM)[None, None, :, None] >= lengths[:, None, None, None]
  dirtied = [jnp.where(dirty, 1e9, x) for x in (keys, values)]
  np.testing.assert_array_equal(attention(q, *dirtied, lengths), attention(q, keys, values, lengths))


def test_blocks_without_a_position_that_counts_are_not_read(interpreted):
  """NaN there would show: a block that is read takes part in a product."""
  q, keys, values, lengths = inputs()
  for window in (None, 100):
    first = jnp.maximum(lengths - (window or ROOM), 0) // 128
    block = jnp.arange(ROOM) // 128
    read = (block >= first[:, None]) & (block <= (lengths[:, None] - 1) // 128)
    poisoned = [jnp.where(read[:, None, :, None], x, jnp.nan) for x in (keys, values)]
    assert np.isfinite(attention(q, *poisoned, lengths, window=window)).all()


def test_eight_bits_are_scaled_inside(interpreted):
  q, keys, values, lengths = inputs()
  narrow = cache.quantize(keys), cache.quantize(values)
  wide = [held.values * held.scale[..., None] for held in narrow]
  np.testing.assert_allclose(attention(q, *narrow, lengths), reference(q, *wide, lengths), atol=1e-5)


def test_a_block_divides_the_room_and_is_short_enough(monkeypatch):
  monkeypatch.setattr(ragged_tpu, "block_bytes", lambda: 2**17)
  assert ragged_tpu.block_size(2048, 2 * 128) == 512  # a head on each device, in bfloat16
  assert ragged_tpu.block_size(2048, 2 * 4096) == 128  # all 32 heads of Llama 2 on one
  assert ragged_tpu.block_size(1280, 2 * 128) == 256  # 512 and 384 do not divide it
  assert ragged_tpu.block_size(640, 2**30) == 128  # never less than a register is wide


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_decoder_gives_what_it_gives_without_the_kernel(interpreted, monkeypatch, dtype):
  config = DecoderConfig(
    vocab_size=61, embed=32, layers=2, heads=4, kv_heads=2, head_dim=128, mlp=48, scan_layers=False, attention="splash"
  )
  model, held = Decoder(config, rngs=nnx.Rngs(0)), cache.init(config, 3, 256, dtype, flat=True)
  rng = np.random.default_rng(1)
  held = cache.by_axes(lambda x, _: jnp.asarray(rng.normal(size=x.shape) * 9, x.dtype), held)
  tokens, positions = jnp.array([3, 4, 5]), jnp.array([0, 130, 255])
  decode = functools.partial(model.decode, tokens, held, positions, length=256)
  found, written = decode()
  assert ragged_tpu.fits(128, held[0][0])
  monkeypatch.setattr(ragged_tpu, "INTERPRET", False)
  wanted, there = decode()
  assert not ragged_tpu.fits(128, held[0][0])
  np.testing.assert_allclose(found, wanted, atol=2e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), written, there)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, which compiles for TPUs anywhere")
@pytest.mark.parametrize("machine", ["v5e-1", pytest.param("tpu7x-8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("eight", [False, True])
def test_the_kernel_compiles_for_a_tpu_that_is_not_here(machine, eight):
  devices = train.devices(hardware.find(machine))[:1]
  mesh = sharding.make_mesh(fsdp=1, devices=devices)
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  config = DecoderConfig(vocab_size=8, embed=8, layers=1, heads=32, kv_heads=8, head_dim=128, mlp=8)

  def shape(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

  held = jax.eval_shape(lambda: cache.init(config, 16, 2048, "int8" if eight else "bfloat16", flat=True))
  q = shape(jax.ShapeDtypeStruct((16, 32, 128), jnp.bfloat16))
  lengths = shape(jax.ShapeDtypeStruct((16,), jnp.int32))
  run = jax.jit(functools.partial(ragged_tpu.attention, longest=2048))
  with jax.set_mesh(mesh):
    compiled = run.lower(q, *jax.tree.map(shape, held[0]), lengths).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 2**20  # nothing of the cache is copied
