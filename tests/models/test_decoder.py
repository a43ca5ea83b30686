"""The decoder against itself: packing, scan, remat, windows, caches, counts."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, attention, cache
from skymath_jax.models.vocabulary import vocabulary_logits
from tests.support.quick_jit import jit

CONFIG = DecoderConfig(vocab_size=97, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48)
VARIANTS = {
  "plain": {},
  "window": {"window": 5},
  "biased": {"qkv_bias": True, "qk_norm": True},
  "unstacked": {"scan_layers": False},
}


run = jit(lambda model, *args: model(*args))  # eager, each small operation would compile on its own


def tokens(rows, length, seed=0):
  return jnp.asarray(np.random.default_rng(seed).integers(0, 97, (rows, length)))


@functools.cache
def drawn(config):
  """A decoder with every weight random, also norms and biases; drawn by numpy, which compiles nothing."""
  model, draw = nnx.eval_shape(lambda: Decoder(config)), np.random.default_rng(1)
  state = nnx.state(model, nnx.Param)
  nnx.update(model, jax.tree.map(lambda w: jnp.asarray(0.2 * draw.standard_normal(w.shape), jnp.float32), state))
  return model


def variant(name):
  return drawn(dataclasses.replace(CONFIG, **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_packed_row_equals_each_piece_alone(name):
  model, lengths = variant(name), (9, 1, 9)
  pieces = [tokens(1, n, seed=i) for i, n in enumerate(lengths)]
  packed = jnp.concatenate([*pieces, jnp.zeros((1, 10), int)], axis=1)
  segment_ids = jnp.repeat(jnp.array([1, 2, 3, 0]), jnp.array([*lengths, 10]))[None]
  positions = jnp.concatenate([jnp.arange(n) for n in (*lengths, 10)])[None]
  logits = run(model, packed, positions, segment_ids)
  start = 0
  for piece in pieces:
    alone = run(model, piece)
    np.testing.assert_allclose(logits[:, start : start + piece.shape[1]], alone, atol=1e-5)
    start += piece.shape[1]


def test_blocks_of_queries_change_nothing(monkeypatch):
  model, x = variant("window"), tokens(2, 37)
  segment_ids = jnp.where(jnp.arange(37) < 20, 1, 2) * jnp.ones((2, 1), int)
  whole = run(model, x, None, segment_ids)
  monkeypatch.setattr(attention, "MIN_QUERY_BLOCK", 8)
  monkeypatch.setattr(attention, "MAX_QUERY_BLOCKS", 5)
  np.testing.assert_allclose(jit(lambda m: m(x, None, segment_ids))(model), whole, atol=1e-5)


def test_the_future_is_not_seen():
  model, x = variant("plain"), tokens(1, 20)
  changed = x.at[0, 12].set((x[0, 12] + 1) % 97)
  a, b = run(model, x), run(model, changed)
  np.testing.assert_array_equal(a[:, :12], b[:, :12])
  assert np.abs(a[:, 12:] - b[:, 12:]).min(axis=-1).max() > 0


@pytest.mark.parametrize(
  ("name", "policies"), [("biased", ("none", "wide", "names", "full")), ("unstacked", ("none", "names"))]
)
def test_remat_changes_no_gradient(name, policies):
  grads = []
  for policy in policies:
    m = variant(name).replace(remat=policy)
    grads.append(nnx.to_pure_dict(jit(nnx.grad(lambda m: jnp.square(m(tokens(2, 12))).mean()))(m)))
  for other in grads[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), grads[0], other)


@pytest.mark.parametrize(
  ("policy", "kept"), [("wide", "q k v attended middle gate up"), ("names", "q k v attended"), ("full", "")]
)
def test_remat_keeps_what_it_says_and_each_value_once(policy, kept, capsys):
  """Saved residuals of one unrolled layer, by name and number; a value named twice would be stored twice."""
  model = drawn(dataclasses.replace(CONFIG, scan_layers=False, layers=1, remat=policy))
  graph, params = nnx.split(model)
  jax.ad_checkpoint.print_saved_residuals(lambda p: nnx.merge(graph, p).hidden(tokens(2, 12)).sum(), params)
  lines = capsys.readouterr().out.splitlines()
  names = [line.split("named '")[1].split("'")[0] for line in lines if "named '" in line]
  assert sorted(names) == sorted(kept.split())


def test_gradient_of_the_vocabulary_projection():
  """In float32 it is JAX's own; in bfloat16 its matmuls are bfloat16 and the result stays near."""
  rng = np.random.default_rng(0)
  hidden, table = rng.normal(size=(3, 5, 16)).astype(np.float32), rng.normal(size=(33, 16)).astype(np.float32)
  plain = jax.grad(lambda h, t: jnp.sum(jnp.sin(jnp.einsum("...d,vd->...v", h, t))), (0, 1))
  ours = jax.grad(lambda h, t: jnp.sum(jnp.sin(vocabulary_logits(h, t))), (0, 1))
  for a, b in zip(ours(hidden, table), plain(hidden, table), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
  small = jnp.asarray(hidden, jnp.bfloat16)
  to_hidden, to_table = ours(small, table)
  assert (to_hidden.dtype, to_table.dtype) == (jnp.bfloat16, jnp.float32)
  wide = plain(small.astype(jnp.float32), jnp.asarray(table, jnp.bfloat16).astype(jnp.float32))
  for a, b in zip((to_hidden, to_table), wide, strict=True):
    assert np.linalg.norm(np.asarray(a, np.float32) - b) <= 0.01 * np.linalg.norm(b)
  text = str(jax.make_jaxpr(ours)(small, table))
  products = [line for line in text.splitlines() if "dot_general" in line]
  assert len(products) == 3 and all("f32[3,5,33]" not in line.split("dot_general")[1] for line in products)


def test_scan_and_unrolled_layers_agree():
  model, x = variant("biased"), tokens(2, 12)
  np.testing.assert_allclose(run(model.unstacked(), x), run(model, x), atol=1e-5)
  assert model.unstacked().unstacked().config.scan_layers is False


def test_replace_shares_the_weights_and_leaves_the_model_alone():
  model = variant("plain")
  other = model.replace(dtype="bfloat16")
  assert other.layers.q[...] is model.layers.q[...]
  assert model.config.dtype == "float32"
  with pytest.raises(UserError, match="embed"):
    model.replace(embed=64)


def test_padding_rows_give_finite_gradients():
  model = variant("plain")
  segment_ids = jnp.zeros((2, 12), int).at[0, :5].set(1)
  grads = jit(nnx.grad(lambda m: m(tokens(2, 12), None, segment_ids)[0, :5].sum()))(model)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_bfloat16_logits_stay_near():
  model, x = variant("plain"), tokens(2, 12)
  wide, narrow = run(model, x), run(model.replace(dtype="bfloat16"), x)
  assert narrow.dtype == jnp.float32
  assert np.abs(wide - narrow).max() < 0.05 * np.abs(wide).max()


def test_packed_prompts_are_prefilled_as_if_each_were_alone():
  """Two prompts in one row, put to slots 2 and 0; decode then continues each as if it had been alone."""
  model, lengths = variant("plain"), (7, 4)
  prompts = [tokens(1, n + 1, seed=n) for n in lengths]
  packed = jnp.concatenate([*(p[:, :-1] for p in prompts), jnp.zeros((1, 5), int)], axis=1)
  segment_ids = jnp.repeat(jnp.array([1, 2, 0]), jnp.array([7, 4, 5]))[None]
  positions = jnp.concatenate([jnp.arange(n) for n in (7, 4, 5)])[None]
  kv, held = (
    jit(lambda m, *args: m.prefill(*args))(model, packed, positions, segment_ids),
    cache.init(CONFIG, 3, 16),
  )
  for slot, start, end in ((2, 0, 7), (0, 7, 11)):
    held = cache.insert(held, jax.tree.map(lambda x, a=start, b=end: x[:, a:b], kv), slot)
  last = jnp.array([prompts[1][0, -1], 0, prompts[0][0, -1]])
  logits, held = jit(lambda m, *a: m.decode(*a, length=9))(model, last, held, jnp.array([4, 0, 7]))
  np.testing.assert_allclose(logits[2], run(model, prompts[0])[0, -1], atol=1e-5)
  np.testing.assert_allclose(logits[0], run(model, prompts[1])[0, -1], atol=1e-5)
  np.testing.assert_array_equal(held[0][0][1, :, 1:], 0)


def test_decode_does_not_read_past_length():
  """NaN beyond `length` would reach the logits if it were read."""
  model = variant("plain").unstacked()
  held = jax.tree.map(lambda a: a.at[:, :, 6:].set(jnp.nan), cache.init(CONFIG, 2, 16))
  logits, _ = jit(lambda m, *a: m.decode(*a, length=6))(model, jnp.array([1, 2]), held, jnp.array([3, 5]))
  assert np.isfinite(logits).all()


def test_hidden_and_unembed_are_the_forward():
  model, x = variant("plain"), tokens(2, 5)
  hidden, kv = jit(lambda m: m.hidden_and_kv(x))(model)
  np.testing.assert_allclose(model.unembed(hidden), run(model, x), atol=1e-5)
  assert [k.shape for k, _ in kv] == [(2, 5, 2, 8)] * 2


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("tied", [True, False])
def test_counts(name, tied):
  config = dataclasses.replace(CONFIG, **VARIANTS[name], tie_embeddings=tied)
  assert config.parameters == sum(
    w.size for w in jax.tree.leaves(nnx.state(nnx.eval_shape(lambda: Decoder(config)), nnx.Param))
  )


def test_flops_follow_matmuls_keys_and_window():
  config = dataclasses.replace(CONFIG, tie_embeddings=True)
  weights = 2 * (32 * 8 * (4 + 2 + 2 + 4) + 3 * 32 * 48) + 97 * 32
  assert config.forward_flops_per_token(1) == 2 * weights + 4 * 2 * 4 * 8
  assert config.flops_per_token(1) == 3 * config.forward_flops_per_token(1)
  assert config.mean_keys(9) == 5.0
  assert dataclasses.replace(config, window=1).flops_per_token(500) == config.flops_per_token(1)


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"remat": "some"}, "remat"),
    ({"kv_heads": 3}, "kv_heads"),
    ({"head_dim": 7}, "head_dim"),
    ({"layers": 0}, "layers"),
  ],
)
def test_bad_configs_are_refused(change, named):
  with pytest.raises(UserError, match=named):
    dataclasses.replace(CONFIG, **change)


def test_unknown_attention_backend_is_refused():
  with pytest.raises(UserError, match="xla"):
    variant("plain").replace(attention="magic")(tokens(1, 4))


def test_one_compilation_for_many_steps():
  model = variant("unstacked")
  traces = []

  @jax.jit
  def step(t, c, p):
    traces.append(1)
    return model.decode(t, c, p)

  held = cache.init(CONFIG, 2, 8)
  for i in range(4):
    _, held = step(jnp.array([1, 2]), held, jnp.array([i, i]))
  assert len(traces) == 1
