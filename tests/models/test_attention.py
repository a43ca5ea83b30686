"""The kernels against the reference: TPU's interpreted on CPU and lowered, the GPU's tables, use and lowering."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from skymath_jax import console
from skymath_jax.errors import UserError
from skymath_jax.models import DecoderConfig, attention, cache, cudnn

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
@pytest.mark.parametrize("copies", [16, 1])
def test_splash_equals_the_reference(monkeypatch, window, copies):
  """With one copy of the queries' gradient, a backward block holds two of the forward pass, as in long rows."""
  monkeypatch.setattr(attention, "INTERPRET", True)
  monkeypatch.setattr(attention, "MAX_SPLASH_BLOCK", 128)
  monkeypatch.setattr(attention, "QUERY_GRADIENTS", copies)
  *qkv, segment_ids = inputs()
  config = dataclasses.replace(CONFIG, window=window)
  (_, want), want_grads = loss(dataclasses.replace(config, attention="xla"), segment_ids)(*qkv)
  (_, got), got_grads = loss(dataclasses.replace(config, attention="splash"), segment_ids)(*qkv)
  real = segment_ids > 0
  np.testing.assert_allclose(got[real], want[real], atol=1e-5)
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_gradients_that_splash_sums_do_not_grow_with_the_square_of_the_length():
  for length in range(128, 65536 + 1, 128):
    size = next(n for n in range(min(length, 512), 0, -128) if length % n == 0)
    keys = attention.backward_keys(length, size)
    assert length % keys == keys % size == 0 and keys <= 2048
  copies = {length: length // attention.backward_keys(length, 512) for length in (2048, 8192, 16384, 32768)}
  assert copies == {2048: 4, 8192: 16, 16384: 16, 32768: 16}


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


@pytest.mark.parametrize(
  ("ids", "starts", "lengths", "runs"),
  [
    ([1, 1, 2, 3, 3, 0], [0, 2, 3, 5], [2, 1, 2, 1], 4),  # padding is a segment too, so no output is undefined
    ([0, 0, 1, 1, 1, 1], [0, 2, -1, -1], [2, 4, -1, -1], 2),
    ([4, 4, 4, 4, 4, 4], [0, -1, -1, -1], [6, -1, -1, -1], 1),
    ([1, 2, 3, 4, 5, 6], [0, 1, 2, 3], [1, 1, 1, 1], 6),  # more than the table holds: the number says so
  ],
)
def test_segment_table(ids, starts, lengths, runs):
  got = cudnn.segment_table(jnp.array([ids, ids]), limit=4)
  np.testing.assert_array_equal(got[0], [[*starts, -1]] * 2)
  np.testing.assert_array_equal(got[1], [lengths] * 2)
  np.testing.assert_array_equal(got[2], [runs] * 2)


def test_tables_hold_the_segments_of_real_rows():
  assert cudnn.entries(16) == 16  # one a token
  assert cudnn.entries(256) == 33
  assert cudnn.entries(4096) == 129


class Documented:
  """cuDNN's entry point as its documentation reads, in plain einsums; keeps what it was called with."""

  class MaskType:
    PADDING_CAUSAL = "padding causal"

  def __init__(self):
    self.calls = []

  def dot_product_attention(self, q, k, v, *, mask=None, scale, mask_type=None, sliding_window_length=None, **table):
    self.calls.append({"kv_heads": k.shape[2], "masked": mask is not None, "window": sliding_window_length})
    index = jnp.arange(q.shape[1])
    if mask is None:
      assert mask_type == self.MaskType.PADDING_CAUSAL
      starts, lengths = table["q_offsets"][:, :-1, None], table["q_seqlen"][:, :, None]
      inside = (starts >= 0) & (index >= starts) & (index < starts + lengths)  # [batch segments length]
      same = jnp.einsum("bst,bsu->btu", inside, inside) > 0
      distance = index[:, None] - index[None, :]
      mask = same & (distance >= 0) & (distance < (sliding_window_length or q.shape[1]))
      mask = mask[:, None]
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.where(mask, jnp.einsum("bthd,buhd->bhtu", q, k) * scale, -1e30)
    return jnp.einsum("bhtu,buhd->bthd", jax.nn.softmax(scores, axis=-1), v)


def pretend_gpu(monkeypatch, capability):
  """A GPU of this capability, as far as `cudnn` asks."""
  monkeypatch.setattr(cudnn, "capability", lambda: capability)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("capability", [(9, 0), (8, 0)])
def test_cudnn_is_asked_for_what_the_reference_computes(monkeypatch, window, capability):
  """On Hopper by offsets, on older cards by a mask; forward and backward, the kernel itself replaced by its words."""
  library = Documented()
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.dot_product_attention", library.dot_product_attention)
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.MaskType", library.MaskType)
  pretend_gpu(monkeypatch, capability)
  *qkv, segment_ids = inputs(batch=2)
  segment_ids[1] = np.repeat([0, 1, 2, 3], [30, 100, 100, 26])  # padded left
  config = dataclasses.replace(CONFIG, window=window, dtype="bfloat16")  # the arrays stay float32: no rounding here
  (_, want), want_grads = loss(dataclasses.replace(config, attention="xla"), segment_ids)(*qkv)
  (_, got), got_grads = loss(config, segment_ids)(*qkv)
  np.testing.assert_allclose(got, want, atol=1e-5)
  for a, b in zip(got_grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)
  packs = capability >= (9, 0)
  kv_heads = 2 if cudnn.GROUPED or not packs else 4  # before JAX 0.11.2 key heads must not be shared here
  assert library.calls[0] == {"kv_heads": kv_heads, "masked": not packs, "window": window if packs else None}


def test_too_many_segments_are_loud(monkeypatch):
  library = Documented()
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.dot_product_attention", library.dot_product_attention)
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.MaskType", library.MaskType)
  monkeypatch.setattr(cudnn, "entries", lambda length: 4)
  pretend_gpu(monkeypatch, (9, 0))
  segment_ids = jnp.array([np.arange(8), np.repeat([1, 2], 4)])
  q, k, v = (jnp.ones((2, 8, heads, 128)) for heads in (4, 2, 2))
  y = cudnn.attention(CONFIG, segment_ids)(q, k, v)
  assert np.isnan(y[0]).all()
  assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("capability", [(9, 0), (8, 0)])
def test_cudnn_lowers_for_cuda(monkeypatch, capability):
  """Forward and backward become cuDNN's calls; no GPU is needed for that, nor was one there to run them."""
  library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
  monkeypatch.setattr(library, "check_cudnn_version", lambda: 91900)
  monkeypatch.setattr(library, "check_compute_capability", lambda wanted: True)
  monkeypatch.setattr(library, "is_cuda_compute_capability_equal", lambda wanted: False)
  pretend_gpu(monkeypatch, capability)
  *qkv, segment_ids = inputs()
  config = dataclasses.replace(CONFIG, dtype="bfloat16", window=40)
  f = loss(config, segment_ids)
  text = f.trace(*(jnp.asarray(x, jnp.bfloat16) for x in qkv)).lower(lowering_platforms=("cuda",)).as_text()
  kind = "Softmax" if capability >= (9, 0) else "ScaleBiasSoftmax"
  assert f"__cudnn$fmha{kind}(" in text
  assert f"__cudnn$fmha{kind}Backward(" in text
  if capability >= (9, 0):
    settings = re.findall(r"sliding_window_length\\22: (\d+), \\22max_seg_per_batch\\22: (\d+)", text)
    assert settings == [("40", str(cudnn.entries(LENGTH)))] * 2
    assert text.count("PADDING_CAUSAL") == 2


def test_no_gpu_holds_scores_silently(monkeypatch, capsys):
  """auto takes cuDNN; where that cannot be, it says so once; asked for by name it is refused."""
  pretend_gpu(monkeypatch, (9, 0))
  console.log_once.cache_clear()
  narrow = dataclasses.replace(CONFIG, dtype="bfloat16")
  assert attention.choose(narrow) == "cudnn"
  assert capsys.readouterr().err == ""
  for _ in range(2):
    assert attention.choose(CONFIG) == "xla"
  assert capsys.readouterr().err.count("attention holds its scores in memory") == 1
  with pytest.raises(UserError, match="bfloat16 or float16, not in float32"):
    attention.choose(dataclasses.replace(CONFIG, attention="cudnn"))
  with pytest.raises(UserError, match="multiple of 8"):
    attention.choose(dataclasses.replace(narrow, attention="cudnn", head_dim=12))
  assert attention.choose(dataclasses.replace(narrow, attention="xla")) == "xla"
  wide = dataclasses.replace(narrow, head_dim=256)
  assert attention.choose(wide) == "cudnn"
  monkeypatch.setattr(cudnn, "capability", lambda: (8, 0))
  assert "at most 128 dimensions, not 256" in cudnn.unfit(wide)
  monkeypatch.setattr(cudnn, "capability", lambda: ())
  with pytest.raises(UserError, match="no NVIDIA GPU"):
    attention.choose(dataclasses.replace(narrow, attention="cudnn"))


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize(
  ("slots", "length", "window"), [(1, 24, None), (5, 9, None), (16, 24, 4), (17, 9, None), (40, 20, 3)]
)
def test_a_cpu_that_reads_slots_in_portions_finds_the_same(slots, length, window, kv_dtype, monkeypatch):
  config = dataclasses.replace(CONFIG, dtype="bfloat16", window=window)
  rng = np.random.default_rng(slots)

  def numbers(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.bfloat16)

  keys, values, held = [], [], cache.init(config, slots, 24, kv_dtype)
  for slot in range(slots):
    k, v = numbers(1, 24, 2, 128), numbers(1, 24, 2, 128)
    held = cache.insert(held, ((k, v),), slot)
    keys, values = [*keys, np.float32(k[0])], [*values, np.float32(v[0])]
  positions = rng.integers(0, length, slots).astype(np.int32)
  q, k, v = (numbers(slots, heads, 128) for heads in (4, 2, 2))

  def found():
    return np.float32(attention.cached(config, held[0], jnp.asarray(positions), length)(q, k, v)[0])

  in_portions = found()
  monkeypatch.setattr(attention, "CPU_SLOTS", slots)
  np.testing.assert_array_equal(in_portions, found())
  for slot, last in enumerate(positions):
    keys[slot][last], values[slot][last] = np.float32(k[slot]), np.float32(v[slot])
    first = 0 if window is None else max(0, last + 1 - window)
    for head in range(4):
      scores = keys[slot][first : last + 1, head // 2] @ np.float32(q[slot, head]) * 128**-0.5
      weights = np.exp(scores - scores.max())
      expected = weights @ values[slot][first : last + 1, head // 2] / weights.sum()
      np.testing.assert_allclose(in_portions[slot, head], expected, atol=0.06 if kv_dtype == "int8" else 0.03)
