"""Which of our weights lie in which tensors of a Hugging Face folder: the rows that families are made of."""

import dataclasses

from skymath_jax.models.layouts import Experts, Flat, Linear, Same


@dataclasses.dataclass(frozen=True)
class Row:
  """One weight: our path (`layers.*.q` for each layer), their name, and the layout between them.

  `#` in their name is the number of an expert, of whose tensors there is one for each.
  `joined` are further ones of ours that lie behind the first in their tensor, along its first axis.
  """

  ours: str
  theirs: str
  layout: Same | Linear | Experts
  joined: tuple[str, ...] = ()


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
QK_NORM_OF_ALL = tuple(Row(f"layers.*.{x}_norm", f"{LAYER}self_attn.{x}_norm.weight", Flat()) for x in "qk")
OUT_NORMS = (
  Row("layers.*.attention_out_norm", LAYER + "post_attention_layernorm.weight", Same()),
  Row("layers.*.mlp_out_norm", LAYER + "post_feedforward_layernorm.weight", Same()),
)


def without(rows: tuple[Row, ...], *names: str) -> tuple[Row, ...]:
  """The rows but for those of a layer's weights `names`."""
  return tuple(row for row in rows if row.ours.removeprefix("layers.*.") not in names)


GEMMA_WEIGHTS = (
  *without(CORE, "mlp_norm"),
  Row("layers.*.mlp_norm", LAYER + "pre_feedforward_layernorm.weight", Same()),
  *OUT_NORMS,
)
OLMO_WEIGHTS = (
  *without(CORE, "attention_norm", "mlp_norm"),
  *OUT_NORMS,
  *QK_NORM_OF_ALL,
)
PHI_WEIGHTS = (
  *without(CORE, "q", "k", "v", "gate", "up"),
  Row("layers.*.q", LAYER + "self_attn.qkv_proj.weight", Linear(), joined=("layers.*.k", "layers.*.v")),
  Row("layers.*.gate", LAYER + "mlp.gate_up_proj.weight", Linear(), joined=("layers.*.up",)),
)


def experts(block: str, gate: str, up: str, down: str) -> tuple[Row, ...]:
  """The rows of a layer's router and experts, which lie in `block`, by the names of an expert's weights."""
  named = {"expert_gate": gate, "expert_up": up, "expert_down": down}
  return (
    Row("layers.*.router", f"{LAYER}{block}.gate.weight", Linear()),
    *(Row(f"layers.*.{ours}", f"{LAYER}{block}.experts.#.{name}.weight", Experts()) for ours, name in named.items()),
  )


WITHOUT_MLP = without(CORE, "gate", "up", "down")
MIXTRAL_WEIGHTS = (*WITHOUT_MLP, *experts("block_sparse_moe", "w1", "w3", "w2"))
MOE_WEIGHTS = (*WITHOUT_MLP, *experts("mlp", "gate_proj", "up_proj", "down_proj"))
