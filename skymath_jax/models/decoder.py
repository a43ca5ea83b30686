"""The decoder: Llama's architecture with its later variants as switches of `DecoderConfig`.

Source: Llama 2 (2307.09288) section 2.2; Mistral 7B (2310.06825) for the window; Qwen2/Qwen3 for qkv bias and qk norm.
Two call patterns share one block: training and prefill over rows of tokens, decode over one token per slot. Example::

  decoder = Decoder(DecoderConfig(vocab_size=600, embed=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=128))
  logits = decoder(tokens)  # float32 [batch length vocab]
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from skymath_jax.errors import UserError
from skymath_jax.models import attention, experts, rope
from skymath_jax.models.attention import Attend
from skymath_jax.models.cache import KVCache
from skymath_jax.models.config import DecoderConfig, LayerKind, Segment
from skymath_jax.models.product import mean_square, product
from skymath_jax.models.rope import Rotation
from skymath_jax.models.vocabulary import vocabulary_logits
from skymath_jax.sharding import constrain


def _keeping(*names: str) -> Any:
  """A remat policy that keeps the values of these names.

  cuDNN's attention is kept whole, by its primitive: its statistics have no name, and without them the backward pass
  would run the kernel again.
  """
  named = jax.checkpoint_policies.save_only_these_names(*names)
  return lambda primitive, *_, **params: "dot_product_attention_fwd" in primitive.name or named(primitive, **params)


ATTENTION_NAMES = ("q", "k", "v", "attended")
REMAT: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
  "none": lambda f: f,
  "wide": lambda f: jax.checkpoint(f, policy=_keeping(*ATTENTION_NAMES, "middle", "gate", "up"), prevent_cse=False),
  "names": lambda f: jax.checkpoint(f, policy=_keeping(*ATTENTION_NAMES), prevent_cse=False),
  "full": lambda f: jax.checkpoint(f, prevent_cse=False),
}

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "silu": jax.nn.silu,
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}
NORMS = {  # the norms of a layer by `DecoderConfig.norm_placement`
  "before": ("attention_norm", "mlp_norm"),
  "after": ("attention_out_norm", "mlp_out_norm"),
  "both": ("attention_norm", "attention_out_norm", "mlp_norm", "mlp_out_norm"),
}
COMPUTE_SETTINGS = frozenset(  # what `replace` may change
  ("dtype", "remat", "attention", "window", "max_positions", "rope_theta", "rope_scaling", "norm_eps", "family")
)


def weight(
  rngs: nnx.Rngs, config: DecoderConfig, shape: dict[str, int], *, std: float, stack: int = 0
) -> nnx.Param[jax.Array]:
  """A normal parameter whose `shape` maps logical axis to size; `stack` puts that many layers in front.

  `eager_sharding=False` lets a model be built outside any mesh; names only travel with the value.
  """
  shape = {"layers": stack, **shape} if stack else shape
  value = std * jax.random.normal(rngs.params(), tuple(shape.values()), jnp.float32)
  return nnx.Param(value.astype(config.param_dtype), out_sharding=tuple(shape), eager_sharding=False)


def constant(value: float, config: DecoderConfig, shape: dict[str, int], *, stack: int = 0) -> nnx.Param[jax.Array]:
  """A parameter of this shape (axis → size) that starts as `value` everywhere: norm scales and biases."""
  shape = {"layers": stack, **shape} if stack else shape
  filled = jnp.full(tuple(shape.values()), value, config.param_dtype)
  return nnx.Param(filled, out_sharding=tuple(shape), eager_sharding=False)


def norm_scale(config: DecoderConfig, shape: dict[str, int], *, stack: int = 0) -> nnx.Param[jax.Array]:
  """The scale of a norm, of this shape (axis → size), which at first leaves what it normalizes."""
  return constant(0.0 if config.norm == "one_plus" else 1.0, config, shape, stack=stack)


def rms_norm(x: jax.Array, scale: jax.Array, config: DecoderConfig) -> jax.Array:
  """x `[... embed]` over its root mean square, times scale `[embed]`; x may end in several axes, as scale does.

  Statistics are float32. Whether x is cast back before the scale or after it is what bfloat16 parity with Hugging Face
  needs, and differs by family (`config.norm`).
  """
  wide = x.astype(jnp.float32)
  wide = wide * jax.lax.rsqrt(mean_square(wide, scale.ndim) + config.norm_eps)
  if config.norm == "narrow":
    return wide.astype(x.dtype) * scale.astype(x.dtype)
  offset = 1.0 if config.norm == "one_plus" else 0.0
  return (wide * (offset + scale.astype(jnp.float32))).astype(x.dtype)


class Block(nnx.Module):
  """One layer, or `stack` layers with stacked weights to be sliced by a scan.

  Args:
    config: sizes and switches.
    rngs: source of the initial weights: normal with variance 1 / inputs, residual outputs smaller by 2 × layers.
    stack: number of layers in one; 0 for a plain layer.
  """

  def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, stack: int = 0):
    self.config = config
    D, H, K, C, F = config.embed, config.heads, config.kv_heads, config.head_dim, config.mlp
    inner, outer = D**-0.5, 1 / math.sqrt(2 * config.layers)
    heads, kv_heads = {"heads": H, "head_dim": C}, {"kv_heads": K, "head_dim": C}

    for name in NORMS[config.norm_placement]:
      setattr(self, name, norm_scale(config, {"embed": D}, stack=stack))
    self.q = weight(rngs, config, {"embed": D, **heads}, std=inner, stack=stack)
    self.k = weight(rngs, config, {"embed": D, **kv_heads}, std=inner, stack=stack)
    self.v = weight(rngs, config, {"embed": D, **kv_heads}, std=inner, stack=stack)
    self.o = weight(rngs, config, {**heads, "embed": D}, std=outer * (H * C) ** -0.5, stack=stack)
    if config.qkv_bias:
      self.q_bias = constant(0.0, config, heads, stack=stack)
      self.k_bias = constant(0.0, config, kv_heads, stack=stack)
      self.v_bias = constant(0.0, config, kv_heads, stack=stack)
    if config.qk_norm:
      self.q_norm = norm_scale(config, heads if config.norm_all_heads else {"head_dim": C}, stack=stack)
      self.k_norm = norm_scale(config, kv_heads if config.norm_all_heads else {"head_dim": C}, stack=stack)
    if config.experts:
      each = {"experts": config.experts}
      self.router = weight(rngs, config, {"embed": D, "router": config.experts}, std=inner, stack=stack)
      self.expert_gate = weight(rngs, config, {**each, "embed": D, "mlp": F}, std=inner, stack=stack)
      self.expert_up = weight(rngs, config, {**each, "embed": D, "mlp": F}, std=inner, stack=stack)
      self.expert_down = weight(rngs, config, {**each, "mlp": F, "embed": D}, std=outer * F**-0.5, stack=stack)
    else:
      self.gate = weight(rngs, config, {"embed": D, "mlp": F}, std=inner, stack=stack)
      self.up = weight(rngs, config, {"embed": D, "mlp": F}, std=inner, stack=stack)
      self.down = weight(rngs, config, {"mlp": F, "embed": D}, std=outer * F**-0.5, stack=stack)

  def __call__(self, x: jax.Array, rotate: Rotation, attend: Attend) -> tuple[jax.Array, Any]:
    """x `[... embed]` -> the same, and the keys and values that `attend` hands out."""
    y, kv = self.attention(self.normed("attention_norm", x), rotate, attend)
    x = checkpoint_name(x + self.normed("attention_out_norm", y), "middle")
    return x + self.normed("mlp_out_norm", self.mlp(self.normed("mlp_norm", x))), kv

  def normed(self, name: str, x: jax.Array) -> jax.Array:
    """x `[... embed]` after the norm of that name, where the layer has it."""
    scale = getattr(self, name, None)
    return x if scale is None else rms_norm(x, scale[...], self.config)

  def project(self, name: str, x: jax.Array) -> jax.Array:
    """Queries, keys or values `[... heads head_dim]` of x `[... embed]`, with the family's bias and norm."""
    y = product("...d,dhk->...hk", x, getattr(self, name)[...])
    if self.config.qkv_bias:
      y = y + getattr(self, f"{name}_bias")[...].astype(x.dtype)
    return self.normed(f"{name}_norm", y)

  @jax.named_scope("attention")
  def attention(self, x: jax.Array, rotate: Rotation, attend: Attend) -> tuple[jax.Array, Any]:
    """Grouped-query attention on x `[... embed]`; heads == kv_heads is multi-head, kv_heads == 1 multi-query."""
    q = checkpoint_name(rotate.q(self.project("q", x)), "q")
    k = checkpoint_name(rotate.k(self.project("k", x)), "k")
    v = checkpoint_name(self.project("v", x), "v")
    y, kv = attend(q, k, v)
    return product("...hk,hkd->...d", y, self.o[...]), kv

  @jax.named_scope("mlp")
  def mlp(self, x: jax.Array) -> jax.Array:
    """A gated MLP (Shazeer, 2002.05202), or each token's experts of such, on x `[... embed]`."""
    activation = ACTIVATIONS[self.config.activation]
    if self.config.experts:
      weights = (w[...] for w in (self.router, self.expert_gate, self.expert_up, self.expert_down))
      return experts.mixture(self.config, activation, x, *weights)
    gate = checkpoint_name(product("...d,df->...f", x, self.gate[...]), "gate")
    up = checkpoint_name(product("...d,df->...f", x, self.up[...]), "up")
    return product("...f,fd->...d", activation(gate) * up, self.down[...])


