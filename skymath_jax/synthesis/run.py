"""Drives the methods over the problems: bounded concurrency, replay from the store, the same result in any order.

Every run of a method on a problem is a job (`plan.py`). A fixed number of workers take jobs from one iterator, so a
million jobs are never a million coroutines. What a job asks (`asking.py`) depends neither on what else runs nor on what
came first.
"""

import asyncio
import collections
import dataclasses
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from skymath_jax.console import Bar, bar, log
from skymath_jax.generation.types import Generator, Sampling
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis import seeds
from skymath_jax.synthesis.asking import StoredAsk, Work
from skymath_jax.synthesis.methods import METHODS, Origin, Rejected, Rejection, Settings
from skymath_jax.synthesis.methods.judge import JUDGES
from skymath_jax.synthesis.plan import Job, check_runs, jobs
from skymath_jax.synthesis.store import ResponseStore

KEPT_TEXT = 500  # characters of a reply that a rejection keeps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What one pass came to. Instances and rejections are in job order: problem, then method, then sample.

  `requests`: asked = replayed + sent; failed is the part of sent that got no answer. `tokens` {prompt, completion}
  counts what was sent, `seconds` is wall time.
  """

  instances: list[Instance]
  rejected: list[Rejected]
  requests: dict[str, int]
  tokens: dict[str, int]
  seconds: float

  def summary(self) -> dict[str, Any]:
    """The counts as JSON values: instances by method; rejections by reason, and by method and reason."""
    by_method: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for rejected in self.rejected:
      by_method[rejected.method][_kind(rejected.reason)] += 1
    return {
      "instances": len(self.instances),
      "by_method": dict(sorted(collections.Counter(i.method for i in self.instances).items())),
      "rejected": dict(sorted(sum(by_method.values(), collections.Counter()).items())),
      "rejected_by_method": {name: dict(sorted(count.items())) for name, count in sorted(by_method.items())},
      "requests": self.requests,
      "tokens": self.tokens,
      "seconds": round(self.seconds, 3),
    }


def _kind(reason: str) -> str:
  return reason.partition(":")[0]


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
  with bar(f"synthesis stage {stage} pass {synthesis_pass}", total) as progress:
    await _drive(work, turned, min(concurrency, total), progress, _perform)
  result = _result(work)
  failed = f", {result.requests['failed']:,} requests got no answer" if result.requests["failed"] else ""
  log(
    f"synthesis stage {stage} pass {synthesis_pass}: {len(result.instances):,} instances, "
    f"{len(result.rejected):,} rejected; {result.requests['sent']:,} requests sent, "
    f"{result.requests['replayed']:,} replayed{failed}"
  )
  return result


async def _drive(
  work: Work, numbered: Iterator[tuple[int, Job]], workers: int, progress: Bar, perform: Callable[..., Awaitable[Any]]
) -> None:
  """Works off the jobs; the first exception that is not a rejection ends all of it."""

  async def worker() -> None:
    for number, job in numbered:
      work.outcomes[number] = await perform(work, job)
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
    return [_shortened(made) for made in await method.augment(job.problem, StoredAsk(work, job))]
  except Rejection as rejection:
    reason, text = rejection.reason, rejection.text
    return [_shortened(Rejected(problem_id=job.problem.id, method=method.name, reason=reason, text=text))]


def _result(work: Work) -> Result:
  """The outcomes in job order; an instance made twice (same text from the same parent) is kept once, and says so."""
  instances: dict[str, Instance] = {}
  said: collections.Counter[str] = collections.Counter()
  rejected: list[Rejected] = []
  for number in sorted(work.outcomes):
    for made in work.outcomes[number]:
      if isinstance(made, Rejected):
        rejected.append(made)
        continue
      said[made.id] += 1
      if made.id in instances:
        rejected.append(Rejected(problem_id=made.parents[0], method=made.method, reason="duplicate"))
      else:
        instances[made.id] = made
  again = {id: count for id, count in said.items() if count > 1}
  instances |= {id: dataclasses.replace(instances[id], quality={"said": count}) for id, count in again.items()}
  return Result(
    instances=list(instances.values()),
    rejected=rejected,
    requests=dict(work.requests),
    tokens=dict(work.tokens),
    seconds=time.perf_counter() - work.started,
  )


def _shortened(made: Instance | Rejected) -> Instance | Rejected:
  return dataclasses.replace(made, text=made.text[:KEPT_TEXT]) if isinstance(made, Rejected) else made


async def judge(
  instances: Sequence[Instance],
  labels: Sequence[str],
  generator: Generator,
  store: ResponseStore,
  *,
  stage: int,
  sampling: Sampling,
  rng_seed: int,
  concurrency: int = 256,
) -> tuple[list[Instance], dict[str, Any]]:
  """The instances with the teacher's judgement in `quality`, and the counts as JSON values.

  Args:
    labels: keys of JUDGES; one request each for every instance. A reply that cannot be read leaves no label.
    generator, store, stage, sampling, rng_seed, concurrency: as in `synthesize`.

  Raises:
    UserError: as in `synthesize`.
  """
  work = Work(generator, store, Origin(teacher=generator.model_id, stage=stage), sampling, rng_seed, Settings())
  problems = [Problem(id=i.id, source="", question=i.query) for i in instances]
  made = enumerate(Job(problem, label, 0) for problem in problems for label in labels)

  async def perform(work: Work, job: Job) -> dict[str, Any] | Rejection:
    try:
      return await JUDGES[job.method](by_id[job.problem.id], StoredAsk(work, job))
    except Rejection as rejection:
      return rejection

  by_id = {i.id: i for i in instances}
  total = len(instances) * len(labels)
  with bar(f"judging stage {stage}", total) as progress:
    await _drive(work, made, min(concurrency, total), progress, perform)
  outcomes = [work.outcomes[number] for number in range(total)]
  found: dict[str, dict[str, Any]] = collections.defaultdict(dict)
  for number, outcome in enumerate(outcomes):
    if not isinstance(outcome, Rejection):
      found[instances[number // len(labels)].id] |= outcome
  counts = {
    "requests": dict(work.requests),
    "tokens": dict(work.tokens),
    "unread": sum(isinstance(outcome, Rejection) for outcome in outcomes),
  }
  return [dataclasses.replace(i, quality=i.quality | found[i.id]) for i in instances], counts
