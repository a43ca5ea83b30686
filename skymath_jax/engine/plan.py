"""How many slots of what length: as the work needs, as the machine has room; else refused before a weight is read.

Used by whoever serves a model: `evaluate`, `skymath serve`, a teacher in this process or behind JetStream.
"""

import dataclasses
from typing import Any

import jax
from etils import epath
from jax import numpy as jnp

from skymath_jax import heap, models, sharding
from skymath_jax.console import log
from skymath_jax.engine import memory
from skymath_jax.engine.sizes import MIN_CACHE, bucket_for, buckets
from skymath_jax.engine.types import EngineSettings, prefix_budget
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB
from skymath_jax.models import Decoder, DecoderConfig
from skymath_jax.tokenizer import Tokenizer

SHARE = 0.9  # of the memory, for what no arithmetic foresees
HOST_BYTES = GIB  # Python, JAX and compiled programs, where they share the memory with the model


def load(
  path: epath.PathLike,
  settings: EngineSettings,
  *,
  dtype: str | None = None,
  requests: int = 0,
  tokens: int = 0,
) -> tuple[Decoder, Tokenizer, EngineSettings]:
  """A model for serving on all devices, one array per layer, and the settings `planned` for it.

  Its weights are for the engine to give up, that they are never held twice.

  In a job of several processes it is on the first device of each, which answers its share by itself.

  Args:
    path: see `models.load_any`.
    settings: at most so many slots and so long.
    dtype: of weights and compute; None as stored.
    requests: how many there will be at one time; 0 = nobody knows.
    tokens: of the longest prompt with its response; 0 = nobody knows.

  Raises:
    UserError: no such model, or not enough memory for it.
  """
  dtype = dtype or models.stored_dtype(path)
  config = dataclasses.replace(models.config_of(path), dtype=dtype, param_dtype=dtype)
  mesh = _serving_mesh(config, settings)
  have = memory.usable(1 if mesh is None else mesh.size)
  copies = 1 if mesh is None else mesh.size // sharding.parts(mesh, "mlp")
  plan = planned(settings, config, have=have, copies=copies, requests=requests, tokens=tokens, where=path)
  decoder, tokenizer = models.load_any(path, mesh=mesh, dtype=dtype)
  decoder = decoder.unstacked(give_up=True)
  heap.give_back()  # the weights as they were read
  return decoder, tokenizer, dataclasses.replace(plan, give_up=True)


def _serving_mesh(config: DecoderConfig, settings: EngineSettings) -> jax.sharding.Mesh | None:
  """All devices of this machine, the model's matrices split over them; None where one is all that there is to use."""
  if (devices := jax.device_count()) == 1 or jax.process_count() > 1:
    return None
  room = memory.usable(devices)
  sizes = mesh_sizes(config, settings, devices, None if room is None else room / devices)
  return sharding.make_mesh(*sizes.values())


def mesh_sizes(config: DecoderConfig, settings: EngineSettings, devices: int, room: float | None) -> dict[str, int]:
  """Mesh sizes for serving from devices with `room` bytes each; None where nobody knows."""
  width = 1 if settings.weights == "int8" else jnp.dtype(config.param_dtype).itemsize
  return sharding.serving_sizes(
    devices,
    kv_heads=config.kv_heads,
    heads=config.heads,
    mlp=config.mlp,
    table=(config.vocab_size, config.embed),
    weights=0.0 if room is None else config.parameters * width / room,
  )


def planned(
  settings: EngineSettings,
  config: DecoderConfig,
  *,
  have: int | None,
  copies: int = 1,
  requests: int = 0,
  tokens: int = 0,
  where: Any = "model",
) -> EngineSettings:
  """`settings` with the slots and the length that this much work needs and memory can hold.

  Args:
    settings: at most so many and so long.
    config: of the model, in the dtypes that it will have.
    have: bytes of all devices; None where nobody knows.
    copies: of the weights, over the devices.
    requests, tokens: see `load`.
    where: what the message names.

  Raises:
    UserError: not one slot fits; with the figures and what to do.
  """
  limit = min(settings.max_length, config.servable_positions)
  length = bucket_for(buckets(MIN_CACHE, limit, halves=True), min(tokens or limit, limit))
  wanted = min(settings.slots, 1 << (requests - 1).bit_length()) if requests else settings.slots
  plan = dataclasses.replace(settings, slots=wanted, max_length=length)
  if have is None:
    return plan
  room = int(SHARE * have) - HOST_BYTES * (sharding.platform() == "cpu")
  fixed, slot = copies * fixed_bytes(config, plan), slot_bytes(config, plan)
  slots = min(wanted, (room - fixed) // slot)
  if slots < 1:
    raise UserError(
      f"{config.parameters / 1e9:.2f}B parameters in {config.dtype} and one sequence of {length:,} tokens need "
      f"{(fixed + slot) / GIB:.1f} GiB of memory, and {max(room, 0) / GIB:.1f} can be had",
      where=where,
      remedy=_remedy(config, plan, room // copies, (fixed + slot) / GIB),
    )
  log(
    f"{where}: {slots} slots of {length:,} tokens, {(fixed + slots * slot) / GIB:.1f} GiB at most "
    f"({'as asked' if slots == settings.slots and length == limit else 'planned'}; {room / GIB:.1f} can be had)"
  )
  return dataclasses.replace(plan, slots=slots)


def fixed_bytes(config: DecoderConfig, settings: EngineSettings) -> int:
  """Bytes whatever the number of slots: weights, the largest of them twice while they are read, kept prompts."""
  width = jnp.dtype(config.param_dtype).itemsize
  weights = config.parameters * width
  stack = config.layers * max(1, config.experts) * config.mlp
  largest = max(stack, config.vocab_size) * config.embed * width
  kept = 2 * prefix_budget(settings.max_length) * _token_bytes(config, config.dtype)
  if settings.weights == "int8":  # rounded one by one after they are read
    return max(weights + largest, config.parameters + kept)
  return weights + largest + kept


def _token_bytes(config: DecoderConfig, dtype: str) -> int:
  """Bytes of the keys and values of one token in all layers."""
  return 2 * config.layers * config.kv_heads * config.head_dim * jnp.dtype(dtype).itemsize


def slot_bytes(config: DecoderConfig, settings: EngineSettings) -> int:
  """Bytes of one slot: keys and values, twice while a cache that follows live lengths is resized, and logits."""
  token = _token_bytes(config, settings.kv_dtype(config.dtype))
  if settings.kv == "int8":
    token += 2 * config.layers * config.kv_heads * 4  # scales
  copies = 2 if sharding.platform() == "cpu" else 1
  return copies * token * settings.max_length + 4 * 4 * config.vocab_size


def _remedy(config: DecoderConfig, settings: EngineSettings, room: int, needed: float) -> str:
  """The first of: shorter sequences, weights in fewer bits, more memory."""
  for length in reversed(buckets(MIN_CACHE, settings.max_length, halves=True)):
    shorter = dataclasses.replace(settings, max_length=length)
    if fixed_bytes(config, shorter) + slot_bytes(config, shorter) <= room:
      return f"serve sequences of at most {length} tokens (serving.max_length), or free memory"
  smaller = "in bfloat16, " if config.param_dtype == "float32" else ""
  return f"take the model {smaller}a smaller model, or a machine with {needed / SHARE + 1:.0f} GiB free"
