"""Tiny random models of every family, made by transformers, with every switch that the real ones have on."""

import numpy as np
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


def make(name, **changes):
  """The torch model `name`, float32; all weights are random, norms and biases too."""
  kind, differs = MODELS[name]
  torch.manual_seed(0)
  config = getattr(transformers, f"{kind}Config")(**{**SIZES, **differs, **changes})
  model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.15 + ("norm" in key))
  return model


def logits(model, tokens, **more):
  """float32 logits of int `tokens` `[batch length]`."""
  with torch.no_grad():
    return model(torch.tensor(np.asarray(tokens)), **more).logits.float().numpy()
