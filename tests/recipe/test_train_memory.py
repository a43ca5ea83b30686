"""A training step that the machine cannot hold is refused before a weight is read."""

import pytest

from skymath_jax import config
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB
from skymath_jax.recipe import train
from tests.support.small_recipe import ROOT

SIZES = {"embed": 576, "layers": 30, "heads": 9, "kv_heads": 3, "mlp": 1536, "vocab_size": 49_152}  # SmolLM2-135M's


def recipe(**changes):
  experiment = config.resolve(config.load(ROOT / "configs" / "finetune.py"))
  return config.changed(
    experiment, {"model.scratch": SIZES, **{key.replace("__", "."): v for key, v in changes.items()}}
  )


def test_it_says_the_figures_and_a_remat_that_fits():
  """What a fine-tuning of a 135M model asked XLA for on a CPU: 52 GiB, of 23."""
  step = recipe(model__remat="none", model__dtype="float32")
  with pytest.raises(UserError, match=r"needs about \d\d\.\d GiB of memory, and 16\.0 can be had.*remat=wide"):
    train.require_memory(step, 16 * GIB)
  train.require_memory(recipe(model__remat="names"), 16 * GIB)
  train.require_memory(step, None)


def test_where_no_remat_fits_it_names_rows_and_adapters():
  with pytest.raises(UserError, match=r"training\.rows.*lora_rank"):
    train.require_memory(recipe(model__remat="full"), GIB)
