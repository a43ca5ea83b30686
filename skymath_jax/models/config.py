"""What defines a decoder: its sizes and switches in one frozen dataclass, and the arithmetic that follows from them.

Example: `DecoderConfig(vocab_size=32000, embed=4096, layers=32, heads=32, kv_heads=32, head_dim=128, mlp=11008)` is
Llama-2-7B; `config.parameters` is then 6,738,415,616.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp

from skymath_jax.errors import UserError

CHOICES = {
  "remat": ("none", "wide", "names", "full"),
  "dtype": ("float32", "bfloat16", "float16"),
  "param_dtype": ("float32", "bfloat16", "float16"),
}


MAX_SIZE = 2**31 - 1  # of anything that is counted
KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _require_kinds(config: Any) -> None:
  """Numbers where numbers are meant, and finite ones: configs come from strangers."""
  for field in dataclasses.fields(config):
    value, kinds = getattr(config, field.name), KINDS.get(getattr(field.type, "__name__", ""))
    if field.name in CHOICES or kinds is None:
      continue
    wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    if wrong or (float in kinds and not 0 < value < float("inf")):
      what = f"{str(value)[:80]!r} is no {'positive number' if float in kinds else kinds[0].__name__}"
      where = f"{type(config).__name__}.{field.name}"
      raise UserError(what, where=where, remedy="take config.json of the original model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
  """How rotary angles are stretched for contexts longer than pre-training's.

  `linear` divides every angle by `factor`; `llama3` does so for wavelengths above `original_positions /
  low_frequency_factor`, leaves those below `original_positions / high_frequency_factor`, and blends between.
  """

  kind: str
  factor: float
  low_frequency_factor: float = 1.0
  high_frequency_factor: float = 4.0
  original_positions: int = 8192

  def __post_init__(self) -> None:
    _require_kinds(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Sizes and switches of a Llama-architecture decoder.

  The defaults after `mlp` are Llama-2's. `window` is the number of keys a query sees, itself included (None = all
  before it). `dtype` is of compute, `param_dtype` of the weights at rest. `remat` says what the backward pass
  recomputes: nothing (`none`), all but q, k, v and the attention output (`names`), the whole block (`full`); `wide`
  keeps what `names` does, the residual between the block's halves, and the gate and up projections. `scan_layers`
  stacks the layers' weights and compiles one layer; `attention` names a back-end of `attention.BACKENDS` or `auto`.
  `family` is the key of `families.FAMILIES` under which the model is exported.
  """

  vocab_size: int
  embed: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  norm_eps: float = 1e-5
  max_positions: int = 4096
  tie_embeddings: bool = False
  qkv_bias: bool = False
  qk_norm: bool = False
  window: int | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"
  remat: str = "none"
  scan_layers: bool = True
  attention: str = "auto"
  family: str = "llama"

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "DecoderConfig":
    """The inverse of `dataclasses.asdict`."""
    scaling = values.get("rope_scaling")
    return cls(**{**values, "rope_scaling": RopeScaling(**scaling) if scaling else None})

  def __post_init__(self) -> None:
    _require_kinds(self)
    for name in ("dtype", "param_dtype"):  # jnp.bfloat16 is taken for "bfloat16"
      object.__setattr__(self, name, jnp.dtype(getattr(self, name)).name)
    for name, allowed in CHOICES.items():
      if getattr(self, name) not in allowed:
        raise UserError(
          f"{getattr(self, name)!r} is not known", where=f"DecoderConfig.{name}", remedy=f"use one of {allowed}"
        )
    for name in ("vocab_size", "embed", "layers", "heads", "kv_heads", "head_dim", "mlp", "max_positions"):
      if not 1 <= getattr(self, name) <= MAX_SIZE:
        what = f"{getattr(self, name)} is not between 1 and {MAX_SIZE:,}"
        raise UserError(what, where=f"DecoderConfig.{name}", remedy="take config.json of the original model")
    if self.heads % self.kv_heads:
      raise UserError(
        f"{self.heads} query heads cannot share {self.kv_heads} key-value heads evenly",
        where="DecoderConfig.kv_heads",
        remedy="choose a divisor of heads",
      )
    if self.head_dim % 2:
      raise UserError(f"{self.head_dim} is odd", where="DecoderConfig.head_dim", remedy="rotary positions need pairs")
    if self.window is not None and not (isinstance(self.window, int) and self.window >= 1):
      raise UserError(f"{self.window} is not positive", where="DecoderConfig.window", remedy="use None for no window")

  @property
  def matmul_parameters(self) -> int:
    """Weights that every token multiplies with: all but norms, biases and the input embedding (the head counts)."""
    attention = self.embed * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
    return self.layers * (attention + 3 * self.embed * self.mlp) + self.vocab_size * self.embed

  @property
  def parameters(self) -> int:
    """All weights; a tied embedding counts once."""
    norms = self.layers * (2 * self.embed + 2 * self.head_dim * self.qk_norm) + self.embed
    biases = self.layers * self.head_dim * (self.heads + 2 * self.kv_heads) * self.qkv_bias
    return self.matmul_parameters + norms + biases + (0 if self.tie_embeddings else self.vocab_size * self.embed)

  def flops_per_token(self, length: int) -> float:
    """Floating-point operations of forward and backward for one token in a row of `length` tokens.

    Counted: 6 for each matmul weight (2 forward, 4 backward; the head for every token), and 12 × heads × head_dim for
    each of the mean number of keys a query sees under the causal mask and the window. Not counted: norms, rotary,
    softmax, the embedding look-up, recomputation by remat. PaLM's appendix B counts full instead of causal attention.
    """
    return 3 * self.forward_flops_per_token(length)

  def forward_flops_per_token(self, length: int) -> float:
    """The forward part of `flops_per_token`, which is what prefill costs."""
    return 2 * self.matmul_parameters + 4 * self.layers * self.heads * self.head_dim * self.mean_keys(length)

  def mean_keys(self, length: int) -> float:
    """Mean number of keys that a query of a row of `length` tokens sees."""
    seen = np.arange(1, length + 1)
    return float(np.mean(seen if self.window is None else np.minimum(seen, self.window)))

  def kv_bytes_per_token(self, dtype: Any = None) -> int:
    """Bytes of keys and values that one token leaves in the cache, over all layers; `dtype` defaults to compute's."""
    return 2 * self.layers * self.kv_heads * self.head_dim * jnp.dtype(dtype or self.dtype).itemsize
