"""Every family against transformers: logits, names and layouts both ways, texts, and what must be refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import weights
from skymath_jax.errors import UserError
from skymath_jax.models import DecoderConfig, cache, families, hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support import zoo  # noqa: E402, needs both
from tests.support.quick_jit import jit  # noqa: E402


def tokens(rows=3, length=24):
  return jnp.asarray(np.random.default_rng(3).integers(3, 320, (rows, length)))


SLOTS, LENGTH, CACHE = 3, 24, 96


@jit
def fill(model, x):
  """A cache of SLOTS slots with prompt i in slot i; other text was in it before."""
  held, kv = jax.tree.map(lambda a: a + 7.0, cache.init(model.config, SLOTS, CACHE)), model.prefill(x)
  for slot in range(SLOTS):
    held = cache.insert(held, cache.row_of(kv, slot), slot)
  return held


@jit
def step(model, tokens, held, positions):
  return model.decode(tokens, held, positions, length=92)


def test_prefill_and_decode_equal_the_full_forward(pair):
  """Slots at different positions, over a bounded length; what lies at and past a slot's position is garbage."""
  theirs, _, ours = pair
  x = tokens(SLOTS, LENGTH)
  whole, starts, rows = zoo.logits(theirs, x), np.array([5, 11, 16]), np.arange(SLOTS)
  past = (np.arange(CACHE) >= starts[:, None])[:, None, :, None]
  held = jax.tree.map(lambda a: jnp.asarray(np.where(past, np.float32(-3), a)), fill(ours, x))
  model = ours.unstacked()
  for offset in range(8):
    logits, held = step(model, x[rows, starts + offset], held, jnp.asarray(starts + offset))
    np.testing.assert_allclose(logits, whole[rows, starts + offset], atol=1e-4, rtol=0)


@pytest.mark.slow  # a second program of every family
def test_weights_that_lie_the_other_way_give_the_same(pair):
  _, _, ours = pair
  model, x = ours.unstacked(), tokens(SLOTS, LENGTH)
  graph, params = nnx.split(model)
  held, starts = fill(ours, x), np.full(SLOTS, LENGTH)

  @jit
  def turned(params):
    return weights.decoder(graph, params, "float32").decode(x[:, 0], held, starts, length=92)[0]

  np.testing.assert_allclose(turned(weights.turn(params)), step(model, x[:, 0], held, starts)[0], atol=1e-5, rtol=0)


def test_export_gives_back_the_same_tensors(pair, tmp_path):
  _, folder, ours = pair
  hf.save(ours, tmp_path / "out")
  before = safetensors.numpy.load_file(folder / "model.safetensors")
  after = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
  assert before.keys() == after.keys()
  for name in before:
    assert before[name].dtype == after[name].dtype
    assert before[name].tobytes() == after[name].tobytes(), name


def test_transformers_reads_the_export(pair, tmp_path, words):
  theirs, _, ours = pair
  hf.save(ours.unstacked(), tmp_path / "out", words)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager")
  assert type(again) is type(theirs)
  np.testing.assert_array_equal(zoo.logits(again, tokens()), zoo.logits(theirs, tokens()))


def test_greedy_text_equals_generate(pair, words):
  theirs, _, ours = pair
  prompt = words.encode("### Question:\nTom has 12", bos=True)
  made = theirs.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
  x = np.zeros((SLOTS, LENGTH), int)
  x[:, : len(prompt)] = prompt
  held, model = fill(ours, jnp.asarray(x)), ours.unstacked()
  token, text = jnp.full(SLOTS, prompt[-1]), []
  for position in range(len(prompt) - 1, len(prompt) + 63):
    logits, held = step(model, token, held, jnp.full(SLOTS, position))
    token = logits.argmax(axis=-1)
    text.append(int(token[1]))
  assert text == made[0, len(prompt) :].tolist()


def test_config_round_trip(pair):
  torch_model, folder, ours = pair
  theirs = json.loads((folder / "config.json").read_text())
  written = families.config_to_hf(ours.config)
  assert families.config_from_hf(written) == ours.config
  for key in ("hidden_size", "num_key_value_heads", "tie_word_embeddings", "rope_parameters", "architectures"):
    assert written[key] == theirs[key], key
  again = type(torch_model.config)(**written)
  for key in ("layer_types", "sliding_window", "no_rope_layers", "hidden_activation", "query_pre_attn_scalar"):
    assert getattr(again, key, None) == getattr(torch_model.config, key, None), key


