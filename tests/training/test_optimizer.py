import jax
import numpy as np
import pytest
from flax import nnx

from skymath_jax.config import Training
from skymath_jax.models import orbax_folder
from skymath_jax.training import optimizer, step
from tests.support.doubles import decoder


def rates(**changes):
  schedule = optimizer.learning_rate(Training(warmup_ratio=0.1, **changes), 1.0, 100)
  return [float(schedule(i)) for i in range(101)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule_rises_over_the_warm_up_and_ends_where_it_should(schedule):
  found = rates(schedule=schedule)
  assert found[0] == pytest.approx(0.1) and found[9] == found[10] == pytest.approx(1.0)
  assert found[100] == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-6)
  assert found[55] == pytest.approx(1.0 if schedule == "constant" else 0.5, abs=1e-6)


def test_no_warm_up_starts_at_the_peak():
  schedule = optimizer.learning_rate(Training(warmup_ratio=0.0), 1.0, 3)
  assert float(schedule(0)) == 1.0


def test_norms_biases_and_embeddings_do_not_decay():
  params = nnx.state(decoder(qkv_bias=True, qk_norm=True), nnx.Param)
  decayed = {name for name, flag in orbax_folder.named(optimizer.decayed(params)).items() if flag}
  assert decayed == {"head", *(f"layers.{name}" for name in ("q", "k", "v", "o", "gate", "up", "down"))}


def test_first_moment_is_kept_in_the_dtype_asked_for():
  chain = optimizer.make(Training(mu_dtype="bfloat16"))
  _, state = step.init(decoder(), chain)
  kinds = {name.split(".")[1]: leaf.dtype for name, leaf in orbax_folder.named(state.opt_state).items()}
  assert (kinds["mu"], kinds["nu"]) == ("bfloat16", "float32")


def test_a_step_that_is_not_finite_changes_only_the_step_number():
  chain = optimizer.make(Training())
  graph, state = step.init(decoder(), chain)
  state = jax.device_put(state, jax.devices()[0])  # with these shapes it is the program that test_loop has compiled
  batch = {key: np.ones((1, 4, 64), np.int32) for key in ("tokens", "positions", "segment_ids")}
  batch["loss_weights"] = np.full((1, 4, 64), np.inf, np.float32)
  before = jax.device_get((jax.tree.leaves(state.params), jax.tree.leaves(state.opt_state)))
  state, metrics = step.train_step(state, batch, np.float32(1e-2), graph=graph, optimizer=chain, loss_chunk=2048)
  after = jax.device_get((jax.tree.leaves(state.params), jax.tree.leaves(state.opt_state)))
  assert not metrics.finite and int(state.step) == 1
  jax.tree.map(np.testing.assert_array_equal, before, after)
