import jax
import numpy as np
import pytest
from jax import numpy as jnp

from skymath_jax.serving import sampling

ROWS, VOCAB = 6, 75  # no multiple of the block size
RNG = np.random.default_rng(0)
LOGITS = jnp.float32(RNG.normal(size=(ROWS, VOCAB)) * 3)


def kept_by_sorting(p: np.ndarray, top_p: float, top_k: int) -> np.ndarray:
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
  p = jax.nn.softmax(LOGITS, axis=-1)
  kept = sampling.kept(p, jnp.full(ROWS, top_p), jnp.full(ROWS, top_k))
  expected = np.stack([kept_by_sorting(np.asarray(row, np.float64), top_p, top_k) for row in p])
  np.testing.assert_array_equal(np.asarray(kept) > 0, expected > 0)


def test_draws_follow_the_distribution():
  weights = jnp.float32([0.0, 3.0, 0.0, 0.0, 1.0, 0.5] + [0.0] * 60 + [0.5])
  uniform = (jnp.arange(10_000) + 0.5) / 10_000
  drawn = sampling.draw(jnp.tile(weights, (10_000, 1)), uniform)
  counts = np.bincount(np.asarray(drawn), minlength=len(weights))
  np.testing.assert_allclose(counts / 10_000, np.asarray(weights) / 5, atol=2e-4)


def test_a_token_of_weight_zero_is_never_drawn():
  rng = np.random.default_rng(1)
  weights = rng.random((500, 300)).astype(np.float32) ** 8 * (rng.random((500, 300)) < 0.1)
  weights[:, 7] = 1e-3  # never an empty row
  # as near to every border as float32 allows, and at both ends
  borders = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
  for u in (np.zeros(500), np.full(500, 1 - 2.0**-23), *borders.T[::10].clip(0, 1 - 2.0**-23)):
    drawn = np.asarray(sampling.draw(jnp.float32(weights), jnp.float32(u)))
    assert (weights[np.arange(500), drawn] > 0).all()


def settings(**changes):
  values = {
    "keys": jnp.uint32(RNG.integers(0, 2**32, (ROWS, 2))),
    "index": jnp.arange(ROWS),
    "temperature": jnp.full(ROWS, 0.7),
    "top_p": jnp.ones(ROWS),
    "top_k": jnp.zeros(ROWS, jnp.int32),
    "mode": jnp.int32(sampling.PLAIN),
  }
  return values | changes


def test_all_ways_agree_where_they_must():
  greedy = np.argmax(LOGITS, axis=-1)
  cold = settings(temperature=jnp.zeros(ROWS))
  for mode in (sampling.GREEDY, sampling.PLAIN, sampling.FILTERED):
    np.testing.assert_array_equal(sampling.sample(LOGITS, **cold | {"mode": jnp.int32(mode)}), greedy)
  filtered = settings(mode=jnp.int32(sampling.FILTERED))
  np.testing.assert_array_equal(sampling.sample(LOGITS, **filtered | {"top_k": jnp.ones(ROWS, jnp.int32)}), greedy)
  np.testing.assert_array_equal(sampling.sample(LOGITS, **filtered | {"top_p": jnp.full(ROWS, 1e-6)}), greedy)
  plain = settings()
  wide = plain | {"mode": jnp.int32(sampling.FILTERED)}
  np.testing.assert_array_equal(sampling.sample(LOGITS, **plain), sampling.sample(LOGITS, **wide))


def test_a_row_does_not_depend_on_its_place_or_neighbours():
  mixed = settings(
    temperature=jnp.float32([0, 0.5, 1, 2, 0.7, 0.7]),
    top_p=jnp.float32([1, 1, 0.5, 0.9, 1, 0.3]),
    top_k=jnp.int32([0, 5, 0, 9, 0, 2]),
    mode=jnp.int32(sampling.FILTERED),
  )
  together = np.asarray(sampling.sample(LOGITS, **mixed))
  order = np.array([3, 0, 5, 1, 4, 2])
  moved = {name: value if name == "mode" else value[order] for name, value in mixed.items()}
  np.testing.assert_array_equal(sampling.sample(LOGITS[order], **moved), together[order])
  for row in range(ROWS):
    alone = {name: value if name == "mode" else value[row : row + 1] for name, value in mixed.items()}
    assert sampling.sample(LOGITS[row : row + 1], **alone)[0] == together[row]


def test_seeds_and_steps_give_different_numbers():
  flat = jnp.zeros((200, 4000))
  same = settings(
    keys=jnp.zeros((200, 2), jnp.uint32),
    index=jnp.arange(200),
    temperature=jnp.ones(200),
    top_p=jnp.ones(200),
    top_k=jnp.zeros(200, jnp.int32),
  )
  assert len(set(sampling.sample(flat, **same).tolist())) > 180
  seeds = same | {"index": jnp.zeros(200, jnp.int32), "keys": jnp.stack([jnp.zeros(200), jnp.arange(200)], 1).astype("uint32")}
  assert len(set(sampling.sample(flat, **seeds).tolist())) > 180
