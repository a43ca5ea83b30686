"""What defines a decoder: its sizes and switches in one frozen dataclass, and the arithmetic that follows from them.

Example: `DecoderConfig(vocab_size=32000, embed=4096, layers=32, heads=32, kv_heads=32, head_dim=128, mlp=11008)` is
Llama-2-7B; `config.parameters` is then 6,738,415,616.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from jax import numpy as jnp

from skymath_jax.errors import UserError

CHOICES = {
  "activation": ("silu", "gelu_tanh"),
  "norm": ("narrow", "wide", "one_plus"),
  "norm_placement": ("before", "after", "both"),
  "remat": ("none", "wide", "names", "full"),
  "dtype": ("float32", "bfloat16", "float16"),
  "param_dtype": ("float32", "bfloat16", "float16"),
}


MAX_SIZE = 2**31 - 1  # of anything that is counted
MAX_LAYERS = MAX_EXPERTS = 10_000  # ten times the most that there are: each is a name in lists
MAY_BE_ZERO = {"may be": 0}  # said of a field for numbers
KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _require_kinds(config: Any) -> None:
  """Numbers where numbers are meant, and finite ones: configs come from strangers."""
  for field in dataclasses.fields(config):
    value, types = getattr(config, field.name), get_args(field.type)
    optional = type(None) in types
    kinds = KINDS.get(getattr(types[0] if optional else field.type, "__name__", ""))
    if field.name in CHOICES or kinds is None or (optional and value is None):
      continue
    wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    nothing = value == 0 and not field.metadata
    if wrong or (float in kinds and (nothing or not 0 <= value < float("inf"))):
      what = f"{str(value)[:80]!r} is no {'positive number' if float in kinds else kinds[0].__name__}"
      where = f"{type(config).__name__}.{field.name}"
      raise UserError(what, where=where, remedy="take config.json of the original model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
  """How rotary angles are stretched for contexts longer than pre-training's: the numbers of `rope.SCALINGS[kind]`.

  What None means is said there, too. `query_growth` makes queries longer with their position (Ministral 3).
  """

  kind: str
  factor: float | None = None
  low_frequency_factor: float = 1.0
  high_frequency_factor: float = 4.0
  original_positions: int = 8192
  beta_fast: float | None = None
  beta_slow: float | None = None
  truncate: bool | None = None
  magnitude: float | None = None
  mscale: float | None = None
  mscale_all_dim: float | None = None
  short_factors: tuple[float, ...] = ()
  long_factors: tuple[float, ...] = ()
  query_growth: float | None = None

  def __post_init__(self) -> None:
    for name in ("short_factors", "long_factors"):
      object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
    _require_kinds(self)
    if self.factor is None and self.kind != "longrope":
      raise UserError(f"{self.kind} has no factor", where="RopeScaling.factor", remedy="say by how much it stretches")

  @property
  def follows_length(self) -> bool:
    """Whether the angles of a position depend on how long its text is."""
    return self.kind in ("dynamic", "longrope")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKind:
  """What a layer of a `DecoderConfig.pattern` has for itself; the fields mean what those of `DecoderConfig` do."""

  window: int | None = None
  rotary: float = 1.0
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "LayerKind":
    """The inverse of `dataclasses.asdict`."""
    scaling = values.get("rope_scaling")
    return cls(**{**values, "rope_scaling": RopeScaling(**scaling) if scaling else None})


class Segment(NamedTuple):
  """Layers from `start` on that one scan runs over: `repeats` times `period` layers of the same kinds."""

  start: int
  period: int
  repeats: int

  @property
  def layers(self) -> range:
    """Their numbers."""
    return range(self.start, self.start + self.period * self.repeats)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Sizes and switches of a Llama-architecture decoder.

  The defaults after `mlp` are Llama-2's. `window` is the number of keys a query sees, itself included (None = all
  before it); `rotary` the share of each head that turns with the position (0 = none); `pattern`, where layers differ,
  one period of their kinds, which then stand for `window` and the three rotary fields.

  `query_scalar` ** -0.5 scales the scores (None: head_dim); `attention_cap` and `logit_cap` bound scores and logits
  softly by cap × tanh(x / cap). `norm` says how a norm's scale enters: after the cast to the compute dtype (`narrow`,
  Llama), before it (`wide`), before it as 1 + scale (`one_plus`, Gemma); `norm_placement`, whether the norms of a layer
  stand before attention and MLP, after them, or both; `qk_norm`, whether queries and keys have one, for each head or
  (`norm_all_heads`) over all of them. `scale_embedding` multiplies embeddings by √embed. With `experts` a layer has so
  many MLPs of width `mlp`, of which each token gets `experts_per_token`, their weights made to sum to 1 if
  `normalize_experts`.

  `dtype` is of compute, `param_dtype` of the weights at rest. `remat` says what the backward pass
  recomputes: nothing (`none`), all but q, k, v and the attention output (`names`), the whole block (`full`); `wide`
  keeps what `names` does, the residual between the block's halves, and the gate and up projections. `scan_layers`
  stacks the layers' weights and compiles one period; `attention` names a back-end of `attention.BACKENDS` or `auto`.
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
  rotary: float = dataclasses.field(default=1.0, metadata=MAY_BE_ZERO)
  pattern: tuple[LayerKind, ...] = ()
  query_scalar: float | None = None
  attention_cap: float | None = None
  logit_cap: float | None = None
  activation: str = "silu"
  norm: str = "narrow"
  norm_placement: str = "before"
  norm_all_heads: bool = False
  scale_embedding: bool = False
  experts: int = 0
  experts_per_token: int = 0
  normalize_experts: bool = False

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "DecoderConfig":
    """The inverse of `dataclasses.asdict`."""
    scaling = values.get("rope_scaling")
    pattern = tuple(LayerKind.from_json(kind) for kind in values.get("pattern", ()))
    return cls(**{**values, "rope_scaling": RopeScaling(**scaling) if scaling else None, "pattern": pattern})

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
      most = MAX_LAYERS if name == "layers" else MAX_SIZE
      if not 1 <= getattr(self, name) <= most:
        what = f"{getattr(self, name)} is not between 1 and {most:,}"
        raise UserError(what, where=f"DecoderConfig.{name}", remedy="take config.json of the original model")
    if self.heads % self.kv_heads:
      raise UserError(
        f"{self.heads} query heads cannot share {self.kv_heads} key-value heads evenly",
        where="DecoderConfig.kv_heads",
        remedy="choose a divisor of heads",
      )
    if self.head_dim % 2:
      raise UserError(f"{self.head_dim} is odd", where="DecoderConfig.head_dim", remedy="rotary positions need pairs")
    if not min(self.experts, 1) <= self.experts_per_token <= self.experts <= MAX_EXPERTS:
      what = f"{self.experts_per_token} of {self.experts} experts, of which there may be {MAX_EXPERTS:,}"
      raise UserError(what, where="DecoderConfig.experts", remedy="take config.json of the original model")
    self._check_layers()

  def _check_layers(self) -> None:
    """What one layer may be; of a pattern, every layer."""
    if self.pattern:
      object.__setattr__(self, "pattern", tuple(self.pattern))
      if self.window is not None or self.rope_scaling is not None:
        what = "window and rope_scaling are not read where there is a pattern"
        raise UserError(what, where="DecoderConfig.pattern", remedy="say them in its kinds")
      for kind in set(self.pattern):
        self.of(kind)
      return
    if self.window is not None and not 1 <= self.window <= MAX_SIZE:
      raise UserError(f"{self.window} is not positive", where="DecoderConfig.window", remedy="use None for no window")
    if not 0 <= self.rotary <= 1:
      raise UserError(f"{self.rotary} is no share", where="DecoderConfig.rotary", remedy="use 1 to turn whole heads")
    scaling = self.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
      for name in ("short_factors", "long_factors"):
        if len(getattr(scaling, name)) != (pairs := -(-self.rotary_dims // 2)):
          what = f"{len(getattr(scaling, name))} numbers for {pairs} pairs of dimensions"
          raise UserError(what, where=f"RopeScaling.{name}", remedy="take config.json of the original model")

  @property
  def kinds(self) -> tuple[LayerKind, ...]:
    """The kind of each layer."""
    alike = LayerKind(
      window=self.window, rotary=self.rotary, rope_theta=self.rope_theta, rope_scaling=self.rope_scaling
    )
    pattern = self.pattern or (alike,)
    return tuple(pattern[i % len(pattern)] for i in range(self.layers))

  def of(self, kind: LayerKind) -> "DecoderConfig":
    """The config of a decoder all of whose layers are of this kind."""
    own = {field.name: getattr(kind, field.name) for field in dataclasses.fields(kind)}
    return dataclasses.replace(self, pattern=(), **own)

  @property
  def segments(self) -> tuple[Segment, ...]:
    """The layers as few scans: from each start on, the period that repeats over the most layers."""
    return _segments(self.kinds)

  @property
  def rotary_dims(self) -> int:
    """Dimensions of a head that turn with the position."""
    return int(self.head_dim * self.rotary)

  @property
  def score_scale(self) -> float:
    """What products of queries and keys are multiplied by."""
    return float((self.head_dim if self.query_scalar is None else self.query_scalar) ** -0.5)

  @property
  def servable_positions(self) -> int:
    """Positions that a cache may hold: past them longrope would turn the keys that are in it by other angles."""
    scalings = [kind.rope_scaling for kind in set(self.kinds) if kind.rope_scaling is not None]
    originals = [scaling.original_positions for scaling in scalings if scaling.kind == "longrope"]
    return min([self.max_positions, *originals])

  @property
  def matmul_parameters(self) -> int:
    """Weights that a token multiplies with: all but norms, biases, the input embedding and experts of other tokens."""
    attention = self.embed * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
    mlp = self.embed * (3 * self.mlp_per_token + self.experts)
    return self.layers * (attention + mlp) + self.vocab_size * self.embed

  @property
  def mlp_per_token(self) -> int:
    """Hidden units of a layer that one token goes through: of all its experts, where there are any."""
    return self.mlp * max(1, self.experts_per_token)

  @property
  def parameters(self) -> int:
    """All weights; a tied embedding counts once."""
    width = self.head_dim * (self.heads + self.kv_heads if self.norm_all_heads else 2)
    around = 4 if self.norm_placement == "both" else 2
    norms = self.layers * (around * self.embed + width * self.qk_norm) + self.embed
    biases = self.layers * self.head_dim * (self.heads + 2 * self.kv_heads) * self.qkv_bias
    others = 3 * self.layers * self.embed * self.mlp * (self.experts - self.experts_per_token)
    embedding = 0 if self.tie_embeddings else self.vocab_size * self.embed
    return self.matmul_parameters + others + norms + biases + embedding

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
    """Mean number of keys that a query of a row of `length` tokens sees, over the layers."""
    seen = np.arange(1, length + 1)
    number = {kind.window: 0 for kind in self.kinds}
    for kind in self.kinds:
      number[kind.window] += 1
    by_window = {w: float(np.mean(seen if w is None else np.minimum(seen, w))) for w in number}
    return sum(number[w] * by_window[w] for w in number) / self.layers


@functools.lru_cache(maxsize=256)
def _segments(kinds: tuple[LayerKind, ...]) -> tuple[Segment, ...]:
  found: list[Segment] = []
  start = 0
  while start < len(kinds):
    found.append(_longest(kinds, start))
    start = found[-1].layers.stop
  return tuple(found)


def _longest(kinds: Sequence[LayerKind], start: int) -> Segment:
  """The segment from `start` on that covers the most of `kinds`, with the shortest period that does so."""
  best = Segment(start, 1, 1)
  for period in range(1, len(kinds) - start + 1):
    end = start + period
    while end < len(kinds) and kinds[end] == kinds[end - period]:
      end += 1
    repeats = (end - start) // period
    if (repeats > 1 or period == 1) and period * repeats > len(best.layers):
      best = Segment(start, period, repeats)
  return best
