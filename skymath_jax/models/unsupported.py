"""Models that this decoder does not compute, by `model_type`, and what each would need, for who brings one."""

SHARED = "an expert that all tokens share beside those that a router chooses"
LATENT = "keys and values from a compressed latent (multi-head latent attention)"
DELTA = "gated delta-net layers with a recurrent state in place of keys and values, and gated attention"
NEEDS = {
  "qwen2_moe": SHARED,
  "phimoe": "a router of its own kind, layer norms, and biases",
  "granitemoe": "multipliers of embeddings, scores, residuals and logits, and experts that lie in one tensor",
  "gpt_oss": "attention sinks, and experts with biases and in 4 bits",
  "llama4_text": f"{SHARED}, and attention in chunks",
  "minimax": "linear attention, and multipliers of residuals",
  "deepseek_v2": f"{SHARED}; {LATENT}",
  "deepseek_v3": f"{SHARED}, a router that chooses by groups; {LATENT}",
  "minicpm3": LATENT,
  "qwen3_next": f"{DELTA}; {SHARED}",
  "qwen3_5_text": DELTA,
  "olmo_hybrid": DELTA,
  "gemma": "an entry in families: Gemma 1 is Gemma 2 without caps, windows and norms behind attention and MLP",
  "gemma3n_text": "per-layer embeddings, layers that share keys and values, and an MLP that keeps few activations",
  "gemma4_text": "per-layer embeddings, layers that share keys and values, and heads of two sizes",
  "granite": "multipliers of embeddings, scores, residuals and logits",
  "cohere": "layer norms, attention and MLP side by side, and a multiplier of logits",
  "cohere2": "layer norms, attention and MLP side by side, and a multiplier of logits",
  "glm4": "rotary positions of neighbouring pairs, on half of each head",
  "phi": "layer norms, biases everywhere, and attention and MLP side by side",
  "olmo": "layer norms without weights",
  "falcon": "layer norms, and attention and MLP side by side",
  "gpt2": "learned positions and layer norms",
  "gpt_neox": "layer norms, biases, and attention and MLP side by side",
  "mamba": "state-space layers in place of attention",
  "mamba2": "state-space layers in place of attention",
}
