"""The keys of a config.json that are no family's own: which change what a decoder computes, and which do not.

A config gathers keys from every tool that a model went through. One that would change the forward pass is refused; the
rest is logged and ignored, and the comparison of logits that ends an import has the last word.
"""

import re
from collections.abc import Mapping
from typing import Any

OFF: tuple[Any, ...] = (None, False, 0, "", [], {})  # values under which a key says nothing
CHANGES_FORWARD = {
  "activation_function", "add_cross_attention", "alibi", "attention_chunk_size", "attention_multiplier",
  "attention_out_bias", "attn_logit_softcapping", "attn_scale", "attn_temperature_tuning", "clip_qkv",
  "cross_attention_layers", "dim_model_base", "embedding_multiplier", "final_logit_softcapping", "hidden_activation",
  "is_encoder_decoder", "kv_lora_rank", "logit_scale", "logits_scaling", "moe_intermediate_size", "n_routed_experts",
  "no_rope_layers", "num_experts", "num_experts_per_tok", "num_local_experts", "parallel_attn",
  "partial_rotary_factor", "position_embedding_type", "pruned_heads", "q_lora_rank", "qk_layernorm", "qk_norm",
  "qkv_bias", "query_pre_attn_scalar", "residual_multiplier", "rotary_dim", "rotary_pct", "scale_depth", "scale_emb",
  "sliding_window_pattern", "transformers_weights", "use_alibi", "use_bias", "use_mup", "use_parallel_residual",
  "use_post_norm", "use_qk_norm",
}  # fmt: skip
NEUTRAL = {  # ... unless they have one of these values
  **dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "rotary_pct"), (1,)),
  "partial_rotary_factor": (1,),
  **dict.fromkeys(("activation_function", "hidden_activation"), ("silu", "swish")),
  "position_embedding_type": ("rope", "rotary"),
}
# What every config has, for training, for generation and as history
EXPECTED = {
  "_attn_implementation", "_name_or_path", "architectures", "attention_dropout", "attn_implementation", "auto_map",
  "bos_token_id", "cache_implementation", "chunk_size_feed_forward", "diversity_penalty", "dtype", "eos_token_id",
  "finetuning_task", "full_attn_mod", "id2label", "initializer_range", "interpolate_factor", "is_decoder", "label2id",
  "layer_types", "length_penalty", "max_length", "max_window_layers", "min_length", "model_type", "name_or_path",
  "num_beam_groups", "num_beams", "num_return_sequences", "pad_token_id", "pretraining_tp", "problem_type",
  "repetition_penalty", "return_dict", "rope_parameters", "rope_scaling", "rope_theta", "sliding_window",
  "task_specific_params", "temperature", "tie_encoder_decoder", "top_k", "top_p", "torch_dtype", "torchscript",
  "transformers_version", "typical_p", "unk_token_id", "use_cache",
}  # fmt: skip
LEFTOVERS = re.compile(  # of the tools through which a model went
  r"_.*|unsloth_.*|transformers\.js_config|is_llama_config|use_flash_att.*|(tokenizer|processor)_class|output_.*|"
  r"(model_max|max_sequence)_length|tokenizer_.*|.*(dropout|_version|_dtype)|gradient_checkpointing|do_sample|prefix|"
  r"vocab_size_multiple|(sep|cls|decoder_start)_token_id"
)


def sorted_out(keys: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
  """(what changes the forward pass, what is known not to, what is not known), each in order, without what is off."""
  on = {key: value for key, value in sorted(keys.items()) if key not in EXPECTED and value not in OFF}
  changing = [key for key in on if key in CHANGES_FORWARD and on[key] not in NEUTRAL.get(key, ())]
  others = [key for key in on if key not in CHANGES_FORWARD]
  ignored = [key for key in others if LEFTOVERS.fullmatch(key)]
  return changing, ignored, [key for key in others if key not in ignored]
