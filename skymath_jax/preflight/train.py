"""The train step, compiled for a TPU slice that is not there: libtpu does it on any x86-64 Linux machine.

It is `training.step.sharded` over `training.step.placed` of an abstract decoder: the function that the loop runs.
"""

import dataclasses
import functools
import importlib.util
import os
import re
import time
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import topologies

from skymath_jax import sharding
from skymath_jax.config import Training
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB, Hardware
from skymath_jax.models import Decoder, DecoderConfig, attention, lora
from skymath_jax.models.lora import Adapters
from skymath_jax.training import optimizer, step
from skymath_jax.training.packing import Packing, abstract_batch

# Another libtpu on this machine is no trouble while nobody holds a chip
ENVIRONMENT = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """`peak_bytes` of one chip by the compiler's plan; where it gave up, what it says that it needed.

  It is arguments and temporaries in full. The compiler's own peak is lower (15.0 for 16.0 GiB in one case), as not all
  of them are used at one moment; whether the rest can be used otherwise only a chip could tell.
  """

  fits: bool
  peak_bytes: int
  temporary_bytes: int
  seconds: float


def devices(target: Hardware) -> list[Any]:
  """The slice's devices, as far as the compiler needs them.

  Raises:
    UserError: libtpu is not installed.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise UserError(
      "libtpu is not installed, so nothing can be compiled for a TPU",
      where="preflight",
      remedy='pip install "skymath-jax[tpu]" (a wheel of about 200 MB; it needs no TPU)',
    )
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  return list(topologies.get_topology_desc(platform="tpu", **target.topology()).devices)


def lower(
  config: DecoderConfig, settings: Training, mesh: jax.sharding.Mesh, adapters: Adapters | None = None
) -> jax.stages.Lowered:
  """The train step for `mesh`, with abstract arguments placed as the loop places real ones."""
  chain = optimizer.make(settings)
  plain = functools.partial(Decoder, config)
  decoder = nnx.eval_shape(plain if adapters is None else lambda: lora.attach(plain(), adapters))
  with jax.set_mesh(mesh):
    graph, state, places = step.placed(decoder, chain, mesh)
    batch = {}
    packing = Packing(
      max_length=settings.max_length, rows=settings.rows, epochs=1, micro_batches=settings.micro_batches
    )
    for key, value in abstract_batch(packing).items():
      where = sharding.named(mesh, None, "batch", "length", shape=value.shape)
      batch[key] = jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=where)
    run = step.sharded(places)
    return run.lower(state, batch, np.float32(0), graph=graph, optimizer=chain, loss_chunk=settings.loss_chunk)


def compile_step(
  config: DecoderConfig, settings: Training, mesh: jax.sharding.Mesh, adapters: Adapters | None = None
) -> Outcome:
  """Lowers and compiles; running out of memory is an outcome, every other failure is raised."""
  config = dataclasses.replace(
    config, attention=attention.AUTO["tpu"] if config.attention == "auto" else config.attention
  )
  return outcome_of(lower(config, settings, mesh, adapters))


def outcome_of(lowered: jax.stages.Lowered) -> Outcome:
  """Compiles any program; running out of memory is an outcome, every other failure is raised."""
  start = time.perf_counter()
  try:
    plan: Any = lowered.compile().memory_analysis()  # None only for platforms that keep no plan
  except jax.errors.JaxRuntimeError as error:
    needed = bytes_needed(str(error))
    if needed is None:
      raise
    return Outcome(fits=False, peak_bytes=needed, temporary_bytes=0, seconds=time.perf_counter() - start)
  peak = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
  seconds = time.perf_counter() - start
  return Outcome(fits=True, peak_bytes=peak, temporary_bytes=plan.temp_size_in_bytes, seconds=seconds)


def bytes_needed(message: str) -> int | None:
  """Bytes that the compiler asked for in its out-of-memory message; None if the message is about something else."""
  if "RESOURCE_EXHAUSTED" not in message:
    return None
  found = re.search(r"Used ([\d.]+)([MG]) of", message) or re.search(r"temporaries \(([\d.]+)([MG])\)", message)
  if not found:
    return 0
  return int(float(found[1]) * (GIB if found[2] == "G" else 2**20))
