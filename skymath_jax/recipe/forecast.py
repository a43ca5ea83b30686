"""What a run will take, here or on another machine, told before any is spent: time, memory and disk of each stage.

Arithmetic over what the config asks for: tokens to be read, written and learned, times FLOPs a token, at a share of the
machine's speed. Accelerators are known by their data sheets; a CPU is asked for one product. Times are good to a factor
of two, bytes to a quarter.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
from jax import numpy as jnp

from skymath_jax import files, hardware, models, synthesis
from skymath_jax.config import Experiment
from skymath_jax.convert import parity
from skymath_jax.engine import memory, plan
from skymath_jax.engine.types import EngineSettings
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB, Hardware
from skymath_jax.models import DecoderConfig
from skymath_jax.preflight import estimate
from skymath_jax.recipe import evaluate, export, seeds, synthesize, train
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.records import Facts

KEPT = 0.6  # of what the teacher is asked for: what is parsed, and passes curation
REQUEST_BYTES = 3_000  # of a stored response, its instance and the kept example
TEMPLATE_TOKENS = 60  # of the prompt around a question
RESPONSE_TOKENS = 250  # of an evaluated model, unless it may say less
TOKENS = ("prompt_tokens", "completion_tokens")

# What each kind of work reaches of the machine's products. On a CPU: what a 0.5B teacher and a 135M student had
# (benchmarks/results/real.md); on accelerators training is what docs/estimates.py assumes, the others, bound by memory
# more often than not, are guesses
CPU = {"prefill": 0.6, "decode": 0.4, "train": 0.5}
ACCELERATOR = {"prefill": 0.4, "decode": 0.1, "train": 0.4}
# Seconds that a token takes however small the model is, and a stage however little it does (the quickstart's, measured)
LEAST = {"prefill": 2e-5, "decode": 1.5e-4, "train": 8e-5}
START_SECONDS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One stage: `seconds` is None where only others know; `memory` is of all devices, or of the machine."""

  stage: str
  work: str
  seconds: float | None
  memory: int = 0
  disk: int = 0


@dataclasses.dataclass(frozen=True)
class Pace:
  """What the devices can do: `flops` a second of dense bfloat16 products, and `shares` of it by work.

  `machine` is what they are where they are not those of this job.
  """

  flops: float
  shares: dict[str, float]
  machine: Hardware | None = None

  @classmethod
  def of(cls, machine: Hardware) -> "Pace":
    """By the data sheet of a machine that need not be here."""
    return cls(machine.chip.flops * machine.devices, ACCELERATOR, machine)

  @property
  def devices(self) -> int:
    """How many there are."""
    return self.machine.devices if self.machine else jax.device_count()

  @property
  def memory(self) -> int | None:
    """Bytes that programs may have on all of them together; None where nobody knows."""
    return self.devices * self.machine.chip.usable_bytes if self.machine else memory.usable(self.devices)

  @classmethod
  def here(cls) -> "Pace":
    """By the data sheet, or, of a CPU, by the best of five products of a twentieth of a second."""
    known = hardware.peak_flops(jax.devices()[0].device_kind)
    if known is not None:
      return cls(known * jax.device_count(), ACCELERATOR)
    rows, inner, outer = 256, 2048, 8192
    x, w = jnp.ones((rows, inner), jnp.bfloat16), jnp.ones((inner, outer), jnp.bfloat16)
    product = jax.jit(lambda x, w: jnp.einsum("ri,io->ro", x, w, preferred_element_type=jnp.float32))
    product(x, w).block_until_ready()
    best = float("inf")
    for _ in range(5):
      start = time.perf_counter()
      product(x, w).block_until_ready()
      best = min(best, time.perf_counter() - start)
    return cls(2 * rows * inner * outer / best, CPU)

  def seconds(self, config: DecoderConfig, **tokens: float) -> float:
    """For so many tokens of each kind of work, in rows of some hundred."""
    forward = config.forward_flops_per_token(512)
    factor = {"prefill": 1, "decode": 1, "train": 3}
    return START_SECONDS + sum(
      count * max(LEAST[kind], factor[kind] * forward / (self.flops * self.shares[kind]))
      for kind, count in tokens.items()
    )


def forecast(run: Run, stages: list[Stage], pace: Pace | None = None) -> list[Row]:
  """A row for each of the stages that cost something, here unless `pace` says otherwise; the seeds must be read.

  Raises:
    UserError: a model or a benchmark is not at hand.
  """
  pace, planned = pace or Pace.here(), synthesize.plan(run)
  rows = []
  for stage in stages:
    room = stage.folder.partition("/")[0]
    if room in _ROWS:
      rows.append(_ROWS[room](stage, run, planned, pace))
  return rows


def _methods(stage: Stage, planned: Facts) -> list[Facts]:
  """What is planned of each method in the passes of a folder `…/stageN`."""
  names = ("pass1", "pass2") if stage.folder.endswith("stage1") else ("hard",)
  return [row for name in names for row in planned[name].values()]


def _synthesis(stage: Stage, run: Run, planned: Facts, pace: Pace) -> Row:
  methods = _methods(stage, planned)
  requests, read, written = (sum(row[key] for row in methods) for key in ("requests", *TOKENS))
  work = f"{requests:,} requests at most, {read:,} tokens read and {written:,} written"
  teacher = run.config.teacher
  if synthesize.STUDENT in stage.needs:
    shape, _ = train.step_of(run.config)
  elif teacher.backend not in ("jetstream", "local") or teacher.addresses:
    return Row(stage=stage.name, work=work, seconds=None, disk=requests * REQUEST_BYTES)
  else:
    shape = _shape(teacher.model, run.config.model.dtype)
  seconds = pace.seconds(shape, prefill=read, decode=written)
  held = _served(shape, run.config, pace, requests=teacher.concurrency)
  return Row(stage=stage.name, work=work, seconds=seconds, memory=held, disk=requests * REQUEST_BYTES)


