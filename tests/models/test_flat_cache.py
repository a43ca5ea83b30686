"""The cache in the form for TPUs: heads of a token side by side. It must give what the other form gives."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine.programs import idle_state
from skymath_jax.models import Decoder, DecoderConfig, attention, cache
from tests.support.quick_jit import jit

CONFIG = DecoderConfig(vocab_size=97, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48, scan_layers=False)
SLOTS, ROOM, LENGTH = 3, 24, 12


def answers(flat, dtype, model, x, starts, fed):
  """Logits of three steps after prompts were inserted (row i into slot SLOTS-1-i), in a cache full of rubbish."""
  held = jax.tree.map(lambda a: a + jnp.asarray(7, a.dtype), cache.init(model.config, SLOTS, ROOM, dtype, flat=flat))
  kv, found = model.prefill(x), []
  for row in range(SLOTS):
    held = cache.insert(held, cache.row_of(kv, row), SLOTS - 1 - row)
  for i in range(3):
    logits, held = model.decode(fed[i], held, starts + i, length=LENGTH)
    found.append(logits)
  return jnp.stack(found), held


@pytest.mark.parametrize(
  ("kv_heads", "window", "dtype"), [(4, None, "float32"), (2, 4, "float32"), (1, None, "float32"), (2, 4, "int8")]
)
def test_both_forms_give_the_same_logits(kv_heads, window, dtype):
  config = dataclasses.replace(CONFIG, kv_heads=kv_heads, window=window)
  model, rng = Decoder(config, rngs=nnx.Rngs(1)), np.random.default_rng(0)
  x, fed = rng.integers(0, 97, (SLOTS, 8)), rng.integers(0, 97, (3, SLOTS))
  starts = np.array([7, 2, 5])
  wanted, by_head = jit(functools.partial(answers, False, dtype))(model, x, starts, fed)
  found, flat = jit(functools.partial(answers, True, dtype))(model, x, starts, fed)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  for held, other in zip(jax.tree.leaves(flat), jax.tree.leaves(by_head), strict=True):
    if held.ndim == 4:  # scales, in tiles
      assert held.shape == (SLOTS, kv_heads, 1, 128)
      held = cache.whole(held)[:, :, :ROOM]
    else:
      assert held.shape == (SLOTS, ROOM, kv_heads * 8)
      held, other = held.reshape(SLOTS, ROOM, kv_heads, 8), other.swapaxes(1, 2)
    np.testing.assert_allclose(held, other, atol=1e-5)
  assert np.abs(wanted[0] - wanted[1]).max() > 0.1  # or equality would show little


def test_nothing_past_length_is_read():
  model = Decoder(CONFIG)
  held = jax.tree.map(lambda a: a.at[:, 6:].set(jnp.nan), cache.init(CONFIG, 2, 16, flat=True))
  logits, _ = jit(lambda m, *a: m.decode(*a, length=6))(model, jnp.array([1, 2]), held, jnp.array([3, 5]))
  assert np.isfinite(logits).all()


def test_the_form_is_chosen_by_the_back_end(monkeypatch):
  splash = dataclasses.replace(CONFIG, attention="splash")
  assert attention.uses_flat_cache(splash) and not attention.uses_flat_cache(CONFIG)
  assert jax.tree.leaves(idle_state(splash, 2, 16, "float32").cache)[0].shape == (2, 16, 16)
  assert [x.shape for x in jax.tree.leaves(idle_state(splash, 2, 16, "int8").cache)[:2]] == [
    (2, 16, 16),
    (2, 2, 1, 128),
  ]
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  assert attention.uses_flat_cache(CONFIG)
