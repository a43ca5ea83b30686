"""Low-rank adapters (LoRA, 2106.09685) on every linear layer of a decoder, over weights that stay as they are.

`attach` puts something else in the place of each weight: the weight itself, perhaps in fewer bits, and the two factors
that are trained. The decoder multiplies with it as with any other (`product`) and does not know::

  decoder = lora.attach(decoder, Adapters(rank=16, alpha=32.0, base="nf4"))
  graph, trained, frozen = lora.split(decoder)
  plain = lora.merge(decoder)
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax
from flax import nnx
from jax import numpy as jnp

from skymath_jax import sharding
from skymath_jax.models.blockwise import Blockwise
from skymath_jax.models.decoder import Block, Decoder
from skymath_jax.models.product import LowRank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapters:
  """What is added to each linear layer: alpha / rank · a·b. `base` says in which type the frozen weights are held.

  An empty `base` leaves them as they are; otherwise the matrices of the layers, and only these, are rounded.
  """

  rank: int
  alpha: float
  base: Literal["", "int8", "nf4"] = ""

  @property
  def scale(self) -> float:
    """What the product of the factors is multiplied with."""
    return self.alpha / self.rank


class Factor(nnx.Param[jax.Array]):
  """One of an adapter's two factors: what is trained where there are any."""


class Adapted(nnx.Module):
  """What stands in a decoder for a weight that is adapted.

  Args:
    weight: that it replaces, `[layers in... out...]`, its axes named: `embed` is either all of its input or its output.
    adapters: rank, scale and the frozen type.
    rngs: of the factor `a`, uniform up to 1 / √inputs as in PEFT; `b` begins as 0, so that nothing changes at first.
  """

  def __init__(self, weight: nnx.Param[jax.Array], adapters: Adapters, rngs: nnx.Rngs):
    axes, shape = _axes(weight), weight[...].shape
    stack = int(axes[0] == "layers")
    split = stack + 1 if axes[stack] == "embed" else len(axes) - 1
    self.axes = axes
    self.scale = adapters.scale
    self.weight = Blockwise(weight, adapters.base) if adapters.base else weight
    most = math.prod(shape[stack:split]) ** -0.5
    a = jax.random.uniform(rngs.params(), (*shape[:split], adapters.rank), jnp.float32, -most, most)
    b = jnp.zeros((*shape[:stack], adapters.rank, *shape[split:]), jnp.float32)
    self.a = Factor(a, out_sharding=(*axes[:split], "rank"), eager_sharding=False)
    self.b = Factor(b, out_sharding=(*axes[:stack], "rank", *axes[split:]), eager_sharding=False)

  def __getitem__(self, _: object) -> LowRank:
    return LowRank(self.weight[...], self.a[...], self.b[...], self.scale)

  def merged(self, dtype: Any) -> nnx.Param[jax.Array]:
    """The sum `[layers in... out...]` as a plain weight; added up in float32, of a stack one layer at a time."""
    graph, state = nnx.split(self)

    def one(state: Any) -> jax.Array:
      found = nnx.merge(graph, state)[...]
      added = found.scale * jnp.tensordot(found.a, found.b, 1, precision="highest")
      return (found.w.astype(jnp.float32) + added).astype(dtype)

    value = jax.jit(functools.partial(jax.lax.map, one) if self.axes[0] == "layers" else one)(state)
    return nnx.Param(value, out_sharding=self.axes, eager_sharding=False)


def _matrices(decoder: Decoder) -> Iterator[tuple[Block, str]]:
  """Block and attribute of every weight that is, or may be, adapted: each matrix reads `embed` or writes it.

  Experts and their router stay as they are: an adapter of each would see few tokens, and PEFT has no form for it.
  """
  blocks = [module for _, module in nnx.iter_modules(decoder) if isinstance(module, Block)]
  for module in blocks:
    for name, value in list(vars(module).items()):
      axes = set(_axes(value)) - {"layers"} if isinstance(value, nnx.Param) else set()
      if isinstance(value, Adapted) or ({"embed"} < axes and not axes & {"experts", "router"}):
        yield module, name


def _axes(weight: nnx.Param[jax.Array]) -> tuple[str, ...]:
  axes: tuple[str, ...] = weight.get_metadata()["out_sharding"]
  return axes


def attach(decoder: Decoder, adapters: Adapters, *, rngs: nnx.Rngs | None = None) -> Decoder:
  """The decoder itself, each linear layer of its blocks adapted; the weights of one are rounded before the next's.

  It is the last thing done to a decoder before training: `replace` and `unstacked` know plain ones only.
  """
  rngs = nnx.Rngs(0) if rngs is None else rngs
  for block, name in _matrices(decoder):
    setattr(block, name, Adapted(getattr(block, name), adapters, rngs))
  return decoder


def merge(decoder: Decoder, dtype: Any = None) -> Decoder:
  """The decoder itself, its adapters added to the weights they adapt, in `dtype` (default: that of its weights)."""
  for block, name in _matrices(decoder):
    found = getattr(block, name)
    if isinstance(found, Adapted):
      setattr(block, name, found.merged(dtype or decoder.config.param_dtype))
  return decoder


def plain(decoder: Decoder, mesh: jax.sharding.Mesh | None = None, *, dtype: Any = None) -> Decoder:
  """A decoder of the merged weights, placed on `mesh`; `dtype` is of weights and compute, default as they are."""
  config = decoder.config
  if dtype is not None:
    config = dataclasses.replace(config, dtype=jnp.dtype(dtype).name, param_dtype=jnp.dtype(dtype).name)
  params = jax.tree.map(
    lambda x: x.astype(config.param_dtype), nnx.state(merge(decoder, config.param_dtype), nnx.Param)
  )
  if mesh is not None:
    params = sharding.place(params, sharding.shardings_of(params, mesh))
  model = nnx.eval_shape(lambda: Decoder(config))
  nnx.update(model, params)
  return model


def is_adapted(decoder: nnx.Module) -> bool:
  """Whether there are adapters in it."""
  return any(isinstance(module, Adapted) for _, module in nnx.iter_modules(decoder))


def split(decoder: nnx.Module) -> tuple[nnx.GraphDef[Any], Any, Any]:
  """(structure, what is trained, what stays as it is): the factors and all else, or all weights and nothing."""
  graph, *states = nnx.split(decoder, Factor if is_adapted(decoder) else nnx.Param, ...)
  trained, frozen = states
  return graph, trained, frozen