def _training(stage: Stage, run: Run, planned: Facts, pace: Pace) -> Row:
  number = int(stage.folder[-1])
  made = KEPT * sum(row["runs"] for row in _methods(stage, planned))
  lengths = synthesis.Lengths.of(seeds.problems_of(run))
  config, settings = train.step_of(run.config)
  tokens = settings.stage(number).epochs * made * (TEMPLATE_TOKENS + lengths.question + lengths.solution)
  again = 1 + estimate.FORWARDS[config.remat] / 3
  adapters = train.adapters_of(run.config)
  trained = config.parameters if adapters is None else adapters.rank * estimate.inputs_and_outputs(config)
  return Row(
    stage=stage.name,
    work=f"about {tokens:,.0f} tokens",
    seconds=again * pace.seconds(config, train=tokens),
    memory=pace.devices * train.step_bytes(run.config, pace.devices),
    disk=settings.keep * 3 * 4 * trained,
  )


def _evaluation(stage: Stage, run: Run, planned: Facts, pace: Pace) -> Row:
  config = run.config
  found = evaluate.at_hand(config, evaluate.benchmarks_of(config))
  problems = config.evaluation.samples * sum(map(len, found.values()))
  written = problems * min(config.evaluation.max_tokens, RESPONSE_TOKENS)
  shape = _shape(config.model.path, config.model.dtype) if config.model.path else train.step_of(config)[0]
  seconds = pace.seconds(shape, prefill=problems * TEMPLATE_TOKENS, decode=written)
  held = _served(shape, config, pace, requests=problems)
  return Row(
    stage=stage.name,
    work=f"{problems:,} answers",
    seconds=seconds,
    memory=held,
    disk=problems * REQUEST_BYTES,
  )


def _export(stage: Stage, run: Run, planned: Facts, pace: Pace) -> Row:
  shape, _ = train.step_of(run.config)
  size = shape.parameters * jnp.dtype(run.config.export.dtype).itemsize
  problems = seeds.problems_of(run)
  length = TEMPLATE_TOKENS + synthesis.Lengths.of(problems).question
  tokens = length * parity.rows_read(min(len(problems), export.PROMPTS), export.NEW_TOKENS)
  seconds = pace.seconds(shape, prefill=2 * tokens)  # float32 takes twice what bfloat16 does
  return Row(stage=stage.name, work=f"{size / 1e9:.1f} GB, and both models compared", seconds=seconds, disk=size)


_ROWS: dict[str, Callable[[Stage, Run, Facts, Pace], Row]] = {
  "synthesis": _synthesis, "checkpoints": _training, "evaluation": _evaluation, "export": _export,
}  # fmt: skip


def _shape(path: str, dtype: str) -> DecoderConfig:
  return dataclasses.replace(models.config_of(path), dtype=dtype, param_dtype=dtype)


def _served(config: DecoderConfig, experiment: Experiment, pace: Pace, *, requests: int) -> int:
  """Bytes of a model that answers, as its engine will plan them; where not one slot fits, what one would need."""
  wanted = EngineSettings(**dataclasses.asdict(experiment.serving))
  settings = plan.planned(wanted, config, have=None, requests=requests)
  fixed, slot, have = plan.fixed_bytes(config, settings), plan.slot_bytes(config, settings), pace.memory
  whole = fixed + settings.slots * slot
  return whole if have is None or fixed + slot > have else min(whole, have)


def require(rows: Sequence[Row], run: Run, pace: Pace) -> None:
  """Refuses a run that the machine has no room for; of another one's disk nothing is known.

  Raises:
    UserError: more memory or disk is needed than there is.
  """
  have = pace.memory
  for row in rows:
    if have is not None and row.memory > have:
      what = f"{row.stage} needs about {row.memory / GIB:.1f} GiB of memory, and {have / GIB:.1f} can be had"
      raise UserError(what, where="config", remedy="a smaller model, fewer training.rows, or a larger machine")
  needed, free = sum(row.disk for row in rows), None if pace.machine else files.free_bytes(run.workdir.path)
  if free is not None and needed > free:
    what = f"the run needs about {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free"
    raise UserError(what, where=run.workdir.where, remedy="free some, or name another --workdir")


def lines(rows: Sequence[Row]) -> Iterator[str]:
  """The rows as people read them, and what they come to."""
  for row in rows:
    took = "as fast as the teacher answers" if row.seconds is None else _duration(row.seconds)
    yield f"  {row.stage}: {row.work}; {took}"
  known = _duration(sum(row.seconds or 0.0 for row in rows))
  others = ", and the teacher's time" if any(row.seconds is None for row in rows) else ""
  most, disk = max((row.memory for row in rows), default=0), sum(row.disk for row in rows)
  yield f"all together {known}{others}; {most / GIB:.1f} GiB of memory at most, {disk / 1e9:.1f} GB of disk"


def _duration(seconds: float) -> str:
  for unit, size in (("hours", 3600), ("minutes", 60)):
    if seconds > 1.5 * size:
      return f"about {seconds / size:.1f} {unit}"
  return f"about {seconds:.0f} seconds"
