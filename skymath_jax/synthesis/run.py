"""Drives the methods over the problems: bounded concurrency, replay from the store, the same result in any order.

Every run of a method on a problem is a job. A fixed number of workers take jobs from one iterator, so a million jobs
are never a million coroutines. What a job asks (`session.py`) depends neither on what else runs nor on what came first.

With `Settings.rounds` the runs that answer the same question form one task, worked off one after another until enough
answers are right (the idea of DART-Math, arXiv 2407.13690: hard problems get more draws). Each run is asked just as it
is without rounds, so that kills, claims and replays know nothing of them.
"""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from skymath_jax.console import Bar, bar, log
from skymath_jax.errors import UserError
from skymath_jax.generation.types import Generator, Sampling
from skymath_jax.records import Instance, Problem, stable_id
from skymath_jax.synthesis import methods, seeds
from skymath_jax.synthesis.methods import METHODS, Origin, Rejected, Rejection, Settings
from skymath_jax.synthesis.methods.judge import JUDGES
from skymath_jax.synthesis.outcomes import Outcomes
from skymath_jax.synthesis.progress import Progress
from skymath_jax.synthesis.session import Job, Session, StoredAsk
from skymath_jax.synthesis.store import ResponseStore
from skymath_jax.synthesis.watch import Watch

