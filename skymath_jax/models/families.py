"""Every model family: how its Hugging Face config and tensor names map to ours. A new family is one entry here.

A family is a table of config rows (HF key <-> `DecoderConfig` field, with what an absent key means), values that must
hold because they would change the forward pass, and weight rows (our path, HF name, invertible layout). The same rows
read and write, and both sides must be used up, so a tensor can neither be lost nor invented.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from skymath_jax.console import log_once
from skymath_jax.errors import UserError
from skymath_jax.models import foreign_keys, layer_keys, tensor_rows, unsupported
from skymath_jax.models.config import DecoderConfig
from skymath_jax.models.layer_keys import HINT, LayerKeys
from skymath_jax.models.tensor_rows import Row

MULTIMODAL = ("gemma3", "mistral3")  # model types whose language model is of a family here
REQUIRED = object()  # the HF key has no "absent means"
PER_HEAD = "hidden_size / num_attention_heads"


@dataclasses.dataclass(frozen=True)
class Field:
  """HF key <-> our field. `absent` is the value where the key is missing, `null` where it is null (as if missing).

  Either is a constant, the name of another HF key, or `PER_HEAD`.
  """

  key: str
  name: str
  absent: Any = REQUIRED
  null: Any = REQUIRED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """A model family; `switches` are the `DecoderConfig` fields that hold for all its members.

  `layers` says how its config describes layers, `constants` are further keys that an export must carry, `unread` those
  that its configs have and its forward pass does not read.
  """

  model_type: str
  architecture: str
  members: str  # who is of it, for people
  fields: tuple[Field, ...]
  must_be: Mapping[str, tuple[Any, ...]]
  weights: tuple[Row, ...]
  layers: LayerKeys = dataclasses.field(default_factory=LayerKeys)
  switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unread: tuple[str, ...] = ()
  constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SIZES = (Field("hidden_size", "embed"), Field("num_hidden_layers", "layers"), Field("intermediate_size", "mlp"))
COMMON_MUST: dict[str, tuple[Any, ...]] = {
  "hidden_act": ("silu", None),
  "attention_bias": (False, None),
  "mlp_bias": (False, None),
  "quantization_config": (None,),
}


def sizes(
  *, kv: Any, dim: Any, positions: int, tied: bool, eps: float = 1e-6, vocab: Any = REQUIRED, heads: Any = REQUIRED
) -> tuple[Field, ...]:
  """The sizes of a family, and what each of these means where its key is absent."""
  return (
    *SIZES,
    Field("vocab_size", "vocab_size", vocab),
    Field("num_attention_heads", "heads", heads),
    Field("rms_norm_eps", "norm_eps", eps),
    Field("num_key_value_heads", "kv_heads", kv, null="num_attention_heads"),
    Field("head_dim", "head_dim", dim),
    Field("max_position_embeddings", "max_positions", positions),
    Field("tie_word_embeddings", "tie_embeddings", tied),
  )


GEMMA = {"norm": "one_plus", "norm_placement": "both", "activation": "gelu_tanh", "scale_embedding": True}
GEMMA_MUST: dict[str, tuple[Any, ...]] = {
  "hidden_activation": ("gelu_pytorch_tanh", None),
  "hidden_act": ("gelu_pytorch_tanh", "gelu", None),  # not read: older folders have it beside the other
  "attention_bias": (False, None),
  "use_bidirectional_attention": (False, None),
  "quantization_config": (None,),
}
GEMMA_CONSTANTS = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh", "attention_bias": False}
OLMO = {"norm": "wide", "norm_placement": "after", "qk_norm": True, "norm_all_heads": True}
MOE_MUST: dict[str, tuple[Any, ...]] = {  # experts in every layer
  **COMMON_MUST,
  "decoder_sparse_step": (1, None),
  "mlp_only_layers": ([], None),
  "router_jitter_noise": (0, None),
}
MOE_SIZES = (
  Field("num_experts", "experts", "num_local_experts"),
  Field("num_experts_per_tok", "experts_per_token", 8),
  Field("norm_topk_prob", "normalize_experts", False),
)
MOE_UNREAD = ("num_local_experts", "router_aux_loss_coef")  # a second name, and a loss that no fine-tuning here adds
QWEN_LAYERS = LayerKeys(
  windowed=True, window=4096, asks=True, types=layer_keys.from_max_window_layers, keys=("max_window_layers",)
)

FAMILIES: dict[str, Family] = {
  "llama": Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    members="Llama 2, 3, 3.1, 3.2, CodeLlama, Llemma, DeepSeekMath",
    fields=sizes(kv="num_attention_heads", dim=PER_HEAD, positions=2048, tied=False),
    must_be=COMMON_MUST,
    weights=tensor_rows.CORE,
    constants={"attention_bias": False, "mlp_bias": False},
  ),
  "mistral": Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    members="Mistral 7B v0.1 (sliding window), v0.2, v0.3, Mistral Small",
    fields=sizes(kv=8, dim=PER_HEAD, positions=4096 * 32, tied=False),
    must_be=COMMON_MUST,
    weights=tensor_rows.CORE,
    layers=LayerKeys(windowed=True, window=4096),
  ),
  "ministral": Family(
    model_type="ministral",
    architecture="MinistralForCausalLM",
    members="Ministral 8B of 2024 (layers with and without the window)",
    fields=sizes(kv=8, dim=PER_HEAD, positions=4096 * 32, tied=False),
    must_be=COMMON_MUST,
    weights=tensor_rows.CORE,
    layers=LayerKeys(windowed=True, window=4096, types=layer_keys.all_if_any),
  ),
  "ministral3": Family(
    model_type="ministral3",
    architecture="Ministral3ForCausalLM",
    members="Ministral 3, text (YaRN, queries that grow with the position)",
    fields=sizes(kv=8, dim=128, positions=262_144, tied=False, eps=1e-5),
    must_be=COMMON_MUST,
    weights=tensor_rows.CORE,
    layers=LayerKeys(windowed=True, more={"llama_4_scaling_beta": "query_growth"}),
  ),
  "qwen2": Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    members="Qwen 2, 2.5, 2.5 Math (bias in q, k, v)",
    fields=sizes(kv=32, dim=PER_HEAD, positions=32768, tied=False),
    must_be={**COMMON_MUST, "attention_bias": (True, None)},
    weights=(*tensor_rows.CORE, *tensor_rows.QKV_BIAS),
    layers=QWEN_LAYERS,
    switches={"qkv_bias": True},
  ),
  "qwen3": Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    members="Qwen 3, dense (norm of q and k)",
    fields=sizes(kv=32, dim=128, positions=32768, tied=False),
    must_be=COMMON_MUST,
    weights=(*tensor_rows.CORE, *tensor_rows.QK_NORM),
    layers=QWEN_LAYERS,
    switches={"qk_norm": True},
    constants={"attention_bias": False},
  ),
  "qwen3_moe": Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    members="Qwen 3 with experts (30B-A3B, 235B-A22B)",
    fields=(
      *(field for field in sizes(kv=4, dim=PER_HEAD, positions=32768, tied=False) if field.name != "mlp"),
      Field("moe_intermediate_size", "mlp", 768),
      *MOE_SIZES,
    ),
    must_be=MOE_MUST,
    weights=(*tensor_rows.MOE_WEIGHTS, *tensor_rows.QK_NORM),
    layers=LayerKeys(windowed=True, window=4096, asks=True, keys=("max_window_layers",)),
    switches={"qk_norm": True},
    unread=(*MOE_UNREAD, "intermediate_size"),
    constants={"attention_bias": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
  ),
  "mixtral": Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    members="Mixtral 8x7B, 8x22B",
    fields=(
      *sizes(kv=8, dim=PER_HEAD, positions=4096 * 32, tied=False, eps=1e-5),
      Field("num_local_experts", "experts", 8),
      Field("num_experts_per_tok", "experts_per_token", 2),
    ),
    must_be=MOE_MUST,
    weights=tensor_rows.MIXTRAL_WEIGHTS,
    layers=LayerKeys(windowed=True, theta=1_000_000.0),
    switches={"normalize_experts": True},
    unread=MOE_UNREAD,
  ),
  "olmoe": Family(
    model_type="olmoe",
    architecture="OlmoeForCausalLM",
    members="OLMoE 1B-7B (norms over all of q and k)",
    fields=(*sizes(kv="num_attention_heads", dim=PER_HEAD, positions=4096, tied=False, eps=1e-5), *MOE_SIZES),
    must_be={**MOE_MUST, "clip_qkv": (None,)},
    weights=(*tensor_rows.MOE_WEIGHTS, *tensor_rows.QK_NORM_OF_ALL),
    switches={"qk_norm": True, "norm_all_heads": True},
    unread=MOE_UNREAD,
    constants={"attention_bias": False},
  ),
  "gemma2": Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    members="Gemma 2 (soft caps, the window on every other layer)",
    fields=(
      *sizes(kv=4, dim=256, positions=8192, tied=True),
      Field("query_pre_attn_scalar", "query_scalar", 256),
      Field("attn_logit_softcapping", "attention_cap", 50.0, null=None),
      Field("final_logit_softcapping", "logit_cap", 30.0, null=None),
    ),
    must_be=GEMMA_MUST,
    weights=tensor_rows.GEMMA_WEIGHTS,
    layers=LayerKeys(windowed=True, window=4096, types=layer_keys.all_but_every(2)),
    switches=GEMMA,
    constants=GEMMA_CONSTANTS,
  ),
  "gemma3": Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    members="Gemma 3, text (five layers of six have the window and angles of their own)",
    fields=(
      *sizes(kv=4, dim=256, positions=131_072, tied=True, vocab=262_208, heads=8),
      Field("query_pre_attn_scalar", "query_scalar", 256),
      Field("final_logit_softcapping", "logit_cap", None, null=None),
    ),
    must_be={**GEMMA_MUST, "attn_logit_softcapping": (None,)},
    weights=(*tensor_rows.GEMMA_WEIGHTS, *tensor_rows.QK_NORM),
    layers=LayerKeys(
      windowed=True,
      window=4096,
      types=layer_keys.all_but_every(6, "sliding_window_pattern"),
      nested=True,
      theta=1_000_000.0,
      keys=("sliding_window_pattern",),
    ),
    switches={**GEMMA, "qk_norm": True},
    constants=GEMMA_CONSTANTS,
  ),
  "olmo2": Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    members="OLMo 2 (norms after attention and MLP, and over all of q and k)",
    fields=sizes(kv="num_attention_heads", dim=PER_HEAD, positions=2048, tied=False, eps=1e-5),
    must_be=COMMON_MUST,
    weights=tensor_rows.OLMO_WEIGHTS,
    switches=OLMO,
    constants={"attention_bias": False},
  ),
  "olmo3": Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    members="OLMo 3 (as OLMo 2; three layers of four have the window, the others may have YaRN)",
    fields=sizes(kv="num_attention_heads", dim=PER_HEAD, positions=2048, tied=False, eps=1e-5),
    must_be=COMMON_MUST,
    weights=tensor_rows.OLMO_WEIGHTS,
    layers=LayerKeys(
      windowed=True, window=4096, types=layer_keys.all_but_every(4), nested=True, theta=5e5, local_theta=5e5
    ),
    switches=OLMO,
    constants={"attention_bias": False},
  ),
  "smollm3": Family(
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    members="SmolLM3 (every fourth layer without rotary positions)",
    fields=sizes(kv=4, dim=PER_HEAD, positions=32768, tied=True),
    must_be=COMMON_MUST,
    weights=tensor_rows.CORE,
    layers=LayerKeys(windowed=True, asks=True, types=layer_keys.without_rotary, skips_rotary=True, theta=2_000_000.0),
    constants={"attention_bias": False, "mlp_bias": False},
  ),
  "phi3": Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    members="Phi-3, Phi-4, Phi-4-mini, text (q, k, v in one tensor, gate and up in another; longrope)",
    fields=sizes(kv="num_attention_heads", dim=PER_HEAD, positions=4096, tied=False, eps=1e-5),
    must_be={**COMMON_MUST, "lm_head_bias": (False, None)},
    weights=tensor_rows.PHI_WEIGHTS,
    layers=LayerKeys(windowed=True, partial=True, original=4096, aliases={"su": "longrope", "yarn": "longrope"}),
  ),
}


def family_of(hf: Mapping[str, Any], *, where: object = None) -> tuple[str, Family]:
  """The family of a HF config, by `model_type`.

  Raises:
    UserError: none has it; those known are listed.
  """
  kind = hf.get("model_type")
  for name, family in FAMILIES.items():
    if family.model_type == kind:
      return name, family
  remedy = f"known are {', '.join(FAMILIES)}"
  if kind in unsupported.NEEDS:
    what = f"model_type {kind!r} is not supported: it needs {unsupported.NEEDS[kind]}"
    raise UserError(what, where=where, remedy=remedy)
  raise UserError(f"model_type {kind!r} is not known", where=where, remedy=remedy)


def text_part(hf: Mapping[str, Any]) -> Mapping[str, Any]:
  """The config of the language model in one that also sees; any other as it is."""
  if hf.get("model_type") not in MULTIMODAL:
    return hf
  outer = {key: hf[key] for key in ("tie_word_embeddings", "quantization_config") if key in hf}
  return {**outer, **hf["text_config"]}


def config_from_hf(hf: Mapping[str, Any], *, where: object = None) -> DecoderConfig:
  """`DecoderConfig` of a HF config (float32; change `dtype` afterwards).

  Raises:
    UserError: a key is missing, has a value that would change the forward pass, or one of another kind.
  """
  try:
    hf = text_part(hf)
    name, family = family_of(hf, where=where)
    _refuse(hf, family, where)
    values = {field.name: _value(hf, field, where) for field in family.fields}
    whole = {**hf, **{field.key: values[field.name] for field in family.fields}}
    values |= layer_keys.layers_from_hf(whole, family.layers, where=where)
    return DecoderConfig(**values, **family.switches, family=name)
  except (TypeError, ValueError, AttributeError, ArithmeticError, KeyError) as error:
    what = f"a value is not of the kind that it must be ({str(error)[:200]})"
    raise UserError(what, where=where, remedy="take config.json of the original model") from None


def _value(hf: Mapping[str, Any], field: Field, where: object) -> Any:
  if (value := hf.get(field.key)) is not None:
    return value
  meaning = field.null if field.key in hf and field.null is not REQUIRED else field.absent
  if meaning is REQUIRED:
    raise UserError(f"key {field.key!r} is missing", where=where, remedy="take config.json of the original model")
  if meaning == PER_HEAD:
    return hf["hidden_size"] // hf["num_attention_heads"]
  return hf[meaning] if isinstance(meaning, str) else meaning


def _refuse(hf: Mapping[str, Any], family: Family, where: object) -> None:
  """Refuses what is known to change the forward pass; tells what is left out, and warns of what nobody knows."""
  for key, allowed in family.must_be.items():
    if key in hf and hf[key] not in allowed:
      raise UserError(f"{key} = {hf[key]!r} is not supported", where=where, remedy=HINT)
  known = {field.key for field in family.fields} | set(family.must_be) | set(family.constants) | set(family.unread)
  known |= family.layers.known
  changing, ignored, unknown = foreign_keys.sorted_out({key: hf[key] for key in hf if key not in known})
  if changing:
    named = ", ".join(f"{key} = {hf[key]!r}" for key in changing)
    raise UserError(f"not supported: {named}", where=where, remedy=HINT)
  if ignored:
    log_once(f"{where}: ignored, since the model computes the same without: {', '.join(ignored)}")
  if unknown:
    keys = f"key {unknown[0]} is" if len(unknown) == 1 else f"keys {', '.join(unknown)} are"
    log_once(f"warning: {where}: the {keys} not known and ignored; `skymath import` compares the logits")


COMPUTE = ("dtype", "param_dtype", "remat", "scan_layers", "attention")  # fields that a config.json does not have


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
  """The `config.json` of a decoder; transformers 4 reads `rope_theta` and `rope_scaling`, 5 `rope_parameters`.

  Raises:
    UserError: the config has a switch that its family cannot express.
  """
  family = FAMILIES[config.family]
  written = {
    "architectures": [family.architecture],
    "model_type": family.model_type,
    **{field.key: getattr(config, field.name) for field in family.fields},
    "hidden_act": "silu",
    **family.constants,
    "attention_dropout": 0.0,
    **layer_keys.layers_to_hf(config, family.layers),
    "use_cache": True,
  }
  read = config_from_hf(written, where="DecoderConfig.family")
  for name in (field.name for field in dataclasses.fields(config) if field.name not in COMPUTE):
    if getattr(read, name) != getattr(config, name):
      raise UserError(
        f"family {config.family!r} cannot express {name} = {getattr(config, name)!r}",
        where="DecoderConfig.family",
        remedy=f"choose another of {', '.join(FAMILIES)}",
      )
  return written


def rows(config: DecoderConfig) -> list[Row]:
  """The weight rows of this decoder: its family's, without the head where it is tied."""
  return [row for row in FAMILIES[config.family].weights if not (config.tie_embeddings and row.ours == "head")]
