"""Every family against transformers: logits, names and layouts both ways, texts, and what must be refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax import numpy as jnp

from skymath_jax import tokenizer
from skymath_jax.errors import UserError
from skymath_jax.models import DecoderConfig, cache, families, hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
  "vocab_size": 320,
  "hidden_size": 32,
  "intermediate_size": 48,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5,
  "bos_token_id": 1,
  "eos_token_id": 2,
}
LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 500.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}
MODELS = {
  "llama-multi-head": ("Llama", {"num_key_value_heads": 4}),
  "llama-grouped": ("Llama", {}),
  "llama-multi-query-tied": ("Llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
  "llama3-scaling": ("Llama", {"rope_parameters": LLAMA3}),
  "llama-linear-scaling": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
  "llama-wide-heads": ("Llama", {"head_dim": 16}),
  "mistral-window": ("Mistral", {"sliding_window": 7}),
  "qwen2": ("Qwen2", {}),
  "qwen3": ("Qwen3", {"head_dim": 16}),
}
TEXT = ["### Question:\nTom has 12 apples and 345 pears.\n\n### Response: 12 + 345 = 357.\nThe answer is 357"] * 9


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  return tokenizer.train_sentencepiece(TEXT, tmp_path_factory.mktemp("words"), vocab_size=320, fixed=["### Response:"])


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory, words):
  """(torch model, its folder, our decoder); all weights random, norms and biases too."""
  name, changes = MODELS[request.param]
  torch.manual_seed(0)
  config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
  theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
  with torch.no_grad():
    for key, parameter in theirs.named_parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.15 + ("norm" in key))
  folder = tmp_path_factory.mktemp(request.param)
  theirs.save_pretrained(folder)
  words.save(folder)
  return theirs, folder, hf.load(folder)[0]


def their_logits(model, tokens):
  with torch.no_grad():
    return model(torch.tensor(np.asarray(tokens))).logits.numpy()


run = nnx.jit(lambda model, *args: model(*args))


def tokens(rows=3, length=24):
  return jnp.asarray(np.random.default_rng(3).integers(3, 320, (rows, length)))


def test_logits_equal(pair):
  theirs, _, ours = pair
  x = tokens()
  np.testing.assert_allclose(run(ours, x), their_logits(theirs, x), atol=1e-4, rtol=0)


def test_the_window_is_felt(pair):
  """Guards the parity test: with a window shorter than the row, ignoring it changes the logits."""
  _, _, ours = pair
  if ours.config.window is not None:
    assert np.abs(run(ours.replace(window=None), tokens()) - run(ours, tokens())).max() > 1e-2


SLOTS, LENGTH = 3, 24


@nnx.jit
def fill(model, x):
  """A cache of SLOTS slots with prompt i in slot i; other text was in it before."""
  held, kv = jax.tree.map(lambda a: a + 7.0, cache.init(model.config, SLOTS, 40)), model.prefill(x)
  for slot in range(SLOTS):
    held = cache.insert(held, kv, slot, row=slot)
  return held


@nnx.jit
def step(model, tokens, held, positions):
  return model.decode(tokens, held, positions, length=36)


def test_prefill_and_decode_equal_the_full_forward(pair):
  """Slots at different positions, over a bounded length; what lies at and past a slot's position is garbage."""
  _, _, ours = pair
  x = tokens(SLOTS, LENGTH)
  whole, starts, rows = np.asarray(run(ours, x)), np.array([5, 11, 16]), np.arange(SLOTS)
  past = (np.arange(40) >= starts[:, None])[:, None, :, None]
  held = jax.tree.map(lambda a: jnp.asarray(np.where(past, np.float32(-3), a)), fill(ours, x))
  model = ours.unstacked()
  for offset in range(8):
    logits, held = step(model, x[rows, starts + offset], held, jnp.asarray(starts + offset))
    np.testing.assert_allclose(logits, whole[rows, starts + offset], atol=1e-4, rtol=0)


def test_export_gives_back_the_same_tensors(pair, tmp_path):
  _, folder, ours = pair
  hf.save(ours, tmp_path / "out")
  before = safetensors.numpy.load_file(folder / "model.safetensors")
  after = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
  assert before.keys() == after.keys()
  for name in before:
    assert before[name].dtype == after[name].dtype
    assert before[name].tobytes() == after[name].tobytes(), name


def test_transformers_reads_the_export(pair, tmp_path):
  theirs, _, ours = pair
  hf.save(ours.unstacked(), tmp_path / "out")
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager")
  assert type(again) is type(theirs)
  np.testing.assert_array_equal(their_logits(again, tokens()), their_logits(theirs, tokens()))


def test_greedy_text_equals_generate(pair, words):
  theirs, _, ours = pair
  prompt = words.encode("### Question:\nTom has 12", bos=True)
  made = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
  x = np.zeros((SLOTS, LENGTH), int)
  x[:, : len(prompt)] = prompt
  held, model = fill(ours, jnp.asarray(x)), ours.unstacked()
  token, text = jnp.full(SLOTS, prompt[-1]), []
  for position in range(len(prompt) - 1, len(prompt) + 11):
    logits, held = step(model, token, held, jnp.full(SLOTS, position))
    token = logits.argmax(axis=-1)
    text.append(int(token[1]))
  assert text == made[0, len(prompt) :].tolist()


def test_config_round_trip(pair):
  _, folder, ours = pair
  theirs = json.loads((folder / "config.json").read_text())
  written = families.config_to_hf(ours.config)
  assert families.config_from_hf(written) == ours.config
  for key in ("hidden_size", "num_key_value_heads", "tie_word_embeddings", "rope_parameters", "architectures"):
    assert written[key] == theirs[key], key


def test_old_and_new_rope_layouts_are_one():
  base = {"model_type": "llama", **SIZES}
  old = {k: v for k, v in LLAMA3.items() if k not in ("rope_theta", "rope_type")} | {"type": "llama3"}
  new = families.config_from_hf(base | {"rope_parameters": LLAMA3})
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
  assert config.kv_bytes_per_token("bfloat16") == 512 * 1024
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
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ({"sliding_window": 16, "layer_types": ["sliding_attention"] * 2}, "layer_types"),
    ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
    ({"num_key_value_heads": 3}, "kv_heads"),
  ],
)
def test_what_changes_the_forward_pass_is_refused(change, named):
  with pytest.raises(UserError, match=named):
    families.config_from_hf({"model_type": "llama", **SIZES, **change}, where="config.json")


def test_a_switch_that_the_family_lacks_is_refused():
  config = DecoderConfig(vocab_size=9, embed=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp=8, window=4)
  with pytest.raises(UserError, match="cannot express window"):
    families.config_to_hf(config)
  assert families.config_to_hf(dataclasses.replace(config, family="mistral"))["sliding_window"] == 4
