"""Drives the methods over the problems: bounded concurrency, replay from the store, the same result in any order.

Every run of a method on a problem is a job (`plan.py`). A fixed number of workers take jobs from one iterator, so a
million jobs are never a million coroutines. What a job asks (`asking.py`) depends neither on what else runs nor on what
came first.
"""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from skymath_jax.console import Bar, bar, log
from skymath_jax.generation.types import Generator, Sampling
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis import seeds
from skymath_jax.synthesis.asking import StoredAsk, Work
from skymath_jax.synthesis.methods import METHODS, Origin, Rejected, Rejection, Settings
from skymath_jax.synthesis.methods.judge import JUDGES
from skymath_jax.synthesis.outcomes import Outcomes
from skymath_jax.synthesis.plan import Job, check_runs, jobs
from skymath_jax.synthesis.store import ResponseStore

T, R = TypeVar("T"), TypeVar("R")


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
  settings: Settings | None = None,
  concurrency: int = 256,
) -> Result:
  """One synthesis pass.

  Args:
    problems: what to start from; a problem that is there twice (by id) counts once.
    runs: key of METHODS → average number of runs per problem.
    generator: the teacher; it stays open.
    sampling: of every request; its `seed` is replaced by one made from what is asked.
    concurrency: jobs, and so requests, in flight at most.

  Raises:
    UserError: a seed problem lacks an answer that a method needs, the store cannot be written, or the teacher is gone.
      What was answered until then is in the store and is not asked again.
  """
  check_runs(runs)
  seeds.require_answers(problems, runs)
  distinct = list({p.id: p for p in problems}.values())
  origin = Origin(teacher=generator.model_id, stage=stage, synthesis_pass=synthesis_pass)
  work = Work(generator, store, origin, sampling, rng_seed, settings or Settings())

  def make_jobs() -> Iterator[Job]:
    return jobs(distinct, runs, rng_seed=rng_seed, stage=stage, synthesis_pass=synthesis_pass)

  total = sum(1 for _ in make_jobs())
  # Beside another process this one starts elsewhere, so that they seldom want the same. Results are in job order.
  start = random.randrange(total) if total and store.shared() else 0
  turned = itertools.chain(
    itertools.islice(enumerate(make_jobs()), start, None), itertools.islice(enumerate(make_jobs()), start)
  )
  outcomes = Outcomes(store.path.parent)
  with bar(f"synthesis stage {stage} pass {synthesis_pass}", total) as progress:
    await _drive(work, turned, min(concurrency, total), progress, _perform, outcomes.put)
  result = Result(
    outcomes=outcomes.finish(),
    requests=dict(work.requests),
    tokens=dict(work.tokens),
    seconds=time.perf_counter() - work.started,
  )
  _announce(f"synthesis stage {stage} pass {synthesis_pass}", result)
  return result


def _announce(name: str, result: Result) -> None:
  counts, requests = result.summary(), result.requests
  failed = f", {requests['failed']:,} requests got no answer" if requests["failed"] else ""
  log(
    f"{name}: {counts['instances']:,} instances, {sum(counts['rejected'].values()):,} rejected; "
    f"{requests['sent']:,} requests sent, {requests['replayed']:,} replayed{failed}"
  )


async def _drive(
  work: Work,
  numbered: Iterator[tuple[int, T]],
  workers: int,
  progress: Bar,
  perform: Callable[[Work, T], Awaitable[R]],
  keep: Callable[[int, R], None],
) -> None:
  """Works off the jobs; the first exception that is not a rejection ends all of it."""

  async def worker() -> None:
    for number, job in numbered:
      keep(number, await perform(work, job))
      progress.advance(1, work.note())

  tasks = [asyncio.create_task(worker()) for _ in range(workers)]
  try:
    await asyncio.gather(*tasks)
  finally:
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _perform(work: Work, job: Job) -> list[Instance | Rejected]:
  """Runs one method; a reply that cannot be used is an outcome, anything else that is raised goes up."""
  method = METHODS[job.method]
  try:
    return await method.augment(job.problem, StoredAsk(work, job))
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
  concurrency: int = 256,
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
  work = Work(generator, store, Origin(teacher=generator.model_id, stage=stage), sampling, rng_seed, Settings())
  found: list[dict[str, Any]] = [{} for _ in range(count)]
  unread = 0

  def tasks() -> Iterator[tuple[int, tuple[Instance, Job]]]:
    for number, instance in enumerate(instances):
      problem = Problem(id=instance.id, source="", question=instance.query)
      for label in labels:
        yield number, (instance, Job(problem, label, 0))

  async def perform(work: Work, task: tuple[Instance, Job]) -> dict[str, Any] | None:
    instance, job = task
    with contextlib.suppress(Rejection):
      return await JUDGES[job.method](instance, StoredAsk(work, job))
    return None

  def keep(number: int, judgement: dict[str, Any] | None) -> None:
    nonlocal unread
    unread += judgement is None
    found[number] |= judgement or {}

  total = count * len(labels)
  with bar(f"judging stage {stage}", total) as progress:
    await _drive(work, tasks(), min(concurrency, total), progress, perform, keep)
  return found, {"requests": dict(work.requests), "tokens": dict(work.tokens), "unread": unread}
