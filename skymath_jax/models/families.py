"""Every model family: how its Hugging Face config and tensor names map to ours. A new family is one entry here.

A family is a table of config rows (HF key <-> `DecoderConfig` field, with what an absent key means), values that must
hold because they would change the forward pass, and weight rows (our path, HF name, invertible layout). The same rows
read and write, and both sides must be used up, so a tensor can neither be lost nor invented.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from skymath_jax.errors import UserError
from skymath_jax.models.config import DecoderConfig, RopeScaling

Index: TypeAlias = tuple[slice, ...]
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


def merged(index: Index, shape: Sequence[int]) -> slice:
  """The slice of several axes laid end to end; only the first of them may be split (heads are, head_dim is not)."""
  if any(part.indices(size) != (0, size, 1) for part, size in zip(index[1:], shape[1:], strict=True)):
    raise ValueError(f"no axis but the first of a merged group can be sharded: {index} of {shape}")
  start, stop, _ = index[0].indices(shape[0])
  rest = math.prod(shape[1:])
  return slice(start * rest, stop * rest)


@dataclasses.dataclass(frozen=True)
class Same:
  """The tensor as it is, up to merging of axes: norms, biases, embeddings."""

  def to_ours(self, theirs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return theirs.reshape(shape)

  def to_theirs(self, ours: np.ndarray) -> np.ndarray:
    return ours.reshape(self.shape(ours.shape))

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    """Their shape for our shape."""
    return tuple(ours)

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    """Where in their tensor the part `ours` of our array of `shape` lies."""
    return ours


@dataclasses.dataclass(frozen=True)
class Flat(Same):
  """All our axes are one of theirs: biases of heads."""

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    return (math.prod(ours),)

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    return (merged(ours, shape),)


@dataclasses.dataclass(frozen=True)
class Linear:
  """Theirs is [outputs, inputs]; ours is [inputs..., outputs...] with `inputs` input axes."""

  inputs: int = 1

  def to_ours(self, theirs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return theirs.T.reshape(shape)

  def to_theirs(self, ours: np.ndarray) -> np.ndarray:
    return ours.reshape(self.shape(ours.shape)[::-1]).T

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    return math.prod(ours[self.inputs :]), math.prod(ours[: self.inputs])

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    n = self.inputs
    return merged(ours[n:], shape[n:]), merged(ours[:n], shape[:n])


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

# Keys that do not change the forward pass of inference or of training without dropout
HARMLESS = frozenset(
  """architectures model_type torch_dtype dtype transformers_version use_cache initializer_range attention_dropout
  pretraining_tp bos_token_id eos_token_id pad_token_id unk_token_id max_window_layers sliding_window layer_types
  rope_theta rope_scaling rope_parameters _name_or_path name_or_path id2label label2id return_dict problem_type
  chunk_size_feed_forward tie_encoder_decoder auto_map min_length max_length num_beams num_beam_groups temperature top_k
  top_p typical_p repetition_penalty length_penalty num_return_sequences diversity_penalty task_specific_params
  finetuning_task torchscript is_decoder attn_implementation _attn_implementation""".split()
)
HINT = "this decoder computes something else; use another checkpoint or add the case to models/families.py"


def family_of(hf: Mapping[str, Any], *, where: object = None) -> tuple[str, Family]:
  """The family of a HF config, by `model_type`; `UserError` lists those known."""
  kind = hf["model_type"] if "model_type" in hf else None
  for name, family in FAMILIES.items():
    if family.model_type == kind:
      return name, family
  raise UserError(f"model_type {kind!r} is not known", where=where, remedy=f"known are {', '.join(FAMILIES)}")


def config_from_hf(hf: Mapping[str, Any], *, where: object = None) -> DecoderConfig:
  """`DecoderConfig` of a HF config (float32; change `dtype` afterwards).

  Raises:
    UserError: a key is missing, is unknown, or has a value that would change the forward pass.
  """
  name, family = family_of(hf, where=where)
  _refuse(hf, family, where)
  values = {field.name: _value(hf, field, where) for field in family.fields}
  theta, scaling = rope_from_hf(hf, where=where)
  return DecoderConfig(**values, **family.switches, rope_theta=theta, rope_scaling=scaling, family=name)


def _value(hf: Mapping[str, Any], field: Field, where: object) -> Any:
  if field.key in hf and hf[field.key] is not None:
    return hf[field.key]
  meaning = field.null if field.key in hf and field.null is not REQUIRED else field.absent
  if meaning is REQUIRED:
    raise UserError(f"key {field.key!r} is missing", where=where, remedy="take config.json of the original model")
  if meaning == PER_HEAD:
    return hf["hidden_size"] // hf["num_attention_heads"]
  return hf[meaning] if isinstance(meaning, str) else meaning


def _refuse(hf: Mapping[str, Any], family: Family, where: object) -> None:
  for key, allowed in family.must_be.items():
    if key in hf and hf[key] not in allowed:
      raise UserError(f"{key} = {hf[key]!r} is not supported", where=where, remedy=HINT)
  known = {field.key for field in family.fields} | set(family.must_be) | set(family.constants) | HARMLESS
  on = sorted(key for key in hf.keys() - known if hf[key] not in (None, False, 0, "", [], {}))
  if on:
    remedy = "remove those that do not change the forward pass; " + HINT
    raise UserError(f"keys not known for {family.model_type}: {', '.join(on)}", where=where, remedy=remedy)
  kinds = set(hf["layer_types"] or ()) if "layer_types" in hf else set()
  if kinds - {family.layer_type}:
    raise UserError(f"layer_types {sorted(kinds)} are not supported", where=where, remedy=HINT)


def rope_from_hf(hf: Mapping[str, Any], *, where: object = None) -> tuple[float, RopeScaling | None]:
  """(theta, scaling) from transformers 5's `rope_parameters`, else from `rope_theta` and `rope_scaling`."""
  parameters: dict[str, Any] = {}
  for key in ("rope_scaling", "rope_parameters"):
    parameters |= (hf[key] if key in hf else None) or {}
  theta = parameters.pop("rope_theta", hf["rope_theta"] if "rope_theta" in hf else None) or 10_000.0
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
    fixed = family.switches[name] if name in family.switches else plain
    if name not in expressed and value != fixed:
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