class Decoder(nnx.Module):
  """Tokens in, float32 logits out.

  Args:
    config: sizes and switches.
    rngs: source of the initial weights; the default makes the same model every time.
  """

  def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs | None = None):
    rngs = nnx.Rngs(0) if rngs is None else rngs
    self.config = config
    table = {"vocab": config.vocab_size, "embed": config.embed}
    self.embedding = weight(rngs, config, table, std=config.embed**-0.5)
    self.layers: Block | nnx.List[Block]
    if not config.scan_layers:
      self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
    elif len(config.segments) == 1:
      self.layers = Block(config, rngs=rngs, stack=config.layers)
    else:
      self.layers = nnx.List([Block(config, rngs=rngs, stack=len(part.layers)) for part in config.segments])
    self.norm = norm_scale(config, {"embed": config.embed})
    if not config.tie_embeddings:
      self.head = weight(rngs, config, table, std=config.embed**-0.5)

  def __call__(
    self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
  ) -> jax.Array:
    """Logits float32 `[batch length vocab]` of int `tokens` `[batch length]`.

    `positions` default to 0, 1, …; `segment_ids` to one segment a row (0 marks padding).
    """
    return self.unembed(self.hidden(tokens, positions, segment_ids))

  def hidden(
    self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
  ) -> jax.Array:
    """`[batch length embed]` in compute dtype, after the final norm: what `unembed` takes."""
    return self._run(tokens, positions, segment_ids, keep_kv=False)[0]

  def prefill(
    self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
  ) -> KVCache:
    """Keys and values of each layer, `[batch length kv_heads head_dim]`, ready for `cache.insert`."""
    return self.hidden_and_kv(tokens, positions, segment_ids)[1]

  def hidden_and_kv(
    self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
  ) -> tuple[jax.Array, KVCache]:
    """`hidden` and `prefill` in one pass of `[batch length]`, where the first new token is wanted at once."""
    return self._run(tokens, positions, segment_ids, keep_kv=True)

  @property
  def output_table(self) -> jax.Array:
    """What hidden states are compared with, `[vocab embed]`: the head, or where it is tied the embeddings."""
    return (self.embedding if self.config.tie_embeddings else self.head)[...]

  def unembed(self, hidden: jax.Array, table: jax.Array | None = None) -> jax.Array:
    """Float32 logits `[... vocab]` of `hidden` `[... embed]`; the sums run in float32 whatever the compute dtype.

    `table` is the `output_table`, where the caller has placed it otherwise.
    """
    with jax.named_scope("unembed"):
      logits = vocabulary_logits(hidden, self.output_table if table is None else table)
      return attention.capped(logits, self.config.logit_cap)

  def decode(
    self, tokens: jax.Array, cache: KVCache, positions: jax.Array, *, length: int | None = None
  ) -> tuple[jax.Array, KVCache]:
    """One step for every slot: logits float32 `[slots vocab]` of int `tokens` `[slots]`, and the cache with them in it.

    Keys and values go to `positions` `[slots]`; each token sees all positions at or before its own. `length` (static)
    bounds how far the cache is read: pass a bucket above the longest live slot so that cost follows live lengths.
    Layers are unrolled; call it on `unstacked()`, else each step slices the stack.
    """
    x = self._embed(tokens)
    kinds = self._kinds(positions)
    updated = []
    for block, kind, layer in zip(self._blocks(), self.config.kinds, cache, strict=True):
      config, rotate = kinds[kind]
      x, new = block(x, rotate, attention.cached(config, layer, positions, length))
      updated.append(new)
    return self.unembed(rms_norm(x, self.norm[...], self.config)), tuple(updated)

  def replace(self, **changes: Any) -> "Decoder":
    """A decoder of the same weights with other compute settings.

    Raises:
      UserError: a change that the weights do not allow.
    """
    if fixed := changes.keys() - COMPUTE_SETTINGS:
      raise UserError(f"{min(fixed)} belongs to the weights", where="Decoder.replace", remedy="build another Decoder")
    config = dataclasses.replace(self.config, **changes)
    model = nnx.eval_shape(lambda: Decoder(config))
    nnx.update(model, nnx.state(self, nnx.Param))
    return model

  def unstacked(self, *, give_up: bool = False) -> "Decoder":
    """The same weights with one array per layer, for decode; itself if it is so already.

    `give_up` frees each stack as soon as it is taken apart: this decoder is of no use afterwards, and the weights are
    never held twice.
    """
    if not self.config.scan_layers:
      return self
    model = nnx.eval_shape(lambda: Decoder(dataclasses.replace(self.config, scan_layers=False)))
    held = nnx.to_pure_dict(nnx.state(self, nnx.Param))
    layers = held.pop("layers")
    held["layers"] = {i: {} for i in range(self.config.layers)}
    stacks = [layers] if isinstance(self.layers, Block) else [layers[i] for i in range(len(self.layers))]
    for segment, weights in zip(self.config.segments, stacks, strict=True):
      for name, stack in weights.items():
        for i in segment.layers:
          held["layers"][i][name] = _slice(stack, jnp.int32(i - segment.start))
        if give_up and isinstance(stack, jax.Array):
          jax.block_until_ready(held["layers"])
          stack.delete()
    state = nnx.state(model, nnx.Param)
    nnx.replace_by_pure_dict(state, held)
    nnx.update(model, state)
    return model

  def extend(self, tokens: jax.Array, context: KVCache, start: jax.Array) -> KVCache:
    """Keys and values of one row's next `tokens` `[1 length]`, as `prefill` gives them.

    `context` holds those of the tokens before, `[1 room kv_heads head_dim]` a layer; the first `start` of them count.
    """
    x, length = self._embed(tokens), tokens.shape[1]
    kinds = self._kinds(start + jnp.arange(length)[None])
    kv = []
    for block, kind, layer in zip(self._blocks(), self.config.kinds, context, strict=True):
      config, rotate = kinds[kind]
      x, new = block(x, rotate, attention.continued(config, layer, start, length))
      kv.append(new)
    return tuple(kv)

  def _embed(self, tokens: jax.Array) -> jax.Array:
    x = jnp.take(self.embedding[...], tokens, axis=0).astype(self.config.dtype)
    return x * jnp.asarray(self.config.embed**0.5, x.dtype) if self.config.scale_embedding else x

  def _kinds(self, positions: jax.Array) -> dict[LayerKind, tuple[DecoderConfig, Rotation]]:
    """What tokens at `positions` `[...]` need in a layer of each kind."""
    configs = {kind: self.config.of(kind) for kind in self.config.kinds}
    return {kind: (config, rope.rotation(config, positions)) for kind, config in configs.items()}

  def _stacks(self) -> list[Block]:
    """The stacked weights of each segment."""
    return [self.layers] if isinstance(self.layers, Block) else list(self.layers)

  def _blocks(self) -> list[Block]:
    if not self.config.scan_layers:
      return self._stacks()
    blocks = []
    for segment, stack in zip(self.config.segments, self._stacks(), strict=True):
      graph, weights = nnx.split(stack)
      blocks += [nnx.merge(graph, jax.tree.map(lambda w: w[i], weights)) for i in range(len(segment.layers))]  # noqa: B023
    return blocks

  def _run(
    self, tokens: jax.Array, positions: jax.Array | None, segment_ids: jax.Array | None, *, keep_kv: bool
  ) -> tuple[jax.Array, Any]:
    """The stack over rows: `[batch length embed]` after the final norm, and all layers' keys and values."""
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    if segment_ids is None:
      segment_ids = jnp.ones_like(tokens)
    tools = {
      kind: (rotate, attention.packed(config, segment_ids, keep_kv=keep_kv))
      for kind, (config, rotate) in self._kinds(positions).items()
    }
    x = constrain(self._embed(tokens), "batch", "length", "act_embed")

    def layer(kind: LayerKind, graph: Any, x: jax.Array, weights: Any) -> tuple[jax.Array, Any]:
      x, kv = nnx.merge(graph, weights)(x, *tools[kind])
      return constrain(x, "batch", "length", "act_embed"), kv

    def layer_of(kind: LayerKind, graph: Any) -> Callable[[jax.Array, Any], tuple[jax.Array, Any]]:
      return REMAT[self.config.remat](functools.partial(layer, kind, graph))

    kv: list[Any] = []
    if not self.config.scan_layers:
      for kind, (graph, weights) in zip(self.config.kinds, map(nnx.split, self._stacks()), strict=True):
        x, one = layer_of(kind, graph)(x, weights)
        kv.append(one)
    else:
      for segment, stack in zip(self.config.segments, self._stacks(), strict=True):
        x, parts = _scan(self.config.kinds, segment, stack, x, layer_of)
        kv += [jax.tree.map(lambda a: a[i], part) for i in range(segment.repeats) for part in parts]  # noqa: B023
    return rms_norm(x, self.norm[...], self.config), tuple(kv)