JobT = TypeVar("JobT")
MadeT = TypeVar("MadeT")
# Of which a judge reads no more than the prompts
JUDGING = Settings(evol_steps=1, evol_elimination=False, samples=1, prompts="plain", rounds=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What one pass came to. Instances and rejections are in job order: problem, then method, then sample.

  `requests`: asked = replayed + sent; failed is the part of sent that got no answer. `tokens` {prompt, completion}
  counts what was sent, `seconds` is wall time. `instances` and `rejected` read all of `outcomes` into memory.
  """

  outcomes: Outcomes
  requests: dict[str, int]
  tokens: dict[str, int]
  seconds: float

  @property
  def instances(self) -> list[Instance]:
    return list(self.outcomes.instances())

  @property
  def rejected(self) -> list[Rejected]:
    return list(self.outcomes.rejected())

  def summary(self) -> dict[str, Any]:
    """The counts as JSON values: instances by method; rejections by reason, and by method and reason."""
    by_method, rejected = self.outcomes.by_method, self.outcomes.rejected_by_method
    reasons = sum((collections.Counter(found) for found in rejected.values()), collections.Counter())
    return {
      "instances": sum(by_method.values()),
      "by_method": by_method,
      "rejected": dict(sorted(reasons.items())),
      "rejected_by_method": rejected,
      "requests": self.requests,
      "tokens": self.tokens,
      "seconds": round(self.seconds, 3),
    }


def jobs(
  problems: Sequence[Problem], runs: Mapping[str, float], *, rng_seed: int, stage: int, synthesis_pass: int
) -> Iterator[Job]:
  """All jobs, lazily. A fraction of a run is a run on that share of the problems, drawn by the problem's hash.

  So a share neither changes when problems are added nor depends on their order.
  """
  for problem in problems:
    for method, average in runs.items():
      whole = math.floor(average)
      lot = int(stable_id("share", rng_seed, stage, synthesis_pass, method, problem.id)[:8], 16) / 0x100000000
      for sample in range(whole + (lot < average - whole)):
        yield Job(problem, method, sample)


def check_runs(runs: Mapping[str, float], settings: Settings) -> None:
  """Refuses what is no method, a number of runs that is none, and a method that the question alone does not ask for.

  Raises:
    UserError: names the method.
  """
  methods.check(runs)
  others = [name for name, average in runs.items() if average > 0 and not METHODS[name].repeats]
  if settings.prompts == "question" and others:
    raise UserError(
      f"who is asked nothing but the question (a student, or config.synthesis.prompts=question) does no {others[0]}",
      where=f"runs of {others[0]}",
      remedy=f"give runs to none but {' and '.join(name for name in METHODS if METHODS[name].repeats)}",
    )
  for name, average in runs.items():
    if not (math.isfinite(average) and average >= 0):
      raise UserError(f"{average!r} runs per problem", where=f"runs of {name}", remedy="give zero or more")


async def synthesize(
  problems: Sequence[Problem],
  runs: Mapping[str, float],
  generator: Generator,
  store: ResponseStore,
  *,
  stage: int,
  synthesis_pass: int = 1,
  sampling: Sampling,
  rng_seed: int,
  settings: Settings,
  concurrency: int,
  max_rejected: float,
) -> Result:
  """One synthesis pass.

  Args:
    problems: what to start from; a problem that is there twice (by id) counts once.
    runs: key of METHODS → average number of runs per problem.
    generator: the teacher; it stays open.
    sampling: of every request; its `seed` is replaced by one made from what is asked.
    concurrency: jobs, and so requests, in flight at most.
    max_rejected: share of what is made that may be rejected.

  Raises:
    UserError: a seed problem lacks an answer that a method needs, the store cannot be written, the teacher is gone, or
      too much of what it says is of no use. What was answered until then is in the store and is not asked again.
  """
  check_runs(runs, settings)
  seeds.require_answers(problems, runs)
  distinct = list({p.id: p for p in problems}.values())
  origin = Origin(teacher=generator.model_id, stage=stage, synthesis_pass=synthesis_pass)
  session = Session(generator, store, origin, sampling=sampling, rng_seed=rng_seed, settings=settings)

  def make_tasks() -> Iterator[list[Job]]:
    return _tasks(jobs(distinct, runs, rng_seed=rng_seed, stage=stage, synthesis_pass=synthesis_pass), settings.rounds)

  total = sum(1 for _ in make_tasks())
  outcomes = Outcomes(store.path.parent)
  name = f"synthesis stage {stage} pass {synthesis_pass}"
  watch = Watch(outcomes, max_rejected, name)
  told = Progress(name, total, session, outcomes)

  def keep(number: int, task: list[Job], made: list[Instance | Rejected]) -> None:
    outcomes.put(number, made)
    told.note(task[0].problem, made)
    watch.look(made)

  with bar(name, total) as progress:
    await _run_workers(session, _rotated(make_tasks, total, store), min(concurrency, total), progress, _perform, keep)
  watch.look((), at_end=True)
  told.end()
  result = Result(
    outcomes=outcomes.finish(),
    requests=dict(session.requests),
    tokens=dict(session.tokens),
    seconds=time.perf_counter() - session.started,
  )
  _announce(name, result)
  return result


def _tasks(found: Iterable[Job], rounds: int) -> Iterator[list[Job]]:
  """What one worker does in a row: a job, or all runs of a problem that may end with enough right answers."""

  def together(job: Job) -> tuple[str, str, int]:
    return job.problem.id, job.method, 0 if rounds and METHODS[job.method].repeats else job.sample

  return (list(task) for _, task in itertools.groupby(found, together))


def _rotated(
  make_tasks: Callable[[], Iterator[list[Job]]], total: int, store: ResponseStore
) -> Iterator[tuple[int, list[Job]]]:
  """The tasks with their numbers. Beside another process this one starts elsewhere: they seldom want the same."""
  start = random.randrange(total) if total and store.shared() else 0
  return itertools.chain(
    itertools.islice(enumerate(make_tasks()), start, None), itertools.islice(enumerate(make_tasks()), start)
  )


def _announce(name: str, result: Result) -> None:
  counts, requests = result.summary(), result.requests
  failed = f", {requests['failed']:,} requests got no answer" if requests["failed"] else ""
  log(
    f"{name}: {counts['instances']:,} instances, {sum(counts['rejected'].values()):,} rejected; "
    f"{requests['sent']:,} requests sent, {requests['replayed']:,} replayed{failed}"
  )


async def _run_workers(
  session: Session,
  numbered: Iterator[tuple[int, JobT]],
  workers: int,
  progress: Bar,
  perform: Callable[[Session, JobT], Awaitable[MadeT]],
  keep: Callable[[int, JobT, MadeT], None],
) -> None:
  """Works the jobs off; the first exception that is not a rejection ends all of it."""

  async def worker() -> None:
    for number, job in numbered:
      keep(number, job, await perform(session, job))
      progress.advance(1, session.progress())

  tasks = [asyncio.create_task(worker()) for _ in range(workers)]
  try:
    await asyncio.gather(*tasks)
  finally:
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _perform(session: Session, task: list[Job]) -> list[Instance | Rejected]:
  """The jobs one after another, with rounds until enough answers are right; each answer says which round it is of."""
  rounds, made = session.settings.rounds, list[Instance | Rejected]()
  for job in task:
    found = await _augment(session, job)
    if rounds and METHODS[job.method].repeats:
      found = [_of_round(each, job.sample + 1) for each in found]
    made += found
    if rounds and sum(map(_is_right, made)) >= rounds:
      break
  return made


def _of_round(made: Instance | Rejected, number: int) -> Instance | Rejected:
  return made if isinstance(made, Rejected) else dataclasses.replace(made, quality=made.quality | {"round": number})


def _is_right(made: Instance | Rejected) -> bool:
  """Whether it reaches a gold answer; one that was itself a teacher's settles nothing."""
  return isinstance(made, Instance) and made.gold_match is True and not made.pseudo_gold


async def _augment(session: Session, job: Job) -> list[Instance | Rejected]:
  """Runs one method; a reply that cannot be used is an outcome, anything else that is raised goes up."""
  method = METHODS[job.method]
  try:
    return await method.augment(job.problem, StoredAsk(session, job))
  except Rejection as rejection:
    reason, text = rejection.reason, rejection.text
    return [Rejected(problem_id=job.problem.id, method=method.name, reason=reason, text=text)]


async def judge(
  instances: Iterable[Instance],
  count: int,
  labels: Sequence[str],
  generator: Generator,
  store: ResponseStore,
  *,
  stage: int,
  sampling: Sampling,
  rng_seed: int,
  concurrency: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
  """What the teacher says of each instance, to be added to its `quality`; and the counts as JSON values.

  Args:
    instances: gone through once, as the teacher answers.
    count: how many they are.
    labels: keys of JUDGES; one request each for every instance. A reply that cannot be read leaves no label.
    generator, store, stage, sampling, rng_seed, concurrency: as in `synthesize`.

  Raises:
    UserError: as in `synthesize`.
  """
  origin = Origin(teacher=generator.model_id, stage=stage)
  session = Session(generator, store, origin, sampling=sampling, rng_seed=rng_seed, settings=JUDGING)
  found: list[dict[str, Any]] = [{} for _ in range(count)]
  unread = 0

  def tasks() -> Iterator[tuple[int, tuple[Instance, Job]]]:
    for number, instance in enumerate(instances):
      problem = Problem(id=instance.id, source="", question=instance.query)
      for label in labels:
        yield number, (instance, Job(problem, label, 0))

  async def perform(session: Session, task: tuple[Instance, Job]) -> dict[str, Any] | None:
    instance, job = task
    with contextlib.suppress(Rejection):
      return await JUDGES[job.method](instance, StoredAsk(session, job))
    return None

  def keep(number: int, _: tuple[Instance, Job], judgement: dict[str, Any] | None) -> None:
    nonlocal unread
    unread += judgement is None
    found[number] |= judgement or {}

  total = count * len(labels)
  with bar(f"judging stage {stage}", total) as progress:
    await _run_workers(session, tasks(), min(concurrency, total), progress, perform, keep)
  return found, {"requests": dict(session.requests), "tokens": dict(session.tokens), "unread": unread}
