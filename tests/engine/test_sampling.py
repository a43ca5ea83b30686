import jax
import numpy as np
import pytest

from skymath_jax.engine import sampling
from skymath_jax.engine.types import SamplingMode

ROWS, VOCAB = 6, 75  # no multiple of the block size
RNG = np.random.default_rng(0)
LOGITS = np.float32(RNG.normal(size=(ROWS, VOCAB)) * 3)
sample, draw, filtered = jax.jit(sampling.sample), jax.jit(sampling.draw), jax.jit(sampling.filtered)


def rows(value, dtype=np.float32, count=ROWS):
  return np.full(count, value, dtype)


def filtered_by_sorting(p: np.ndarray, top_p: float, top_k: int) -> np.ndarray:
  """The textbook definition: sort, cut after k, then cut once the mass before a token reaches top_p."""
  order = np.argsort(-p, kind="stable")
  order = order[:top_k] if top_k else order
  mass = p[order] / p[order].sum()
  keep = order[(np.cumsum(mass) - mass < top_p)]
  out = np.zeros_like(p)
  out[keep] = p[keep]
  return out


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.01])
@pytest.mark.parametrize("top_k", [0, 1, 3, 40, 1000])
def test_bisection_keeps_what_sorting_keeps(top_p, top_k):
  p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
  found = filtered(p, rows(top_p), rows(top_k, np.int32))
  expected = np.stack([filtered_by_sorting(np.asarray(row, np.float64), top_p, top_k) for row in p])
  np.testing.assert_array_equal(np.asarray(found) > 0, expected > 0)


def test_draws_follow_the_distribution():
  weights = np.float32([0.0, 3.0, 0.0, 0.0, 1.0, 0.5] + [0.0] * 60 + [0.5])
  uniform = np.float32((np.arange(10_000) + 0.5) / 10_000)
  drawn = draw(np.tile(weights, (10_000, 1)), uniform)
  counts = np.bincount(np.asarray(drawn), minlength=len(weights))
  np.testing.assert_allclose(counts / 10_000, weights / 5, atol=2e-4)


@pytest.mark.parametrize("vocab", [1, 31, 32, 33, 1_024, 1_025, 4_096, 16_384, 16_385, 151_936])
def test_a_draw_is_the_token_at_which_the_sum_passes_the_mark_whatever_the_number_of_levels(vocab):
  rng = np.random.default_rng(vocab)
  weights, uniform = np.exp(3 * rng.normal(size=(40, vocab))).astype(np.float32), rng.random(40).astype(np.float32)
  drawn = np.asarray(draw(weights, uniform))
  # float32 may take the neighbour of a border, where the mark is as near to it as its sums are exact
  sums = np.cumsum(weights, axis=1, dtype=np.float64) / weights.sum(axis=1, keepdims=True, dtype=np.float64)
  below = np.where(drawn > 0, np.take_along_axis(sums, np.maximum(drawn - 1, 0)[:, None], axis=1)[:, 0], 0.0)
  above = np.take_along_axis(sums, drawn[:, None], axis=1)[:, 0]
  assert (below - 1e-6 <= uniform).all() and (uniform <= above + 1e-6).all()


def test_a_token_of_weight_zero_is_never_drawn():
  rng = np.random.default_rng(1)
  weights = rng.random((500, 300)).astype(np.float32) ** 8 * (rng.random((500, 300)) < 0.1)
  weights[:, 7] = 1e-3  # never an empty row
  # as near to every border as float32 allows, and at both ends
  borders = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
  for u in (np.zeros(500), np.full(500, 1 - 2.0**-23), *borders.T[::10].clip(0, 1 - 2.0**-23)):
    drawn = np.asarray(draw(np.float32(weights), np.float32(u)))
    assert (weights[np.arange(500), drawn] > 0).all()


def settings(**changes):
  values = {
    "keys": RNG.integers(0, 2**32, (ROWS, 2)).astype(np.uint32),
    "index": np.arange(ROWS, dtype=np.int32),
    "temperature": rows(0.7),
    "top_p": rows(1.0),
    "top_k": rows(0, np.int32),
    "mode": np.int32(SamplingMode.PLAIN),
  }
  return values | changes


def test_all_ways_agree_where_they_must():
  greedy = np.argmax(LOGITS, axis=-1)
  for mode in (SamplingMode.GREEDY, SamplingMode.PLAIN, SamplingMode.FILTERED):
    np.testing.assert_array_equal(sample(LOGITS, **settings(temperature=rows(0.0), mode=np.int32(mode))), greedy)
  by_filter = settings(mode=np.int32(SamplingMode.FILTERED))
  np.testing.assert_array_equal(sample(LOGITS, **by_filter | {"top_k": rows(1, np.int32)}), greedy)
  np.testing.assert_array_equal(sample(LOGITS, **by_filter | {"top_p": rows(1e-6)}), greedy)
  plain = by_filter | {"mode": np.int32(SamplingMode.PLAIN)}
  np.testing.assert_array_equal(sample(LOGITS, **plain), sample(LOGITS, **by_filter))


def test_a_row_does_not_depend_on_its_place_or_neighbours():
  mixed = settings(
    temperature=np.float32([0, 0.5, 1, 2, 0.7, 0.7]),
    top_p=np.float32([1, 1, 0.5, 0.9, 1, 0.3]),
    top_k=np.int32([0, 5, 0, 9, 0, 2]),
    mode=np.int32(SamplingMode.FILTERED),
  )
  together = np.asarray(sample(LOGITS, **mixed))
  order = np.array([3, 0, 5, 1, 4, 2])
  moved = {name: value if name == "mode" else value[order] for name, value in mixed.items()}
  np.testing.assert_array_equal(sample(LOGITS[order], **moved), together[order])
  for row in range(ROWS):
    same = np.full(ROWS, row)
    alone = {name: value if name == "mode" else value[same] for name, value in mixed.items()}
    assert set(np.asarray(sample(LOGITS[same], **alone)).tolist()) == {together[row]}


@pytest.mark.parametrize("vary", ["index", "keys"])
def test_seeds_and_steps_give_different_numbers(vary):
  flat = np.zeros((200, 4000), np.float32)
  values = {
    "keys": np.zeros((200, 2), np.uint32),
    "index": np.zeros(200, np.int32),
    "temperature": rows(1.0, count=200),
    "top_p": rows(1.0, count=200),
    "top_k": rows(0, np.int32, count=200),
    "mode": np.int32(SamplingMode.PLAIN),
  }
  values[vary] = (
    np.stack([np.arange(200)] * 2, 1).astype(np.uint32) if vary == "keys" else np.arange(200, dtype=np.int32)
  )
  assert len(set(np.asarray(sample(flat, **values)).tolist())) > 180
