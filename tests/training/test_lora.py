"""Adapters in the trainer: the arithmetic of a rank-r update, and what stays as it was."""

import functools
import os
import signal

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from skymath_jax.config import Training
from skymath_jax.errors import UserError
from skymath_jax.models import lora, orbax_folder
from skymath_jax.models.lora import Adapters
from skymath_jax.training import loss, optimizer, step
from skymath_jax.training.packing import Packing, Steps
from tests.support.doubles import Characters, decoder, tokenize
from tests.support.short_run import ROWS, curve, train

SETTINGS = Training(epsilon=1e-4, clip=0.0)  # so that rounding is not blown up where a gradient is next to nothing
ADAPTERS = Adapters(rank=4, alpha=8.0)
RATE = 1e-2
CHUNK = 256  # all logits at once: one program less to compile


def batches(*, packed=True, micro_batches=1):
  examples = tokenize(ROWS, Characters(), template="raw", max_length=64)
  return Steps(examples, Packing(max_length=64, rows=4, epochs=1, packed=packed, micro_batches=micro_batches))


def adapted(base="", **changes):
  return lora.attach(decoder(**changes), Adapters(rank=4, alpha=8.0, base=base))


def run(model, steps):
  """(losses, structure, state) after these steps."""
  chain = optimizer.make(SETTINGS)
  graph, state = step.init(model, chain)
  losses = []
  for i in range(len(steps)):
    state, result = step.train_step(state, steps[i], RATE, graph=graph, optimizer=chain, loss_chunk=CHUNK)
    losses.append(float(result.loss))
  return losses, graph, state


def whole_update(steps):
  """Losses of a plain decoder whose every linear weight is W + 2·A·B, differentiated through that sum."""
  plain = nnx.split(decoder())[0]
  _graph, factors, frozen = lora.split(adapted())
  chain = optax.adam(RATE, eps=SETTINGS.epsilon)

  def value(factors, batch):
    weights = nnx.to_pure_dict(frozen)
    for name, found in nnx.to_pure_dict(factors)["layers"].items():
      a, b = found["a"], found["b"]
      flat = a.reshape(a.shape[0], -1, 4) @ b.reshape(b.shape[0], 4, -1)
      weight = weights["layers"][name]["weight"]
      weights["layers"][name] = weight + ADAPTERS.scale * flat.reshape(weight.shape)
    rows = {key: array[0] for key, array in batch.items()}
    model = nnx.merge(plain, nnx.State(weights))
    return loss.weighted_sum(model, rows, loss_chunk=CHUNK) / loss.target_weights(rows).sum()

  @jax.jit
  def one(factors, state, batch):
    found, gradient = jax.value_and_grad(value)(factors, batch)
    change, state = chain.update(gradient, state)
    return optax.apply_updates(factors, change), state, found

  state, losses = chain.init(factors), []
  for i in range(len(steps)):
    factors, state, found = one(factors, state, steps[i])
    losses.append(float(found))
  return losses, factors


@pytest.mark.slow
def test_it_is_full_fine_tuning_of_an_update_of_that_rank():
  steps = batches()
  ours, _graph, state = run(adapted(), steps)
  theirs, factors = whole_update(steps)
  assert ours[-1] < ours[0] - 0.1
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), state.params, factors)


@jax.jit(static_argnums=0)
def logits(graph, state):
  return nnx.merge(graph, state)(np.arange(40)[None] % 60)


@pytest.mark.parametrize("base", ["", pytest.param("nf4", marks=pytest.mark.slow)])
def test_frozen_weights_are_bit_equal_afterwards_and_merging_changes_no_logit(base):
  before = jax.tree.map(np.asarray, lora.split(adapted(base))[2])
  losses, graph, state = run(adapted(base), batches())
  assert losses[-1] < losses[0] - 0.1
  jax.tree.map(np.testing.assert_array_equal, state.frozen, before)
  model = nnx.merge(graph, state.params, state.frozen)
  unmerged = logits(*nnx.split(model))
  merged = lora.merge(model)
  assert not lora.is_adapted(merged)
  np.testing.assert_allclose(logits(*nnx.split(merged)), unmerged, atol=2e-5)


@pytest.mark.slow
def test_packed_micro_batched_unrolled_and_recomputed_it_is_the_same():
  one = run(adapted(), batches())[0]
  np.testing.assert_allclose(run(adapted(), batches(packed=False))[0], one, rtol=2e-5)
  np.testing.assert_allclose(run(adapted(remat="full"), batches(micro_batches=2))[0], one, rtol=2e-5)


def test_only_factors_have_gradients_and_moments():
  state = jax.eval_shape(lambda: step.init(adapted("int8"), optimizer.make(SETTINGS))[1])
  trained = sum(x.size for x in jax.tree.leaves(state.params))
  config = decoder().config
  inputs_and_outputs = 7 * config.embed + 3 * config.mlp + config.head_dim * (2 * config.heads + 2 * config.kv_heads)
  assert trained == config.layers * ADAPTERS.rank * inputs_and_outputs
  assert sum(x.size for x in jax.tree.leaves(state.opt_state)) == 2 * trained + 1  # and Adam's count


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
  facts = train(tmp_path / "straight", model=adapted("nf4"), adapter={"base": "b"})
  with pytest.raises(SystemExit):
    stop = lambda _: os.kill(os.getpid(), signal.SIGTERM) or {}  # noqa: E731
    train(tmp_path / "stopped", model=adapted("nf4"), adapter={"base": "b"}, checkpoint_every=3, evaluate=stop)
  assert train(tmp_path / "stopped", model=adapted("nf4"), adapter={"base": "b"})["loss"] == facts["loss"]
  assert curve(tmp_path / "stopped") == curve(tmp_path / "straight")
  assert orbax_folder.weights_hash(tmp_path / "stopped") == orbax_folder.weights_hash(tmp_path / "straight")
  with pytest.raises(UserError, match="initial_weights was"):
    train(tmp_path / "stopped", model=adapted("int8"), adapter={"base": "b"})
