"""PEFT's format by its definition: W + alpha / rank · B·A in Hugging Face's layout, [outputs inputs]."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from skymath_jax import files
from skymath_jax.errors import UserError
from skymath_jax.models import adapter_folder, hf, lora, peft
from skymath_jax.models.lora import Adapters
from tests.support.doubles import decoder

ADAPTERS = Adapters(rank=4, alpha=6.0)


def adapted(*, seed=None, **changes):
  model = lora.attach(decoder(**changes), ADAPTERS)
  if seed is not None:  # factors that change something
    rng = np.random.default_rng(seed)
    values = jax.tree.map(lambda x: jax.numpy.asarray(rng.normal(size=x.shape), x.dtype), lora.split(model)[1])
    nnx.update(model, values)
  return model


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_written_is_the_update_and_is_read_back(tmp_path, scan):
  model = adapted(seed=1, scan_layers=scan)
  peft.save(model, tmp_path, ADAPTERS, base="ORG/NAME@v1")
  tensors = safetensors.numpy.load_file(tmp_path / peft.WEIGHTS)
  assert len(tensors) == 2 * 7 * model.config.layers
  kept = adapter_folder.reference(tmp_path)
  assert (kept.base, kept.adapters) == ("ORG/NAME@v1", ADAPTERS)
  again = adapted(scan_layers=not scan)
  adapter_folder.read(tmp_path, again)
  plain = {name: read() for name, _, read in hf.tensors_of(decoder(scan_layers=not scan), np.dtype("float32"))}
  for name, _, read in hf.tensors_of(lora.merge(again), np.dtype("float32")):
    pair = [tensors.get(f"base_model.model.{name.removesuffix('weight')}lora_{letter}.weight") for letter in "AB"]
    added = 0 if pair[0] is None else ADAPTERS.scale * pair[1] @ pair[0]
    np.testing.assert_allclose(read(), plain[name] + added, atol=1e-5)


def test_a_layer_without_adapters_stays_and_a_foreign_tensor_is_refused(tmp_path):
  peft.save(adapted(seed=1), tmp_path, ADAPTERS, base="b")
  tensors = safetensors.numpy.load_file(tmp_path / peft.WEIGHTS)
  only = {name: value for name, value in tensors.items() if "layers.1.mlp.up_proj" in name}
  safetensors.numpy.save_file(only, tmp_path / peft.WEIGHTS)
  model = adapted()
  peft.read(tmp_path, model)
  assert np.asarray(model.layers.up.b[...][1]).any() and not np.asarray(model.layers.up.b[...][0]).any()
  assert not np.asarray(model.layers.q.b[...]).any()
  name = min(only)
  for held, message in (({name: only[name]}, "one of its two"), ({**only, "lm_head.x": only[name]}, "of no linear")):
    safetensors.numpy.save_file(held, tmp_path / peft.WEIGHTS)
    with pytest.raises(UserError, match=message):
      peft.read(tmp_path, model)


@pytest.mark.parametrize(
  "change", [{"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 8}}, {"peft_type": "IA3"}, {"r": 0}]
)
def test_other_methods_are_refused_by_name(tmp_path, change):
  values = {"base_model_name_or_path": "b", "peft_type": "LORA", "r": 4, "lora_alpha": 8}
  files.write_json(tmp_path / peft.CONFIG, {**values, "use_rslora": True, "rank_pattern": {}})
  assert adapter_folder.reference(tmp_path).adapters == Adapters(rank=4, alpha=16.0)
  files.write_json(tmp_path / peft.CONFIG, values | change)
  with pytest.raises(UserError, match=f"{next(iter(change))} = "):
    adapter_folder.reference(tmp_path)
