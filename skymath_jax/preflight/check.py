"""The verdict: fits or not, peak and breakdown of one chip, step seconds, and the smallest change that makes it fit."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jax.sharding import AbstractMesh, Mesh

from skymath_jax import sharding
from skymath_jax.config import Training
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB, Hardware, names
from skymath_jax.models import DecoderConfig
from skymath_jax.models.lora import Adapters
from skymath_jax.preflight import estimate, train

STRONGER = {"none": "wide", "wide": "names", "names": "full"}  # remat that keeps less
Change = dict[str, Any]  # config key → value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What `preflight.json` holds; `method` is `compiled` or `estimated`, bytes are of one device: on v7x half a chip."""

  topology: str
  slices: int
  chips: int
  method: str
  fits: bool
  peak_bytes_per_chip: int
  usable_bytes_per_chip: int
  breakdown: dict[str, int]
  compile_seconds: float
  estimated_step_seconds: float
  bounds: dict[str, float]
  advice: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recipe:
  config: DecoderConfig
  settings: Training
  mesh_sizes: dict[str, int]
  adapters: Adapters | None = None

  def changed(self, change: Change) -> "_Recipe":
    groups: dict[str, Change] = {"model": {}, "training": {}, "mesh": {}}
    for key, value in change.items():
      group, _, name = key.partition(".")
      groups[group][name] = value
    return dataclasses.replace(
      self,
      config=dataclasses.replace(self.config, **groups["model"]),
      settings=dataclasses.replace(self.settings, **groups["training"]),
      mesh_sizes={**self.mesh_sizes, **groups["mesh"]},
    )


def check(
  config: DecoderConfig,
  settings: Training,
  mesh_sizes: dict[str, int],
  target: Hardware,
  *,
  adapters: Adapters | None = None,
  advise: bool = True,
) -> Report:
  """Compiles (or, for GPUs, estimates) the train step of a recipe for `target`.

  Args:
    config: of the decoder, with the compute dtype, remat and parameter dtype of the recipe.
    settings: of the training stage.
    mesh_sizes: `data`, `fsdp`, `tensor`, as in the config.
    target: the machine.
    adapters: what is trained in place of the weights, if anything is.
    advise: where it does not fit, try changes until one does; each try is a compilation.

  Raises:
    UserError: the mesh does not suit the slice, libtpu is not installed, or nobody says what memory there is (a CPU).
  """
  if target.chip.usable == math.inf:
    raise UserError(f"its memory is not known: {target.name}", where="preflight", remedy=f"one of {names()}")
  recipe = _Recipe(config=config, settings=settings, mesh_sizes=mesh_sizes, adapters=adapters)
  mesh, outcome = _try(recipe, target)
  mine = estimate.share(settings, mesh)
  parts = estimate.breakdown(config, settings, mine, adapters)
  if outcome.fits and target.compiles:
    parts["everything_else"] = max(0, outcome.peak_bytes - sum(parts.values()))
  bounds = estimate.step_seconds(config, settings, mine, target, adapted=adapters is not None)
  advice = [_headroom(outcome, target), *_idle(recipe, target, mesh)] if outcome.fits else []
  if not outcome.fits and advise:
    advice = [_remedy(recipe, target)]
  advice += [] if adapters is None else [_all_weights(recipe, mine)]
  return Report(
    topology=target.name,
    slices=target.slices,
    chips=target.chips,
    method="compiled" if target.compiles else "estimated",
    fits=outcome.fits,
    peak_bytes_per_chip=outcome.peak_bytes,
    usable_bytes_per_chip=target.chip.usable_bytes,
    breakdown=parts,
    compile_seconds=round(outcome.seconds, 1),
    estimated_step_seconds=round(bounds["step"], 4),
    bounds={key: round(value, 4) for key, value in bounds.items()},
    advice=advice,
  )


def _try(recipe: _Recipe, target: Hardware) -> tuple[Mesh | AbstractMesh, train.Outcome]:
  """(mesh, outcome) of one recipe on one target."""
  if target.compiles:
    real = sharding.make_mesh(**recipe.mesh_sizes, devices=train.devices(target))
    outcome = train.compile_step(recipe.config, recipe.settings, real, recipe.adapters)
    return real, dataclasses.replace(outcome, fits=outcome.fits and outcome.peak_bytes <= target.chip.usable_bytes)
  mesh = sharding.abstract_mesh(**recipe.mesh_sizes, count=target.devices)
  mine = estimate.share(recipe.settings, mesh)
  needed = sum(estimate.breakdown(recipe.config, recipe.settings, mine, recipe.adapters).values())
  fits = needed <= target.chip.usable_bytes
  return mesh, train.Outcome(fits=fits, peak_bytes=needed, temporary_bytes=0, seconds=0.0)


def _all_weights(recipe: _Recipe, mine: estimate.Share) -> str:
  needed = sum(estimate.breakdown(recipe.config, recipe.settings, mine).values()) / GIB
  return f"training all weights would take {needed:.1f} GiB a chip (estimated, weights {recipe.config.param_dtype})"