def test_old_and_new_rope_layouts_are_one():
  base = {"model_type": "llama", **zoo.SIZES}
  old = {k: v for k, v in zoo.LLAMA3.items() if k not in ("rope_theta", "rope_type")} | {"type": "llama3"}
  new = families.config_from_hf(base | {"rope_parameters": zoo.LLAMA3})
  assert new.rope_theta == 500.0
  assert new.rope_scaling.factor == 8.0
  assert families.config_from_hf(base | {"rope_theta": 500.0, "rope_scaling": old}) == new
  both = families.config_to_hf(new)
  assert both["rope_theta"] == both["rope_parameters"]["rope_theta"] == 500.0
  assert families.config_from_hf({k: v for k, v in both.items() if k != "rope_parameters"}) == new


def test_published_models_have_the_published_size():
  llama2 = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
  config = families.config_from_hf({"model_type": "llama", "vocab_size": 32000, **llama2})
  assert config.parameters == 6_738_415_616
  assert config.kv_heads == 32
  mistral = llama2 | {"intermediate_size": 14336, "vocab_size": 32000}
  config = families.config_from_hf({"model_type": "mistral", **mistral})
  assert config.parameters == 7_241_732_096
  assert config.window == 4096
  assert families.config_from_hf({"model_type": "mistral", **mistral, "sliding_window": None}).window is None


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"attention_bias": True}, "attention_bias"),
    ({"mlp_bias": True}, "mlp_bias"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"model_type": "gemma"}, "gemma"),
    ({"rope_scaling": {"rope_type": "spiral", "factor": 4.0}}, "spiral"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ({"num_local_experts": 8, "unsloth_fixed": True}, "not supported: num_local_experts = 8"),
    ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
    ({"hidden_activation": "gelu"}, "hidden_activation"),
    ({"sliding_window": 16, "layer_types": ["sliding_attention"] * 2}, "layer_types"),
    ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2}, "layer_types"),
    ({"num_key_value_heads": 3}, "kv_heads"),
    ({"num_hidden_layers": 10**9}, "1000000000 layers"),
    ({"num_hidden_layers": 0}, "0 layers"),
  ],
)
def test_what_changes_the_forward_pass_is_refused(change, named):
  with pytest.raises(UserError, match=named):
    families.config_from_hf({"model_type": "llama", **zoo.SIZES, **change}, where="config.json")


LEFT_BY_TOOLS = {
  "_name_or_path": "me/mine", "is_llama_config": True, "transformers.js_config": {"dtype": "q4"}, "unsloth_fixed": True,
  "unsloth_version": "2025.1", "_attn_implementation_autoset": True, "resid_pdrop": 0.0, "embd_dropout": 0.1,
  "embedding_multiplier": 1.0, "num_experts": 0, "final_logit_softcapping": None, "hidden_activation": "silu",
}  # fmt: skip


def test_keys_that_change_nothing_are_ignored_in_one_line(capsys):
  plain = {"model_type": "llama", **zoo.SIZES}
  for _ in range(2):
    assert families.config_from_hf(plain | LEFT_BY_TOOLS, where="a/config.json") == families.config_from_hf(plain)
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 1 and said[0].startswith(
    "a/config.json: ignored, since the model computes the same without: _att"
  )
  assert "unsloth_fixed" in said[0] and "num_experts" not in said[0]


def test_a_key_that_nobody_knows_is_a_warning_not_a_refusal(capsys):
  config = {"model_type": "llama", **zoo.SIZES, "my_lab_s_note": "v7"}
  assert families.config_from_hf(config, where="b/config.json").layers == 2
  assert "warning: b/config.json: the key my_lab_s_note is not known and ignored" in capsys.readouterr().err


def test_a_switch_that_the_family_lacks_is_refused():
  config = DecoderConfig(vocab_size=9, embed=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp=8, window=4)
  with pytest.raises(UserError, match="cannot express window"):
    families.config_to_hf(config)
  assert families.config_to_hf(dataclasses.replace(config, family="mistral"))["sliding_window"] == 4
