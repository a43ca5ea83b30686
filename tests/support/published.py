"""The sizes of real models, as their config.json gives them; source: the models' own repositories on the hub."""

LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
MODELS = {
  "Llama-2-7B": LLAMA | {"intermediate_size": 11008, "vocab_size": 32000},
  "CodeLlama-7B": LLAMA | {"intermediate_size": 11008, "vocab_size": 32016, "rope_theta": 1e6},
  "DeepSeekMath-7B": LLAMA | {"intermediate_size": 11008, "vocab_size": 102400, "num_hidden_layers": 30},
  "Llama-3.1-8B": LLAMA
  | {
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "rope_theta": 5e5,
    "rope_scaling": {
      "rope_type": "llama3",
      "factor": 8.0,
      "low_freq_factor": 1.0,
      "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192,
    },
  },
  "Llama-3.2-1B": LLAMA
  | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
  },
  "Mistral-7B-v0.1": LLAMA
  | {
    "model_type": "mistral",
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
  },
  "Qwen2.5-7B": {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_theta": 1e6,
  },
  "Qwen2.5-Math-1.5B": {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "rope_theta": 1e4,
  },
  "Qwen3-8B": {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "rope_theta": 1e6,
  },
}
PARAMETERS = {  # as published
  "Llama-2-7B": 6_738_415_616,
  "CodeLlama-7B": 6_738_546_688,
  "DeepSeekMath-7B": 6_910_365_696,
  "Llama-3.1-8B": 8_030_261_248,
  "Llama-3.2-1B": 1_235_814_400,
  "Mistral-7B-v0.1": 7_241_732_096,
  "Qwen2.5-7B": 7_615_616_512,
  "Qwen2.5-Math-1.5B": 1_543_714_304,
  "Qwen3-8B": 8_190_735_360,
}
