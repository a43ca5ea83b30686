"""The verdict: fits or not, peak and breakdown of one chip, step seconds, and the smallest change that makes it fit."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from skymath_jax import sharding
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.models import DecoderConfig
from skymath_jax.preflight import compiled, estimate
from skymath_jax.preflight.targets import GIB, Target
from skymath_jax.training import Settings

STRONGER = {"none": "wide", "wide": "names", "names": "full"}  # remat that keeps less
Change = dict[str, Any]  # config key → value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What `preflight.json` holds; `method` is `compiled` or `estimated`."""

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
  settings: Settings
  mesh_sizes: dict[str, int]

  def changed(self, change: Change) -> "_Recipe":
    model = {key.removeprefix("model."): v for key, v in change.items() if key.startswith("model.")}
    rest = {key.removeprefix("training."): v for key, v in change.items() if key.startswith("training.")}
    config = dataclasses.replace(self.config, **model)
    return dataclasses.replace(self, config=config, settings=dataclasses.replace(self.settings, **rest))


def check(
  config: DecoderConfig, settings: Settings, mesh_sizes: dict[str, int], target: Target, *, advise: bool = True
) -> Report:
  """Compiles (or, for GPUs, estimates) the train step of a recipe for `target`.

  Args:
    config: of the decoder, with the compute dtype, remat and parameter dtype of the recipe.
    settings: of the training stage.
    mesh_sizes: `data`, `fsdp`, `tensor`, as in the config.
    target: from `targets.target`.
    advise: where it does not fit, try changes until one does; each try is a compilation.

  Raises:
    UserError: the mesh does not suit the slice, or libtpu is not installed.
  """
  recipe = _Recipe(config=config, settings=settings, mesh_sizes=mesh_sizes)
  mesh, outcome = _try(recipe, target)
  mine = estimate.share(settings, mesh)
  parts = estimate.breakdown(config, settings, mine)
  if outcome.fits and target.compiles:
    parts["everything_else"] = max(0, outcome.peak_bytes - sum(parts.values()))
  bounds = estimate.step_seconds(config, settings, mine, target)
  advice = _headroom(outcome, target) if outcome.fits else []
  if not outcome.fits and advise:
    advice = [_remedy(recipe, target, mesh)]
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


def _try(recipe: _Recipe, target: Target) -> tuple[Any, compiled.Outcome]:
  """(mesh, outcome) of one recipe on one target."""
  if target.compiles:
    mesh = sharding.make_mesh(**recipe.mesh_sizes, devices=compiled.devices(target))
    return mesh, compiled.compile_step(recipe.config, recipe.settings, mesh)
  mesh = sharding.abstract_mesh(**recipe.mesh_sizes, count=target.chips)
  mine = estimate.share(recipe.settings, mesh)
  needed = sum(estimate.breakdown(recipe.config, recipe.settings, mine).values())
  fits = needed <= target.chip.usable_bytes
  return mesh, compiled.Outcome(fits=fits, peak_bytes=needed, temporary_bytes=0, seconds=0.0)


def _headroom(outcome: compiled.Outcome, target: Target) -> list[str]:
  free = target.chip.usable_bytes - outcome.peak_bytes
  return [f"fits, with {free / GIB:.1f} GiB of {target.chip.usable_bytes / GIB:.2f} GiB a chip to spare"]


def changes(recipe_config: DecoderConfig, settings: Settings, shards: int) -> Iterator[Change]:
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


def _remedy(recipe: _Recipe, target: Target, mesh: jax.sharding.Mesh) -> str:
  """The first change that the target takes, else the first larger slice on which the recipe fits as it is."""
  for change in changes(recipe.config, recipe.settings, sharding.parts(mesh, "batch")):
    if not _plausible(recipe.changed(change), target, mesh):
      continue
    log(f"does not fit; trying {_spelled(change)}")
    _, outcome = _try(recipe.changed(change), target)
    if outcome.fits:
      return f"set {_spelled(change)}: then it needs {outcome.peak_bytes / GIB:.1f} GiB a chip"
  larger = target.larger()
  while larger is not None:
    log(f"does not fit; trying {larger.name}")
    try:
      _, outcome = _try(recipe, larger)
    except UserError:  # a mesh with fixed sizes
      outcome = None
    if outcome is not None and outcome.fits:
      return f"use {larger.name}: there it needs {outcome.peak_bytes / GIB:.1f} GiB a chip"
    larger = larger.larger()
  return "nothing that preflight knows makes it fit: shorten training.max_length, or take chips with more memory"


def _plausible(recipe: _Recipe, target: Target, mesh: Any) -> bool:
  """Whether the states and kept activations alone would fit: what cannot fit by arithmetic is not compiled."""
  mine = estimate.share(recipe.settings, mesh)
  parts = estimate.breakdown(recipe.config, recipe.settings, mine)
  return sum(parts[key] for key in ("parameters", "first_moment", "second_moment")) < target.chip.usable_bytes


def _spelled(change: Change) -> str:
  return " ".join(f"--config.{key}={value}" for key, value in change.items())
