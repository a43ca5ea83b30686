"""Folders in and out: shards, dtypes, damage named, nothing half written."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax import numpy as jnp

from skymath_jax import models, tokenizer
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, hf, weight_files

CONFIG = DecoderConfig(vocab_size=300, embed=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  return tokenizer.train_sentencepiece(
    ["one two three 1 2 3\n"] * 9, tmp_path_factory.mktemp("w"), vocab_size=275, fixed=[]
  )


@pytest.fixture
def folder(tmp_path, words):
  hf.save(Decoder(CONFIG), tmp_path / "model", words)
  return tmp_path / "model"


def rewrite(folder, change):
  """Applies `change` to the dict of tensors of the folder's one file."""
  tensors = safetensors.numpy.load_file(folder / "model.safetensors")
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def weights(decoder):
  return nnx.to_pure_dict(nnx.state(decoder, nnx.Param))


def test_round_trip_with_shards(tmp_path, words):
  ours = Decoder(CONFIG)
  hf.save(ours, tmp_path / "m", words, max_shard_size=20_000)
  index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
  assert index["metadata"]["total_size"] == CONFIG.parameters * 4
  assert all((tmp_path / "m" / name).stat().st_size < 40_000 for name in index["weight_map"].values())
  again, tok = hf.load(tmp_path / "m")
  assert again.config == CONFIG
  jax.tree.map(np.testing.assert_array_equal, weights(again), weights(ours))
  assert tok.hash == words.hash
  assert tok.encode("two 3") == words.encode("two 3")
  assert json.loads((tmp_path / "m" / "generation_config.json").read_text())["eos_token_id"] == words.eos_id


def test_dtypes(tmp_path, words):
  ours = Decoder(CONFIG)
  hf.save(ours, tmp_path / "m", words, dtype="bfloat16")
  stored = safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
  assert {v.dtype for v in stored.values()} == {np.dtype(ml_dtypes.bfloat16)}
  wide, narrow = hf.load(tmp_path / "m")[0], hf.load(tmp_path / "m", dtype=jnp.bfloat16)[0]
  assert wide.layers.q[...].dtype == jnp.float32
  assert narrow.layers.q[...].dtype == jnp.bfloat16
  assert narrow.config.dtype == "bfloat16"
  assert narrow(jnp.ones((1, 4), int)).dtype == jnp.float32
  np.testing.assert_array_equal(wide.layers.q[...], narrow.layers.q[...].astype(jnp.float32))
  mixed = wide.replace(dtype="bfloat16")
  assert mixed.layers.q[...].dtype == jnp.float32
  assert mixed.hidden(jnp.ones((1, 4), int)).dtype == jnp.bfloat16


def test_save_replaces_whole_or_not_at_all(folder, monkeypatch):
  before = (folder / "model.safetensors").read_bytes()

  def full_disk(*args, **kwargs):
    raise OSError("no space left on device")

  monkeypatch.setattr(weight_files, "_write_one", full_disk)
  with pytest.raises(OSError, match="no space"):
    hf.save(Decoder(CONFIG, rngs=nnx.Rngs(5)), folder)
  assert (folder / "model.safetensors").read_bytes() == before
  assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_missing_and_unexpected_tensors_are_named(folder):
  def change(tensors):
    tensors["model.layers.1.self_attn.extra.weight"] = tensors.pop("model.layers.1.self_attn.q_proj.weight")

  rewrite(folder, change)
  with pytest.raises(UserError) as error:
    hf.load(folder)
  assert "missing: model.layers.1.self_attn.q_proj.weight" in str(error.value)
  assert "unexpected: model.layers.1.self_attn.extra.weight" in str(error.value)


def test_shapes_and_types_are_checked(folder):
  def change(tensors):
    tensors["model.norm.weight"] = np.ones(31, np.float32)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.int8)

  rewrite(folder, change)
  with pytest.raises(UserError, match=r"model.norm.weight is \[31\], config.json asks for \[32\]") as error:
    hf.load(folder)
  assert "lm_head.weight is of type I8" in str(error.value)


def test_tied_model_may_carry_its_head(tmp_path, words):
  """Some exporters write lm_head.weight although it is the embedding."""
  tied = Decoder(DecoderConfig(**{**vars(CONFIG), "tie_embeddings": True}))
  hf.save(tied, tmp_path / "m", words)
  assert "lm_head.weight" not in safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
  rewrite(tmp_path / "m", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
  hf.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named(folder, name):
  data = (folder / name).read_bytes()
  (folder / name).write_bytes(data[: len(data) // 2])
  with pytest.raises(UserError, match=name.replace(".", r"\.")):
    hf.load(folder)


def test_a_missing_shard_is_named(tmp_path, words):
  hf.save(Decoder(CONFIG), tmp_path / "m", words, max_shard_size=20_000)
  gone = sorted((tmp_path / "m").glob("model-00002-*"))[0]
  gone.unlink()
  with pytest.raises(UserError, match=gone.name):
    hf.load(tmp_path / "m")


def test_pickled_weights_are_refused(folder):
  (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
  with pytest.raises(UserError, match="save_pretrained"):
    hf.load(folder)


def test_load_any_and_hash(folder):
  first = models.weights_hash(folder)
  assert models.load_any(folder)[0].config == CONFIG
  rewrite(folder, lambda t: t.update({"model.norm.weight": t["model.norm.weight"] * 2}))
  assert models.weights_hash(folder) != first
  with pytest.raises(UserError, match="nowhere"):
    models.load_any(folder / "nowhere")