def _headroom(outcome: train.Outcome, target: Hardware) -> str:
  free = target.chip.usable_bytes - outcome.peak_bytes
  return f"fits, with {free / GIB:.1f} GiB of {target.chip.usable_bytes / GIB:.2f} GiB a chip to spare"


def _idle(recipe: _Recipe, target: Hardware, mesh: Any) -> Iterator[str]:
  """A word on chips that would all compute the same."""
  rows, shards = recipe.settings.rows // recipe.settings.micro_batches, sharding.parts(mesh, "batch")
  if rows % shards:
    change = spread(recipe.config, recipe.settings, recipe.mesh_sizes, target.devices)
    remedy = f"set {' '.join(_spelled(change))}" if change else f"make config.training.rows a multiple of {shards}"
    yield f"a micro-batch of {rows} rows does not divide over {shards} chips, so each computes all of it: {remedy}"


def spread(config: DecoderConfig, settings: Training, mesh_sizes: dict[str, int], chips: int) -> Change:
  """What the mesh needs so that it uses `chips` and the rows of a micro-batch divide over them; {} if nothing helps."""
  rows, tensor = settings.rows // settings.micro_batches, mesh_sizes["tensor"]
  if tensor < 1:
    return {}
  while rows % (chips // tensor) and config.kv_heads % (2 * tensor) == 0 and chips % (2 * tensor) == 0:
    tensor *= 2
  if rows % (chips // tensor):
    return {}
  change = {} if tensor == mesh_sizes["tensor"] else {"mesh.tensor": tensor}
  sizes = {**mesh_sizes, "tensor": tensor}
  if -1 not in sizes.values() and math.prod(sizes.values()) != chips:
    change["mesh.fsdp"] = -1
  return change


def changes(recipe_config: DecoderConfig, settings: Training, shards: int) -> Iterator[Change]:
  """Changes that save memory, the least costly first: none of them alters what a step computes before the last.

  More micro-batches cost little; stronger remat costs up to a quarter of a step; a bfloat16 first moment is a rounding.
  """
  smaller: Change = {}
  rows = settings.rows // settings.micro_batches
  if rows // 2 >= shards and rows % 2 == 0:
    yield {"training.micro_batches": settings.micro_batches * 2}
    most = settings.micro_batches * (rows // shards)
    if settings.rows % most == 0:
      smaller = {"training.micro_batches": most}
      yield smaller
  remat = recipe_config.remat
  while remat in STRONGER:
    remat = STRONGER[remat]
    yield {"model.remat": remat}
    if smaller:
      yield {**smaller, "model.remat": remat}
  strongest = {**smaller, "model.remat": remat}
  if settings.mu_dtype != "bfloat16":
    yield {"training.mu_dtype": "bfloat16"}
    yield {**strongest, "training.mu_dtype": "bfloat16"}


def _remedy(recipe: _Recipe, target: Hardware) -> str:
  """The first change that the target takes; else the first larger slice, with what it takes there.

  On a larger slice only what leaves the arithmetic alone is tried, and the recipe as it is comes first.
  """
  place: Hardware | None = target
  while place is not None:
    for change in _candidates(recipe, place, larger=place != target):
      log(f"does not fit; trying {' '.join((place.title, *_spelled(change)))}")
      _, outcome = _try(recipe.changed(change), place)
      if outcome.fits:
        needed = f"it needs {outcome.peak_bytes / GIB:.1f} GiB a chip"
        if place == target:
          return f"set {' '.join(_spelled(change))}: then {needed}"
        return f"use {' '.join((place.title, *_spelled(change)))}: there {needed}"
    place = place.larger()
  return "nothing that preflight knows makes it fit: shorten training.max_length, or take chips with more memory"


def _candidates(recipe: _Recipe, target: Hardware, *, larger: bool) -> Iterator[Change]:
  """Changes worth compiling on `target`: what its mesh needs, alone and with what saves memory.

  A mesh of fixed sizes that is not the slice's, and states that alone do not fit by arithmetic, are not.
  """
  base = spread(recipe.config, recipe.settings, recipe.mesh_sizes, target.devices)
  try:
    mesh = sharding.abstract_mesh(**recipe.changed(base).mesh_sizes, count=target.devices)
  except UserError:
    return
  savings = changes(recipe.config, recipe.settings, sharding.parts(mesh, "batch"))
  found = [base] if base or larger else []
  found += [{**base, **change} for change in savings if not (larger and "training.mu_dtype" in change)]
  for change in found:
    changed = recipe.changed(change)
    mine = estimate.share(changed.settings, mesh)
    parts = estimate.breakdown(changed.config, changed.settings, mine, changed.adapters)
    if sum(parts[key] for key in ("parameters", "first_moment", "second_moment")) < target.chip.usable_bytes:
      yield change


def _spelled(change: Change) -> list[str]:
  return [f"--config.{key}={value}" for key, value in change.items()]
