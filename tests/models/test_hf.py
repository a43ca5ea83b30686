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

  monkeypatch.setattr(weight_files, "write_file", full_disk)
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
  rewrite(tmp_path / "m", lambda t: t["lm_head.weight"].__setitem__((299, 31), 5.0))  # readers disagree on which counts
  with pytest.raises(UserError, match=r"lm_head\.weight is not model\.embed_tokens\.weight, though"):
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


def test_a_number_that_the_type_cannot_hold_stops_the_export_and_is_named(tmp_path, words):
  ours = Decoder(CONFIG)
  ours.norm.set_value(ours.norm[...].at[5].set(1e5))
  with pytest.raises(UserError, match=r"1 of the 32 numbers of model\.norm\.weight are not finite in float16"):
    hf.save(ours, tmp_path / "m", words, dtype="float16")
  assert not list(tmp_path.iterdir())
  hf.save(ours, tmp_path / "m", words, dtype="bfloat16")


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_a_folder_with_numbers_that_are_none_is_not_verified(folder, number):
  rewrite(folder, lambda t: t["lm_head.weight"].__setitem__((3, 4), number))
  with pytest.raises(UserError, match=r"1 of the 9,600 numbers of lm_head\.weight are not finite"):
    hf.verify(hf.load(folder)[0], folder)


def test_the_largest_and_smallest_numbers_are_finite():
  for dtype in weight_files.CODES:
    limits = ml_dtypes.finfo(dtype)
    values = np.array([limits.max, limits.min, limits.smallest_subnormal, -0.0], dtype)
    weight_files.require_finite("w", values, where="here")


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_not_read_does_not_decide_the_type(tmp_path, words, tied):
  hf.save(Decoder(DecoderConfig(**{**vars(CONFIG), "tie_embeddings": tied})), tmp_path / "m", words, dtype="bfloat16")
  names = ("layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", "layers.0.self_attn.rotary_emb.cos_cached")
  extra = {f"model.{name}": np.ones(4, np.float32) for name in (*names, "layers.1.self_attn.masked_bias")}
  rewrite(tmp_path / "m", lambda t: t.update(extra))
  if tied:
    rewrite(tmp_path / "m", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].astype(np.float32)}))
  assert hf.stored_dtype(tmp_path / "m") == "bfloat16"
  hf.load(tmp_path / "m")


def test_a_stale_index_beside_a_whole_file_is_not_read(folder, capsys):
  before = weights(hf.load(folder)[0])
  index = {"weight_map": {"model.norm.weight": "model-00001-of-00009.safetensors"}}
  (folder / weight_files.INDEX).write_text(json.dumps(index))
  jax.tree.map(np.testing.assert_array_equal, weights(hf.load(folder)[0]), before)
  assert "model.safetensors is read" in capsys.readouterr().err


def test_a_type_that_holds_none_of_a_tensor_stops_the_export(tmp_path, words):
  ours = Decoder(CONFIG)
  ours.layers.q.set_value(ours.layers.q[...] * 1e-9)
  with pytest.raises(UserError, match=r"numbers of model\.layers\.0\.self_attn\.q_proj\.weight become 0 in float16"):
    hf.save(ours, tmp_path / "m", words, dtype="float16")


@pytest.mark.parametrize(
  ("change", "remedy"),
  [
    (lambda name: name.removeprefix("model."), "the names lack model. at their beginning"),
    (lambda name: f"policy.{name}", "the names begin with policy., which another program put there"),
    (lambda name: f"model.{name}", "the names begin with model., which another"),
    (lambda name: name.replace("layers.1.", "layers.1._orig_mod."), "the names hold _orig_mod.: saved from under"),
    (lambda name: f"module._orig_mod.{name}", "the names begin with module._orig_mod.: saved from under Distr"),
    (lambda name: name.replace("q_proj.weight", "q_proj.qweight"), "quantized weights"),
    (lambda name: name.replace("q_proj.weight", "q_proj.weight_scale_inv"), "quantized weights"),
  ],
)
def test_odd_names_of_tensors_are_told_with_what_to_do(folder, change, remedy):
  rewrite(folder, lambda tensors: [tensors.update({change(name): tensors.pop(name)}) for name in list(tensors)])
  with pytest.raises(UserError) as error:
    hf.load(folder)
  assert remedy in str(error.value)


def test_other_formats_of_weights_are_told(folder):
  (folder / "model.safetensors").rename(folder / "m-Q4_K_M.gguf")
  with pytest.raises(UserError, match="only GGUF weights here"):
    hf.load(folder)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_names_under_a_wrapper_are_told_with_what_to_do(folder, prefix):
  def wrap(tensors):
    for name in list(tensors):
      tensors[prefix + name] = tensors.pop(name)

  rewrite(folder, wrap)
  with pytest.raises(UserError) as error:
    hf.load(folder)
  assert f"unexpected: {prefix}" in str(error.value)  # among so many that are missing
  assert f"the names begin with {prefix}: saved from under" in str(error.value)


def test_eight_bit_floats_are_told(folder):
  rewrite(folder, lambda t: t.update({"lm_head.weight": t["lm_head.weight"].astype(ml_dtypes.float8_e4m3fn)}))
  with pytest.raises(UserError, match=r"lm_head\.weight is of type F8_E4M3.*quantized weights"):
    hf.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"])
def test_what_git_lfs_did_not_fetch_is_told(folder, name):
  (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
  with pytest.raises(UserError, match=r"a Git LFS pointer.*git lfs pull"):
    hf.load(folder)


def test_parts_without_their_index_are_told(tmp_path, words):
  hf.save(Decoder(CONFIG), tmp_path / "m", words, max_shard_size=20_000)
  (tmp_path / "m" / weight_files.INDEX).unlink()
  with pytest.raises(UserError, match=r"weight files \(model-00001.*without model\.safetensors\.index\.json"):
    hf.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["vocab.json", "tekken.json", "tokenizer.model"])
def test_other_kinds_of_vocabulary_are_told(folder, name):
  (folder / "tokenizer.json").unlink(missing_ok=True)
  (folder / "tokenizer.model").unlink(missing_ok=True)
  (folder / name).write_text("IQ== 0\nIg== 1\n" if name == "tokenizer.model" else "{}")
  with pytest.raises(UserError, match=r"is not read\. make a tokenizer\.json of it"):
    hf.load(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_an_empty_side_file_is_told_by_its_own_name(folder, name):
  (folder / name).write_text("")
  with pytest.raises(UserError, match=rf"{name}.*not JSON"):
    hf.load(folder)


def test_a_path_from_the_home_folder_is_found(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  assert models.resolve("~/model") == folder
  assert hf.load("~/model")[0].config == models.config_of("~/model") == CONFIG
  assert hf.stored_dtype("~/model") == "float32"


def test_load_any_and_hash(folder):
  first = models.weights_hash(folder)
  assert models.load_any(folder)[0].config == CONFIG
  rewrite(folder, lambda t: t.update({"model.norm.weight": t["model.norm.weight"] * 2}))
  assert models.weights_hash(folder) != first
  with pytest.raises(UserError, match="nowhere"):
    models.load_any(folder / "nowhere")
