"""Does a model serve from a slice that is not here, and how much? Compiles the engine's decode and prefill for it.

The programs are `engine.programs.Programs`, the ones that `skymath serve` runs. Memory of one chip is the compiler's
plan; what it leaves beside weights and temporaries is filled with slots: `tokens` of keys and values fit, in all slots.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax import sharding
from skymath_jax.engine import plan, weights
from skymath_jax.engine.programs import Programs, abstract_state
from skymath_jax.engine.types import EngineSettings, prefix_budget
from skymath_jax.hardware import Hardware
from skymath_jax.models import Decoder, DecoderConfig, attention
from skymath_jax.preflight import train


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeReport:
  """What fits; bytes are of one chip. `tokens` is how many the cache could hold in all, at most.

  `kept_bytes` are keys and values beside the slots: of the prefix cache, and of prompts that wait for a slot.
  """

  topology: str
  mesh: dict[str, int]
  fits: bool
  usable_bytes_per_chip: int
  peak_bytes_per_chip: int
  weight_bytes: int
  cache_bytes: int
  kept_bytes: int
  temporary_bytes: int
  prefill_peak_bytes: int
  bytes_per_token: int
  tokens: int
  slots_of_max_length: int
  compile_seconds: dict[str, float]


def check(config: DecoderConfig, settings: EngineSettings, target: Hardware) -> ServeReport:
  """Compiles one decode call and one piece of prefill at `settings.slots` × `settings.max_length`.

  Raises:
    UserError: libtpu is not installed.
  """
  programs = lowered(config, settings, target)
  decode, prefill = train.outcome_of(programs.decode), train.outcome_of(programs.prefill)
  weights, cache = programs.weight_bytes, programs.cache_bytes
  token = _ceil(cache, settings.slots * settings.max_length)
  beside = 2 * token * prefix_budget(settings.max_length)  # prefix cache, and prompts that wait for a slot
  prefill_peak = prefill.peak_bytes + cache + beside  # the slots are there meanwhile
  peak = max(decode.peak_bytes + beside, prefill_peak)
  room = target.chip.usable_bytes - (peak - cache)
  fits = decode.fits and prefill.fits and peak <= target.chip.usable_bytes
  return ServeReport(
    topology=target.name,
    mesh=programs.mesh_sizes,
    fits=fits,
    usable_bytes_per_chip=target.chip.usable_bytes,
    peak_bytes_per_chip=peak,
    weight_bytes=weights,
    cache_bytes=cache,
    kept_bytes=beside,
    temporary_bytes=decode.temporary_bytes,
    prefill_peak_bytes=prefill_peak,
    bytes_per_token=token,
    tokens=max(0, room // token),
    slots_of_max_length=max(0, room // token // settings.max_length),
    compile_seconds={"decode": round(decode.seconds, 1), "prefill": round(prefill.seconds, 1)},
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lowered:
  """The engine's two large programs for a slice, not compiled yet, and the bytes that one chip holds."""

  decode: jax.stages.Lowered
  prefill: jax.stages.Lowered
  mesh_sizes: dict[str, int]
  weight_bytes: int
  cache_bytes: int


def lowered(config: DecoderConfig, settings: EngineSettings, target: Hardware) -> Lowered:
  """One decode call, all slots being full, and one piece of prefill, as the engine would run them on `target`.

  Raises:
    UserError: libtpu is not installed.
  """
  sizes = plan.mesh_sizes(config, settings, target.devices, target.chip.usable_bytes)
  mesh = sharding.make_mesh(**sizes, devices=train.devices(target))
  config = dataclasses.replace(config, scan_layers=False, remat="none", attention=attention.AUTO["tpu"])
  programs = Programs(config, settings.steps_per_call)
  params = abstract_params(config, settings, mesh)
  with jax.set_mesh(mesh):
    state = abstract_state(config, settings.slots, settings.max_length, settings.kv_dtype(config.dtype), mesh)
    whole = _Whole(mesh)
    decode = programs.generate.lower(params, state, whole(), whole((1,)), length=settings.max_length)
    prefill = programs.prefill.lower(params, whole((1, settings.prefill_chunk)))
  return Lowered(
    decode=decode,
    prefill=prefill,
    mesh_sizes=sizes,
    weight_bytes=_bytes(params),
    cache_bytes=_bytes(state.cache),
  )


class _Whole:
  """Abstract int32 arrays that every chip holds a copy of."""

  def __init__(self, mesh: jax.sharding.Mesh):
    self._where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def __call__(self, shape: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.int32, sharding=self._where)


def abstract_params(config: DecoderConfig, settings: EngineSettings, mesh: jax.sharding.Mesh) -> Any:
  """The engine's parameters as shapes with places."""
  params = nnx.state(nnx.eval_shape(functools.partial(Decoder, config)), nnx.Param)
  places = sharding.shardings_of(params, mesh)

  def put(x: Any, where: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

  placed = jax.tree.map(put, params, places)
  if settings.weights != "int8":
    return placed
  rounded = jax.eval_shape(weights.quantize, params)
  copied = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return weights.Quantized(
    jax.tree.map(put, rounded.values, places), jax.tree.map(lambda x: put(x, copied), rounded.scales)
  )


def _bytes(tree: Any) -> int:
  """Bytes that one chip holds of a tree of placed shapes."""
  return sum(int(np.prod(x.sharding.shard_shape(x.shape))) * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def _ceil(total: int, parts: int) -> int:
  return -(-total // parts)
