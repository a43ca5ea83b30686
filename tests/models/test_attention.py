"""The TPU kernel against the reference: its arithmetic, interpreted on CPU, and its lowering for a TPU."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from skymath_jax.models import DecoderConfig, attention

CONFIG = DecoderConfig(vocab_size=9, embed=8, layers=1, heads=4, kv_heads=2, head_dim=128, mlp=8)
LENGTH = 256


def inputs(batch=1):
  draw = np.random.default_rng(0)
  q, k, v = (draw.standard_normal((batch, LENGTH, heads, 128)).astype("float32") for heads in (4, 2, 2))
  segment_ids = np.repeat([1, 2, 3, 0], [100, 60, 56, 40])[None].repeat(batch, 0)
  return q, k, v, segment_ids


def loss(config, segment_ids):
  """Uses the real tokens only; what padding computes is nobody's business."""
  backend = attention.BACKENDS[attention.choose(config)]

  def f(q, k, v):
    y = backend(config, jnp.asarray(segment_ids))(q, k, v)
    return jnp.square(jnp.where(segment_ids[..., None, None] > 0, y, 0)).sum(), y

  return jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize("window", [None, 40])
def test_splash_equals_the_reference(monkeypatch, window):
  monkeypatch.setattr(attention, "INTERPRET", True)
  *qkv, segment_ids = inputs()
  config = dataclasses.replace(CONFIG, window=window)
  (_, want), want_grads = loss(dataclasses.replace(config, attention="xla"), segment_ids)(*qkv)
  (_, got), got_grads = loss(dataclasses.replace(config, attention="splash"), segment_ids)(*qkv)
  real = segment_ids > 0
  np.testing.assert_allclose(got[real], want[real], atol=1e-5)
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_splash_leaves_odd_rows_to_the_reference():
  config = dataclasses.replace(CONFIG, attention="splash")
  q, k, v, segment_ids = (x[:, :100] for x in inputs())
  want = attention.xla(config, jnp.asarray(segment_ids))(q, k, v)
  np.testing.assert_array_equal(attention.splash(config, jnp.asarray(segment_ids))(q, k, v), want)


def test_splash_lowers_for_tpu():
  """Forward and backward become TPU kernels; a mask or block size that Mosaic refuses would fail here."""
  *qkv, segment_ids = inputs()
  bfloat = [jnp.asarray(x, jnp.bfloat16) for x in qkv]
  f = loss(dataclasses.replace(CONFIG, attention="splash"), segment_ids)
  text = f.trace(*bfloat).lower(lowering_platforms=("tpu",)).as_text()
  assert text.count("tpu_custom_call") >= 2
