"""Makes the cells one after another in one process: equal shapes, so that everything is compiled once.

    study/cells/NAME/           predictions.jsonl, summary.json of the evaluation, COMPLETE.json with what it cost
    study/cells/NAME/weights/   the checkpoint, while a cell to come starts from it (`study.keep_checkpoints`: for good)

A cell counts while the data sets and the base model are those it was made from. A killed study goes on with the cell it
was in, from that cell's last checkpoint.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence

import jax
from etils import epath

import skymath_jax
from skymath_jax import config as config_lib
from skymath_jax import integrity, models, records, sft, sharding, training
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.problems import catalog
from skymath_jax.recipe import evaluate, seeds, train
from skymath_jax.records import Facts, Instance, Problem
from skymath_jax.sft.texts import TextSet
from skymath_jax.study import choices, plan
from skymath_jax.study.ablations import ABLATIONS
from skymath_jax.study.plan import Cell, Part

WEIGHTS = "weights"
SEED_STEP = 1000  # RNG seeds of two cells' training runs are so far apart


def cells_of(config: config_lib.Experiment) -> list[Cell]:
  """All cells of the study that `config` describes, in the order of work.

  Raises:
    UserError: too few sizes for a fit with one held out, no seed, or no such ablation.
  """
  study = config.study
  if len(set(study.sizes)) < 4 or study.rng_seeds < 1:
    raise UserError(
      f"{len(set(study.sizes))} sizes with {study.rng_seeds} RNG seeds are no study",
      where="config.study.sizes",
      remedy="give at least four sizes (three to fit, one held out) and one RNG seed",
    )
  for name in study.ablations:
    if name not in ABLATIONS:
      raise UserError(f"no ablation {name!r}", where="config.study.ablations", remedy=f"use {', '.join(ABLATIONS)}")
  arms = [phases for name in study.ablations for phases in ABLATIONS[name].arms(study.ablation_size).values()]
  return plan.grid(study.sizes, arms, study.rng_seeds)


class Study:
  """The cells of one workdir: what is there, and how to make what is not.

  Raises:
    UserError: the config names no base model, or the data sets are not there.
  """

  def __init__(self, config: config_lib.Experiment, workdir: epath.PathLike):
    if not config.model.path:
      raise UserError("a study starts from a base model", where="config.model.path", remedy="name a model folder")
    self.config, self.workdir = config, epath.Path(workdir)
    self.cells = cells_of(config)
    self.inputs = {
      "base": models.model_id(config.model.path),
      **{f"sft/stage{stage}": sft.open(self.workdir / "sft" / f"stage{stage}").fingerprint for stage in (1, 2)},
    }
    self._found: dict[tuple[int, str], list[Instance]] = {}
    self._mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh)) if jax.device_count() > 1 else None

  def folder(self, cell: Cell) -> epath.Path:
    return self.workdir / "study" / "cells" / cell.name

  def facts(self, cell: Cell) -> Facts | None:
    """What is known of a complete cell; None while it is not."""
    found = integrity.completion(self.folder(cell))
    return found if found is not None and found["inputs"] == self.inputs else None

  @functools.cached_property
  def _pools(self) -> dict[int, list[Instance]]:
    return {n: records.read(Instance, self.workdir / "sft" / f"stage{n}" / "kept.jsonl") for n in plan.POOLS}

  def _allowed(self, part: Part) -> list[Instance]:
    """What `part` may be picked from; an oracle takes seconds for a pool, so it is asked once."""
    key = (part.pool, part.choice)
    if key not in self._found:
      judges = choices.Judges(oracle=catalog.oracle(self.config.seeds.sources), tests=self._tests)
      self._found[key] = choices.allowed(self._pools[part.pool], part.choice, judges)
    return self._found[key]

  def _tests(self) -> list[Problem]:
    """The problems that must not leak, of all test sets."""
    return list(itertools.chain.from_iterable(seeds.test_sets(self.config).values()))

  def instances(self, cell: Cell) -> list[Instance]:
    """What the last phase of `cell` is trained on."""
    parts = cell.phases[-1].parts
    return [i for part in parts for i in choices.pick(self._allowed(part), part, cell.rng_seed)]

  def check(self) -> None:
    """Raises a `UserError` where a pool is too small for any cell, before the first hour is spent."""
    for part in {part for cell in self.cells for phase in cell.phases for part in phase.parts}:
      choices.require_enough(self._allowed(part), part)

  def make(self, cell: Cell) -> Facts:
    """Trains and evaluates `cell`, or goes on where a killed process stopped."""
    folder, start, cpu = self.folder(cell), time.perf_counter(), time.process_time()
    trained = self._weights(cell) if cell.phases else {}
    between = time.perf_counter()
    [summary] = evaluate.evaluate_model(
      self.config, folder, self._path(cell), evaluate.benchmarks_of(self.config)[:1]
    ).values()
    facts = {
      "inputs": self.inputs,
      "cell": dataclasses.asdict(cell),
      **trained,
      "accuracy": summary["accuracy"]["all"],
      "seconds": {"train": round(between - start, 2), "evaluate": round(time.perf_counter() - between, 2)},
      "cpu_seconds": round(time.process_time() - cpu, 2),
    }
    integrity.complete(folder, facts)
    return facts

  def _path(self, cell: Cell) -> epath.PathLike:
    return self.folder(cell) / WEIGHTS if cell.phases else self.config.model.path

  def _weights(self, cell: Cell) -> Facts:
    """The checkpoint of `cell`, made first if it is not there; facts of its last phase's training."""
    before, config = cell.before, self.config
    if before.phases:
      self._weights(before)
    chosen = self.instances(cell)
    source = TextSet(tuple({"query": i.query, "response": i.response} for i in chosen))
    decoder, tokenizer, adapter = train.start_from(self._path(before), config, self._mesh)
    facts = training.train(
      decoder,
      tokenizer,
      source,
      self.folder(cell) / WEIGHTS,
      config.training,
      config.training.stage(cell.phases[-1].stage),
      mesh=self._mesh,
      rng_seed=config.rng_seed + SEED_STEP * cell.rng_seed + len(cell.phases),
      provenance={"config_hash": config_lib.config_hash(config), "skymath_jax": skymath_jax.__version__},
      adapter=adapter,
    )
    kept = {key: facts[key] for key in ("steps", "examples", "tokens", "loss_tokens", "loss")}
    return {"set": _make_up(chosen), **kept}

  def drop_weights(self, later: Sequence[Cell]) -> None:
    """Removes the checkpoints from which no cell of `later` starts."""
    needed = plan.starts_needed(later)
    for cell in self.cells:
      weights = self.folder(cell) / WEIGHTS
      if cell.name not in needed and self.facts(cell) and weights.exists():
        weights.rmtree()

  def make_all(self, rng_seed: int) -> None:
    """Makes the cells of one seed that are not complete, and says after each how long all the rest will take."""
    left = [cell for cell in self.cells if self.facts(cell) is None]
    log(f"study: seed {rng_seed}: {len(self.cells) - len(left)} of {len(self.cells)} cells are complete")
    seconds, done = 0.0, 0
    while left and left[0].rng_seed == rng_seed:
      cell, start = left.pop(0), time.perf_counter()
      facts = self.make(cell)
      seconds, done = seconds + time.perf_counter() - start, done + cell.instances
      if not self.config.study.keep_checkpoints:
        self.drop_weights(left)
      rest = f"about {seconds / done * sum(c.instances for c in left) / 60:.0f} min" if done else "time not known"
      spent = time.perf_counter() - start
      log(f"study: {cell.name}: {100 * facts['accuracy']:.1f} % in {spent:.0f} s; {len(left)} cells left, {rest}")


def _make_up(instances: Sequence[Instance]) -> Facts:
  """What a set is made of: its methods, and how hard and long its instances are."""
  methods: dict[str, int] = {}
  for instance in instances:
    family = instance.method.partition(".")[0]
    methods[family] = methods.setdefault(family, 0) + 1
  levels = [instance.level for instance in instances if instance.level is not None]
  return {
    "instances": len(instances),
    "methods": dict(sorted(methods.items())),
    "queries": len({instance.query for instance in instances}),
    "mean_level": round(sum(levels) / len(levels), 3) if levels else None,
    "mean_words": round(sum(len(instance.response.split()) for instance in instances) / len(instances), 2),
  }
