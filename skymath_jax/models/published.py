"""The sizes of published models by their folder's name, for what needs no weights: preflight and benchmarks.

Facts from the models' own config.json; a folder that is at hand is read instead (`models.config_of`).
"""

import dataclasses

from skymath_jax.models.config import DecoderConfig, LayerKind, RopeScaling

LLAMA_2_7B = DecoderConfig(embed=4096, layers=32, heads=32, kv_heads=32, head_dim=128, vocab_size=32_000, mlp=11_008)
GEMMA_3_LOCAL, GEMMA_3_GLOBAL = LayerKind(window=512), LayerKind(rope_theta=1e6)
GEMMA_3_1B = DecoderConfig(
  embed=1152, layers=26, heads=4, kv_heads=1, head_dim=256, vocab_size=262_144, mlp=6912, tie_embeddings=True,
  pattern=(*[GEMMA_3_LOCAL] * 5, GEMMA_3_GLOBAL), norm_eps=1e-6, qk_norm=True, norm="one_plus", norm_placement="both",
  activation="gelu_tanh", scale_embedding=True, query_scalar=256.0, max_positions=32_768, family="gemma3",
)  # fmt: skip
GEMMA_3_FAR = dataclasses.replace(GEMMA_3_GLOBAL, rope_scaling=RopeScaling(kind="linear", factor=8.0))
OLMO_3_YARN = RopeScaling(
  kind="yarn", factor=8.0, original_positions=8192, magnitude=1.2079441541679836, beta_fast=32.0, beta_slow=1.0
)
LLAMA_3_1 = RopeScaling(kind="llama3", factor=8.0, original_positions=8192)
QWEN_3_8B = dataclasses.replace(
  LLAMA_2_7B, layers=36, kv_heads=8, vocab_size=151_936, mlp=12_288, qk_norm=True, max_positions=40_960, rope_theta=1e6,
  norm_eps=1e-6, family="qwen3",
)  # fmt: skip
PUBLISHED = {
  "Llama-2-7b-hf": LLAMA_2_7B,
  "Llama-3.1-8B": dataclasses.replace(
    LLAMA_2_7B,
    kv_heads=8,
    vocab_size=128_256,
    mlp=14_336,
    rope_theta=5e5,
    rope_scaling=LLAMA_3_1,
    max_positions=131_072,
  ),
  "Mistral-7B-v0.1": dataclasses.replace(
    LLAMA_2_7B, kv_heads=8, mlp=14_336, window=4096, max_positions=32_768, family="mistral"
  ),
  "Qwen3-8B": QWEN_3_8B,
  "Qwen3-8B-Base": dataclasses.replace(QWEN_3_8B, max_positions=32_768),
  "Qwen3-1.7B-Base": dataclasses.replace(
    QWEN_3_8B, embed=2048, layers=28, heads=16, mlp=6144, tie_embeddings=True, max_positions=32_768
  ),
  "Qwen2.5-Math-7B-Instruct": DecoderConfig(
    embed=3584,
    layers=28,
    heads=28,
    kv_heads=4,
    head_dim=128,
    vocab_size=152_064,
    mlp=18_944,
    qkv_bias=True,
    norm_eps=1e-6,
    max_positions=4096,
    family="qwen2",
  ),
  "Olmo-3-1025-7B": dataclasses.replace(
    LLAMA_2_7B,
    vocab_size=100_278,
    pattern=(*[LayerKind(window=4096, rope_theta=5e5)] * 3, LayerKind(rope_theta=5e5, rope_scaling=OLMO_3_YARN)),
    qk_norm=True,
    norm_all_heads=True,
    norm="wide",
    norm_placement="after",
    norm_eps=1e-6,
    max_positions=65_536,
    family="olmo3",
  ),
  "Qwen3-30B-A3B-Base": dataclasses.replace(
    QWEN_3_8B,
    embed=2048,
    layers=48,
    kv_heads=4,
    mlp=768,
    experts=128,
    experts_per_token=8,
    normalize_experts=True,
    max_positions=32_768,
    family="qwen3_moe",
  ),
  "OLMoE-1B-7B-0125": dataclasses.replace(
    LLAMA_2_7B,
    embed=2048,
    layers=16,
    heads=16,
    kv_heads=16,
    vocab_size=50_304,
    mlp=1024,
    qk_norm=True,
    norm_all_heads=True,
    experts=64,
    experts_per_token=8,
    family="olmoe",
  ),
  "gemma-3-1b-pt": GEMMA_3_1B,
  "gemma-3-4b-pt": dataclasses.replace(  # its language model
    GEMMA_3_1B,
    embed=2560,
    layers=34,
    heads=8,
    kv_heads=4,
    vocab_size=262_208,
    mlp=10_240,
    pattern=(*[dataclasses.replace(GEMMA_3_LOCAL, window=1024)] * 5, GEMMA_3_FAR),
    max_positions=131_072,
  ),
  "deepseek-math-7b-base": dataclasses.replace(LLAMA_2_7B, layers=30, vocab_size=102_400, norm_eps=1e-6),
}
