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
from skymath_jax.models import foreign_keys
from skymath_jax.models.config import DecoderConfig, RopeScaling
from skymath_jax.models.layouts import Flat, Linear, Same

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


@dataclasses.dataclass(frozen=True)
class Row:
  """One weight: our path (`layers.*.q` for each layer), their name, and the layout between them."""

  ours: str
  theirs: str
  layout: Same | Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """A model family; `switches` are the `DecoderConfig` fields that hold for all its members."""

  model_type: str
  architecture: str
  members: str  # who is of it, for people
  layer_type: str = "full_attention"  # what every entry of HF's layer_types must be
  fields: tuple[Field, ...]
  must_be: Mapping[str, tuple[Any, ...]]
  weights: tuple[Row, ...]
  switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # further keys that an export must carry


SIZES = (
  Field("vocab_size", "vocab_size"),
  Field("hidden_size", "embed"),
  Field("num_hidden_layers", "layers"),
  Field("num_attention_heads", "heads"),
  Field("intermediate_size", "mlp"),
  Field("rms_norm_eps", "norm_eps", 1e-6),
)
COMMON_MUST = {
  "hidden_act": ("silu", None),
  "attention_bias": (False, None),
  "mlp_bias": (False, None),
  "partial_rotary_factor": (1, 1.0, None),
  "quantization_config": (None,),
}
LAYER = "model.layers.*."
CORE = (
  Row("embedding", "model.embed_tokens.weight", Same()),
  Row("layers.*.attention_norm", LAYER + "input_layernorm.weight", Same()),
  Row("layers.*.q", LAYER + "self_attn.q_proj.weight", Linear()),
  Row("layers.*.k", LAYER + "self_attn.k_proj.weight", Linear()),
  Row("layers.*.v", LAYER + "self_attn.v_proj.weight", Linear()),
  Row("layers.*.o", LAYER + "self_attn.o_proj.weight", Linear(inputs=2)),
  Row("layers.*.mlp_norm", LAYER + "post_attention_layernorm.weight", Same()),
  Row("layers.*.gate", LAYER + "mlp.gate_proj.weight", Linear()),
  Row("layers.*.up", LAYER + "mlp.up_proj.weight", Linear()),
  Row("layers.*.down", LAYER + "mlp.down_proj.weight", Linear()),
  Row("norm", "model.norm.weight", Same()),
  Row("head", "lm_head.weight", Same()),
)
QKV_BIAS = tuple(Row(f"layers.*.{x}_bias", f"{LAYER}self_attn.{x}_proj.bias", Flat()) for x in "qkv")
QK_NORM = tuple(Row(f"layers.*.{x}_norm", f"{LAYER}self_attn.{x}_norm.weight", Same()) for x in "qk")

FAMILIES: dict[str, Family] = {
  "llama": Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    members="Llama 2, 3, 3.1, 3.2, CodeLlama, Llemma, DeepSeekMath",
    fields=(
      *SIZES,
      Field("num_key_value_heads", "kv_heads", "num_attention_heads"),
      Field("head_dim", "head_dim", PER_HEAD),
      Field("max_position_embeddings", "max_positions", 2048),
      Field("tie_word_embeddings", "tie_embeddings", False),
    ),
    must_be=COMMON_MUST,
    weights=CORE,
    constants={"attention_bias": False, "mlp_bias": False},
  ),
  "mistral": Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    members="Mistral 7B v0.1 (sliding window), v0.2, v0.3",
    layer_type="sliding_attention",
    fields=(
      *SIZES,
      Field("num_key_value_heads", "kv_heads", 8, null="num_attention_heads"),
      Field("head_dim", "head_dim", PER_HEAD),
      Field("max_position_embeddings", "max_positions", 4096 * 32),
      Field("tie_word_embeddings", "tie_embeddings", False),
      Field("sliding_window", "window", 4096, null=None),
    ),
    must_be=COMMON_MUST,
    weights=CORE,
  ),
  "qwen2": Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    members="Qwen 2, 2.5, 2.5 Math (bias in q, k, v)",
    fields=(
      *SIZES,
      Field("num_key_value_heads", "kv_heads", 32, null="num_attention_heads"),
      Field("head_dim", "head_dim", PER_HEAD),
      Field("max_position_embeddings", "max_positions", 32768),
      Field("tie_word_embeddings", "tie_embeddings", False),
    ),
    must_be={**COMMON_MUST, "attention_bias": (True, None), "use_sliding_window": (False, None)},
    weights=(*CORE, *QKV_BIAS),
    switches={"qkv_bias": True},
    constants={"use_sliding_window": False},
  ),
  "qwen3": Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    members="Qwen 3, dense (norm of q and k)",
    fields=(
      *SIZES,
      Field("num_key_value_heads", "kv_heads", 32, null="num_attention_heads"),
      Field("head_dim", "head_dim", 128),
      Field("max_position_embeddings", "max_positions", 32768),
      Field("tie_word_embeddings", "tie_embeddings", False),
    ),
    must_be={**COMMON_MUST, "use_sliding_window": (False, None)},
    weights=(*CORE, *QK_NORM),
    switches={"qk_norm": True},
    constants={"attention_bias": False, "use_sliding_window": False},
  ),
}

HINT = "this decoder computes something else; use another checkpoint or add the case to models/families.py"


