"""Tiny random models of every family, made by transformers, with every switch that the real ones have on."""

import copy
import tempfile

import numpy as np
import safetensors.numpy
import torch
import transformers

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


def rope(theta, **more):
  return {"rope_parameters": {"rope_type": "default", "rope_theta": theta} | more}


# name: (transformers' class, what differs from SIZES). Key-value heads: ratios 1, 2 and 4 for each class that has them.
MODELS = {
  "llama-2": ("Llama", {"num_key_value_heads": 4}),
  "llama-3": ("Llama", rope(500_000.0)),
  "llama-3.1": ("Llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 1}),
  "llama-3.2": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True, "head_dim": 16}),
  "codellama": ("Llama", rope(1_000_000.0) | {"num_key_value_heads": 4, "vocab_size": 336}),
  "llama-linear": ("Llama", rope(10_000.0, rope_type="linear", factor=2.0)),
  "deepseekmath": ("Llama", {"num_key_value_heads": 4, "vocab_size": 512, "rms_norm_eps": 1e-6}),
  "mistral-v0.1": ("Mistral", {"sliding_window": 7, "num_key_value_heads": 1}),
  "mistral-v0.3": ("Mistral", rope(1_000_000.0) | {"sliding_window": None, "vocab_size": 384}),
  "qwen2": ("Qwen2", rope(1_000_000.0) | {"tie_word_embeddings": True, "rms_norm_eps": 1e-6}),
  "qwen2.5": ("Qwen2", rope(1_000_000.0) | {"num_key_value_heads": 1, "rms_norm_eps": 1e-6}),
  "qwen3": ("Qwen3", rope(1_000_000.0) | {"head_dim": 16, "rms_norm_eps": 1e-6}),
  "qwen3-tied": ("Qwen3", {"head_dim": 16, "num_key_value_heads": 4, "tie_word_embeddings": True}),
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16}
LONG = {"short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.0, 7.5], "original_max_position_embeddings": 128}
# Families whose layers differ, or stand otherwise than Llama's. Layer counts are no multiple of the period; head_dim
# is not hidden_size / heads where the family has that key.
LATER_MODELS = {
  "llama-yarn": ("Llama", {"rope_parameters": YARN}),
  "llama-dynamic": ("Llama", rope(10_000.0, rope_type="dynamic", factor=2.0)),
  "ministral": (
    "Ministral",
    {"sliding_window": 7, "num_hidden_layers": 3, "head_dim": 12}
    | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
  ),
  "ministral-3": (
    "Ministral3",
    {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3}, "head_dim": 16},
  ),
  "qwen2-sliding": (
    "Qwen2",
    {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "num_hidden_layers": 3},
  ),
  "gemma-2": (
    "Gemma2",
    {"num_hidden_layers": 5, "head_dim": 16, "sliding_window": 7, "query_pre_attn_scalar": 20}
    | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "pad_token_id": 0},
  ),
  "gemma-3": (
    "Gemma3Text",
    {"num_hidden_layers": 8, "head_dim": 12, "sliding_window": 7, "query_pre_attn_scalar": 24, "pad_token_id": 0}
    | {"sliding_window_pattern": 3, "num_key_value_heads": 1, "tie_word_embeddings": False}
    | {
      "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
      }
    },
  ),
  "gemma-3-tied": ("Gemma3Text", {"head_dim": 16, "sliding_window": 7, "sliding_window_pattern": 2, "pad_token_id": 0}),
  "olmo-2": ("Olmo2", {"pad_token_id": 0, "num_key_value_heads": 4}),
  "olmo-3": (
    "Olmo3",
    {"num_hidden_layers": 6, "sliding_window": 7, "pad_token_id": 0}
    | {"rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}},
  ),
  "smollm3": ("SmolLM3", {"num_hidden_layers": 5, "no_rope_layer_interval": 2, "pad_token_id": 0}),
  "qwen3-moe": (
    "Qwen3Moe",
    {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "norm_topk_prob": True, "head_dim": 12},
  ),
  "mixtral": ("Mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2, "num_hidden_layers": 3, "pad_token_id": 0}),
  "olmoe": ("Olmoe", {"num_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 16, "pad_token_id": 0}),
  "phi-3": ("Phi3", {"num_key_value_heads": 4, "sliding_window": 7, "pad_token_id": 0}),
  "phi-4-mini": (
    "Phi3",
    {"num_key_value_heads": 1, "partial_rotary_factor": 0.75, "tie_word_embeddings": True, "pad_token_id": 0}
    | {"original_max_position_embeddings": 128}
    | {"rope_parameters": {"rope_type": "longrope", "rope_theta": 100.0, "partial_rotary_factor": 0.75, **LONG}},
  ),
}


def make(name, **changes):
  """The torch model `name`, float32; all weights are random, norms and biases too."""
  kind, differs = (MODELS | LATER_MODELS)[name]
  torch.manual_seed(0)
  config = getattr(transformers, f"{kind}Config")(**{**SIZES, **differs, **changes})
  model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.15 + ("norm" in key and not kind.startswith("Gemma")))
  return model


def saved(model, of):
  """`of` each parameter, float32 arrays by the names that a folder has: a module may hold many experts in one."""
  copied = copy.deepcopy(model)
  with torch.no_grad():
    for one, parameter in zip(copied.parameters(), model.parameters(), strict=True):
      one.copy_(of(parameter))
  with tempfile.TemporaryDirectory() as folder:
    copied.save_pretrained(folder)
    return safetensors.numpy.load_file(f"{folder}/model.safetensors")


def logits(model, tokens, **more):
  """float32 logits of int `tokens` `[batch length]`."""
  with torch.no_grad():
    return model(torch.tensor(np.asarray(tokens)), **more).logits.float().numpy()
