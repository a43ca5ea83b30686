import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.training import loss, step
from skymath_jax.training.packing import Packing, Steps
from tests.support.doubles import Characters, decoder, some_rows, tokenize

GRAPH, PARAMS = nnx.split(decoder(), nnx.Param)
loss_and_gradient = jax.jit(step.loss_and_gradient, static_argnames=("graph", "loss_chunk"))


def batch_of(*, micro_batches=1, rows=8, weighting="token", max_length=64):
  examples = tokenize(some_rows(14), Characters(), template="raw", max_length=max_length, loss_weighting=weighting)
  made = Steps(examples, Packing(max_length=max_length, rows=rows, epochs=1, micro_batches=micro_batches))
  assert len(made) == 1
  # Rows ordered by their trained tokens, so that micro-batches differ in weight as much as they can
  whole = {key: value.reshape(rows, max_length) for key, value in made[0].items()}
  order = np.argsort((whole["loss_weights"] > 0).sum(axis=1), kind="stable")
  return {key: value[order].reshape(micro_batches, -1, max_length) for key, value in whole.items()}


def run(batch, loss_chunk=4096):
  value, gradient = loss_and_gradient(PARAMS, batch, graph=GRAPH, loss_chunk=loss_chunk)
  return float(value), jax.tree.leaves(gradient)


def assert_same(a, b, tolerance=1e-5):
  assert a[0] == pytest.approx(b[0], abs=tolerance)
  for x, y in zip(a[1], b[1], strict=True):
    np.testing.assert_allclose(x, y, atol=tolerance)


@pytest.mark.parametrize("weighting", ["token", "example"])
@pytest.mark.parametrize("micro_batches", [4, pytest.param(2, marks=pytest.mark.slow)])
def test_micro_batches_of_unequal_weight_change_nothing(micro_batches, weighting):
  split = batch_of(micro_batches=micro_batches, weighting=weighting)
  weights = split["loss_weights"].sum(axis=(1, 2))
  assert weights.max() > 1.2 * weights.min()  # else a mean of means would pass too
  assert_same(run(split), run(batch_of(weighting=weighting)))


def test_packed_equals_one_example_a_row():
  alone = {key: np.zeros((1, 14, 64), value.dtype) for key, value in batch_of().items()}
  packed, row = {key: value[0] for key, value in batch_of().items()}, 0
  for source in range(8):
    for segment in range(1, packed["segment_ids"][source].max() + 1):
      here = packed["segment_ids"][source] == segment
      for key, value in packed.items():
        alone[key][0, row, : here.sum()] = 1 if key == "segment_ids" else value[source][here]
      row += 1
  assert row == 14
  assert_same(run(alone), run(batch_of()))


@pytest.mark.parametrize("loss_chunk", [50, pytest.param(8 * 20, marks=pytest.mark.slow)])
def test_chunk_size_changes_nothing(loss_chunk):
  assert_same(run(batch_of(), loss_chunk), run(batch_of()))


def test_value_is_the_mean_over_trained_tokens_of_the_plain_loss():
  batch = {key: value[0] for key, value in batch_of().items()}
  logits = decoder()(batch["tokens"], batch["positions"], batch["segment_ids"])
  log_p = np.asarray(jax.nn.log_softmax(logits))
  picked = np.take_along_axis(log_p[:, :-1], batch["tokens"][:, 1:, None], axis=-1)[..., 0]
  weights = batch["loss_weights"][:, 1:]
  assert run(batch_of())[0] == pytest.approx(-(weights * picked).sum() / weights.sum(), abs=1e-5)


def test_a_token_that_trained_ones_cannot_see_changes_nothing():
  """What stands in padding, and a response whose weight is 0, reach neither loss nor gradient."""
  batch = batch_of()
  changed = dict(batch, tokens=np.where(batch["segment_ids"] == 0, 33, batch["tokens"]))
  assert (changed["tokens"] != batch["tokens"]).any()
  assert_same(run(changed), run(batch), tolerance=0)
  last = batch["segment_ids"] == batch["segment_ids"].max(axis=-1, keepdims=True)
  untrained = dict(batch, loss_weights=np.where(last, 0, batch["loss_weights"]).astype(np.float32))
  changed = dict(untrained, tokens=np.where(last, 33, batch["tokens"]))
  assert_same(run(changed), run(untrained), tolerance=0)


def test_a_batch_without_weight_gives_zero_loss_and_gradient():
  batch = batch_of()
  value, gradient = run(dict(batch, loss_weights=np.zeros_like(batch["loss_weights"])))
  assert value == 0 and all(not np.asarray(g).any() for g in gradient)


def test_weight_on_a_first_token_counts_neither_above_nor_below():
  batch = batch_of()
  first = batch["positions"] == 0
  weighted = dict(batch, loss_weights=np.where(first, 5, batch["loss_weights"]).astype(np.float32))
  assert_same(run(weighted), run(batch), tolerance=0)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_negative_log_likelihood_is_log_softmax(seed):
  rng, vocab = np.random.default_rng(seed), 11
  logits, targets = rng.normal(0, 30, (3, vocab)).astype(np.float32), rng.integers(0, vocab, 3)
  wide = logits.astype(np.float64)
  expected = np.log(np.exp(wide - wide.max(1, keepdims=True)).sum(1)) + wide.max(1) - wide[np.arange(3), targets]
  np.testing.assert_allclose(loss.negative_log_likelihood(logits, targets), expected, atol=1e-4)
