"""The sizes of published models by their folder's name, for what needs no weights: preflight and benchmarks.

Facts from the models' own config.json; a folder that is at hand is read instead (`models.config_of`).
"""

import dataclasses

from skymath_jax.models.config import DecoderConfig

LLAMA_2_7B = DecoderConfig(embed=4096, layers=32, heads=32, kv_heads=32, head_dim=128, vocab_size=32_000, mlp=11_008)
PUBLISHED = {
  "Llama-2-7b-hf": LLAMA_2_7B,
  "Mistral-7B-v0.1": dataclasses.replace(
    LLAMA_2_7B, kv_heads=8, mlp=14_336, window=4096, max_positions=32_768, family="mistral"
  ),
  "Qwen3-8B": dataclasses.replace(
    LLAMA_2_7B,
    layers=36,
    kv_heads=8,
    vocab_size=151_936,
    mlp=12_288,
    qk_norm=True,
    max_positions=40_960,
    rope_theta=1e6,
    norm_eps=1e-6,
    family="qwen3",
  ),
  "deepseek-math-7b-base": dataclasses.replace(LLAMA_2_7B, layers=30, vocab_size=102_400, norm_eps=1e-6),
}