def _scan(
  kinds: Sequence[LayerKind],
  segment: Segment,
  stack: Block,
  x: jax.Array,
  layer: Callable[[LayerKind, Any], Callable[[jax.Array, Any], tuple[jax.Array, Any]]],
) -> tuple[jax.Array, Any]:
  """x `[batch length embed]` through a segment, one period a step; what `layer` keeps, stacked, for each of a period.

  `layer(kind, graph)` gives what runs one layer of `x` with weights.
  """
  graph, weights = nnx.split(stack)
  functions = [layer(kind, graph) for kind in kinds[segment.start : segment.start + segment.period]]
  if segment.period > 1:
    weights = jax.tree.map(lambda w: w.reshape(segment.repeats, segment.period, *w.shape[1:]), weights)

  def step(x: jax.Array, weights: Any) -> tuple[jax.Array, Any]:
    kept = []
    for place, function in enumerate(functions):
      own = weights if segment.period == 1 else jax.tree.map(lambda w: w[place], weights)  # noqa: B023
      x, new = function(x, own)
      kept.append(new)
    return x, kept

  return jax.lax.scan(step, x, weights)


@jax.jit
def _slice(stack: jax.Array, layer: jax.Array) -> jax.Array:
  """One layer of a stack; the number is an argument, so that all layers share one compilation."""
  return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)
