"""Stages `synthesize`: seed problems × methods → teacher → instances, and what that would cost, unpaid."""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from etils import epath

from skymath_jax import coreset, files, records, synthesis
from skymath_jax.config import Experiment, Runs, Synthesis
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation import Generator, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.recipe import seeds
from skymath_jax.recipe.teacher import Teacher
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.records import Facts, Instance, Problem
from skymath_jax.synthesis import ResponseStore

RESPONSES = "responses.sqlite"
STUDENT = "checkpoints/stage1"  # who answers in stage 2 where `synthesis.student` says so


def stages(config: Experiment) -> list[Stage]:
  """Both synthesis stages; the base model is read only where it embeds the problems to choose from.

  Where the student answers in stage 2, its checkpoint is needed there, and the teacher, if it judges, starts then.
  """
  reads = ("rng_seed", "teacher", "synthesis", *(["model.path"] if config.synthesis.embedding == "model" else []))
  both = [
    Stage("synthesize stage 1", "synthesis/stage1", normal, ("seeds",), reads, asks=True),
    Stage("synthesize stage 2", "synthesis/stage2", hard, ("seeds",), reads, asks=True),
  ]
  if config.synthesis.student:
    both[1] = dataclasses.replace(both[1], needs=("seeds", STUDENT), asks=False)
  return both[: how_many(config)]


def how_many(config: Experiment) -> int:
  """Of the two stages: one where `synthesis.hard` has no runs."""
  return 2 if any(config.synthesis.hard.values()) else 1


def normal(run: Run) -> Facts:
  """Stage 1: seeds → instances → k-center selection of their problems → more instances (Skywork section 3.1).

  Raises:
    UserError: the seeds lack what a pass needs, or the teacher cannot be had.
  """
  folder, config = run.workdir / "synthesis" / "stage1", run.config.synthesis
  if config.rounds and "gold" not in run.config.curation.quality:
    log("warning: rounds draw hard problems again, and wrong answers stay: set config.curation.quality=gold")
  problems, _ = _checked_seeds(run)
  with _store(run, 1) as store:
    first = _pass(run, store, problems, config.pass1, stage=1, number=1)
    synthetic = synthesis.as_problems(first.outcomes.instances())
    chosen = coreset.select(
      [p.question for p in synthetic],
      config.coreset_size,
      centres=[p.question for p in problems],
      embedding=config.embedding,
      model=run.config.model.path,
    )
    selected = [synthetic[i] for i in chosen]
    records.write_lines(folder / "coreset.jsonl", selected)
    second = _pass(run, store, selected, config.pass2, stage=1, number=2)
    return _finish(run, folder, store, [first, second], coreset=len(selected))


def hard(run: Run) -> Facts:
  """Stage 2: the same methods on the hard seeds only (Skywork section 3.2).

  Raises:
    UserError: as `normal`.
  """
  folder = run.workdir / "synthesis" / "stage2"
  _, problems = _checked_seeds(run)
  with _store(run, 2) as store:
    result = _pass(run, store, problems, run.config.synthesis.hard, stage=2, number=1)
    return _finish(run, folder, store, [result], seeds=len(problems))


def _store(run: Run, stage: int) -> ResponseStore:
  """The answers of a stage; those of a workdir in a bucket are there before anything is made of them."""
  folder = f"synthesis/stage{stage}"
  send = (lambda name, data: run.workdir.put(f"{folder}/{name}", data)) if run.workdir.in_bucket else None
  return ResponseStore(run.workdir / folder / RESPONSES, send)


def _checked_seeds(run: Run) -> tuple[list[Problem], list[Problem]]:
  """(all seed problems, the hard ones): what every pass needs of them is looked at before the first request is paid.

  Raises:
    UserError: an answer that a method needs is missing, a pass has runs and no problem to run on, or runs of what who
      is asked cannot do.
  """
  config, path = run.config.synthesis, run.workdir / seeds.FOLDER / seeds.PROBLEMS
  for stage, runs in ((1, config.pass1), (1, config.pass2), (2, config.hard)):
    synthesis.check_runs(runs, _settings(config, stage))
  problems = seeds.problems_of(run)
  synthesis.require_answers(problems, config.pass1, where=path)
  hard = synthesis.hard_seeds(problems, config.hard_levels) if any(config.hard.values()) else []
  synthesis.require_answers(hard, config.hard, where=path)
  return problems, hard


def _pass(
  run: Run, store: ResponseStore, problems: list[Problem], runs: Runs, *, stage: int, number: int
) -> synthesis.Result:
  """One synthesis pass; `runs` are those of each method for a problem."""

  async def ask() -> synthesis.Result:
    async with _client(run, by_student=run.config.synthesis.student and stage == 2) as teacher:
      return await synthesis.synthesize(
        problems,
        runs,
        teacher,
        store,
        stage=stage,
        synthesis_pass=number,
        sampling=_sampling(run.config.synthesis),
        rng_seed=run.config.rng_seed,
        settings=_settings(run.config.synthesis, stage),
        concurrency=run.config.teacher.concurrency,
        max_rejected=run.config.synthesis.max_rejected,
      )

  return asyncio.run(ask())