def family_of(hf: Mapping[str, Any], *, where: object = None) -> tuple[str, Family]:
  """The family of a HF config, by `model_type`.

  Raises:
    UserError: none has it; those known are listed.
  """
  kind = hf.get("model_type")
  for name, family in FAMILIES.items():
    if family.model_type == kind:
      return name, family
  raise UserError(f"model_type {kind!r} is not known", where=where, remedy=f"known are {', '.join(FAMILIES)}")


def config_from_hf(hf: Mapping[str, Any], *, where: object = None) -> DecoderConfig:
  """`DecoderConfig` of a HF config (float32; change `dtype` afterwards).

  Raises:
    UserError: a key is missing, has a value that would change the forward pass, or one of another kind.
  """
  name, family = family_of(hf, where=where)
  try:
    _refuse(hf, family, where)
    values = {field.name: _value(hf, field, where) for field in family.fields}
    theta, scaling = rope_from_hf(hf, where=where)
    return DecoderConfig(**values, **family.switches, rope_theta=theta, rope_scaling=scaling, family=name)
  except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
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
  kinds = set(hf.get("layer_types") or ())
  if kinds - {family.layer_type}:
    raise UserError(f"layer_types {sorted(kinds)} are not supported", where=where, remedy=HINT)
  known = {field.key for field in family.fields} | set(family.must_be) | set(family.constants)
  changing, ignored, unknown = foreign_keys.sorted_out({key: hf[key] for key in hf if key not in known})
  if changing:
    named = ", ".join(f"{key} = {hf[key]!r}" for key in changing)
    raise UserError(f"not supported: {named}", where=where, remedy=HINT)
  if ignored:
    log_once(f"{where}: ignored, since the model computes the same without: {', '.join(ignored)}")
  if unknown:
    keys = f"key {unknown[0]} is" if len(unknown) == 1 else f"keys {', '.join(unknown)} are"
    log_once(f"warning: {where}: the {keys} not known and ignored; `skymath import` compares the logits")


def rope_from_hf(hf: Mapping[str, Any], *, where: object = None) -> tuple[float, RopeScaling | None]:
  """(theta, scaling) from transformers 5's `rope_parameters`, else from `rope_theta` and `rope_scaling`.

  Raises:
    UserError: a kind of scaling that is not known, or that lacks a number.
  """
  parameters: dict[str, Any] = {}
  for key in ("rope_scaling", "rope_parameters"):
    parameters |= hf.get(key) or {}
  theta = parameters.pop("rope_theta", hf.get("rope_theta")) or 10_000.0
  kind = parameters.pop("rope_type", parameters.pop("type", "default"))
  parameters.pop("type", None)
  if parameters.pop("partial_rotary_factor", 1.0) != 1.0 or kind not in ROPE_KEYS:
    raise UserError(f"rope type {kind!r} is not supported", where=where, remedy=HINT)
  missing, extra = ROPE_KEYS[kind].keys() - parameters.keys(), parameters.keys() - ROPE_KEYS[kind].keys()
  if kind == "default":
    return float(theta), None
  if missing or extra:
    raise UserError(
      f"rope type {kind!r} lacks {sorted(missing)} or has unknown {sorted(extra)}", where=where, remedy=HINT
    )
  return float(theta), RopeScaling(kind=kind, **{ours: parameters[key] for key, ours in ROPE_KEYS[kind].items()})


ROPE_KEYS = {  # rope type -> HF key -> field of RopeScaling
  "default": {},
  "linear": {"factor": "factor"},
  "llama3": {
    "factor": "factor",
    "low_freq_factor": "low_frequency_factor",
    "high_freq_factor": "high_frequency_factor",
    "original_max_position_embeddings": "original_positions",
  },
}


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
  """The `config.json` of a decoder; transformers 4 reads `rope_theta` and `rope_scaling`, 5 `rope_parameters`.

  Raises:
    UserError: the config has a switch that its family cannot express.
  """
  family = FAMILIES[config.family]
  expressed = {field.name for field in family.fields}
  for name, plain in (("window", None), ("qkv_bias", False), ("qk_norm", False), ("tie_embeddings", False)):
    value = getattr(config, name)
    if name not in expressed and value != family.switches.get(name, plain):
      raise UserError(
        f"family {config.family!r} cannot express {name} = {value!r}",
        where="DecoderConfig.family",
        remedy=f"choose another of {', '.join(FAMILIES)}",
      )
  scaling = None
  if config.rope_scaling is not None:
    keys = ROPE_KEYS[config.rope_scaling.kind]
    scaling = {"rope_type": config.rope_scaling.kind}
    scaling |= {key: getattr(config.rope_scaling, ours) for key, ours in keys.items()}
  return {
    "architectures": [family.architecture],
    "model_type": family.model_type,
    **{field.key: getattr(config, field.name) for field in family.fields},
    **family.constants,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "rope_theta": config.rope_theta,
    "rope_scaling": scaling,
    "rope_parameters": {"rope_type": "default", **(scaling or {}), "rope_theta": config.rope_theta},
    "use_cache": True,
  }


def rows(config: DecoderConfig) -> list[Row]:
  """The weight rows of this decoder: its family's, without the head where it is tied."""
  return [row for row in FAMILIES[config.family].weights if not (config.tie_embeddings and row.ours == "head")]