def _judge(
  run: Run, store: ResponseStore, instances: Iterable[Instance], count: int, stage: int
) -> tuple[list[Facts], Facts]:
  """The teacher's labels for each instance, and what they came to."""

  async def ask() -> tuple[list[Facts], Facts]:
    async with _client(run) as teacher:
      return await synthesis.judge(
        instances,
        count,
        run.config.synthesis.judge,
        teacher,
        store,
        stage=stage,
        sampling=_sampling(run.config.synthesis),
        rng_seed=run.config.rng_seed,
        concurrency=run.config.teacher.concurrency,
      )

  return asyncio.run(ask())


@contextlib.asynccontextmanager
async def _client(run: Run, *, by_student: bool = False) -> AsyncIterator[Generator]:
  """A client of the teacher that is known to answer; or the student, in this process."""
  client = student_of(run).client() if by_student else run.teacher.client()
  try:
    if isinstance(client, JetStreamGenerator):
      await client.check()
    yield client
  finally:
    await client.close()


def student_of(run: Run) -> Teacher:
  """The stage-1 model as a teacher, asked in the frame that it was trained in: its tokenizer's chat template."""
  model = os.fspath(run.workdir.checkpoints / "stage1")
  config = dataclasses.replace(run.config.teacher, backend="local", model=model, chat="template")
  return Teacher(config, run.config.serving, run.config.model.dtype, run.workdir.path)


def _settings(config: Synthesis, stage: int) -> synthesis.Settings:
  return synthesis.Settings(
    evol_steps=config.evol_steps,
    evol_elimination=config.evol_elimination,
    samples=config.samples,
    prompts="question" if config.student and stage == 2 else config.prompts,
    rounds=config.rounds,
  )


def _sampling(config: Synthesis) -> Sampling:
  return Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)


def _finish(
  run: Run, folder: epath.Path, store: ResponseStore, results: Sequence[synthesis.Result], **extra: int
) -> Facts:
  """Labels the instances where that is wanted, and writes instances, rejections and the summary.

  Raises:
    UserError: there is no instance.
  """
  by_method = sum((collections.Counter(result.outcomes.by_method) for result in results), collections.Counter())
  instances, judging = _instances(results), Facts()
  if run.config.synthesis.judge:
    labels, judging = _judge(run, store, instances, by_method.total(), int(folder.name[-1]))
    pairs = zip(_instances(results), labels, strict=True)
    instances = (dataclasses.replace(i, quality=i.quality | said) for i, said in pairs)
  records.write_lines(folder / "instances.jsonl", instances)
  rejected = itertools.chain.from_iterable(result.outcomes.rejected() for result in results)
  records.write_lines(folder / "rejected.jsonl", map(dataclasses.asdict, rejected))
  failed = sum(result.requests["failed"] for result in results)
  if failed:
    log(f"warning: {failed} requests failed for good and are missing from {folder}; a new workdir would ask them again")
  if not by_method.total():
    raise UserError(
      "nothing that the teacher said could be used, or no method has runs; rejected.jsonl has the reasons",
      where=folder,
      remedy="see to teacher, methods and config.synthesis, then run the same command again",
    )
  summary = {
    **extra,
    "teacher": next((i.teacher for i in _instances(results)), ""),
    "instances": by_method.total(),
    "by_method": dict(sorted(by_method.items())),
    **({"judging": judging} if judging else {}),
    "passes": [result.summary() for result in results],
    "stored": len(store),
    "server_requests": run.teacher.requests_served(),
  }
  files.write_json(folder / "summary.json", summary)
  return {"output": files.sha256(folder / "instances.jsonl"), "instances": by_method.total()}


def _instances(results: Sequence[synthesis.Result]) -> Iterator[Instance]:
  return itertools.chain.from_iterable(result.outcomes.instances() for result in results)


def plan(run: Run) -> Facts:
  """Pass → method → runs and (at most) requests, with a guess at tokens and money; the teacher is asked nothing.

  Raises:
    UserError: the seeds lack what a pass needs.
  """
  config, teacher = run.config.synthesis, run.config.teacher
  problems, hard = _checked_seeds(run)
  settings, lengths = _settings(config, 1), synthesis.Lengths.of(problems)

  def planned(problems: Sequence[Problem] | int, runs: Runs, stage: int) -> Facts:
    how = _settings(config, stage)
    return synthesis.plan(problems, runs, settings=how, rng_seed=run.config.rng_seed, lengths=lengths)

  passes = {
    "pass1": planned(problems, config.pass1, 1),
    "pass2": planned(config.coreset_size, config.pass2, 1),
    "hard": planned(hard, config.hard, 2),
  }
  made = sum(
    row["runs"] * settings.samples * (settings.evol_steps if synthesis.METHODS[method].chained else 1)
    for rows in passes.values()
    for method, row in rows.items()
  )
  if config.judge:
    passes["judge"] = synthesis.plan_judging(made, config.judge, lengths)
  paid = {name: methods for name, methods in passes.items() if not (config.student and name == "hard")}
  return {
    **passes,
    "total": {
      **synthesis.total_cost(paid, max_tokens=config.max_tokens, prices=teacher.prices),
      "instances_at_most": made,
      "stored_already": sum(_stored(run.workdir / "synthesis" / f"stage{n}" / RESPONSES) for n in (1, 2)),
    },
  }


def _stored(path: epath.Path) -> int:
  if not path.exists():
    return 0
  with ResponseStore(path) as store:
    return len(store)
