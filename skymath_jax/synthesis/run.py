"""Drives the methods over the problems: bounded concurrency, replay from the store, the same result in any order.

Every run of a method on a problem is a job. A fixed number of workers take jobs from one iterator, so a million jobs
are never a million coroutines. What a job draws by lot and the sampling seed of each of its requests are hashes of
what is being made (rng_seed, stage, pass, problem, method, sample, ordinal of the ask): neither depends on what else
runs or on what came first, which is why a second run finds every answer of the first.
"""

import asyncio
import collections
import dataclasses
import itertools
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skymath_jax import prompts
from skymath_jax.console import Bar, bar, log
from skymath_jax.errors import UserError
from skymath_jax.generation.types import Generator, Request, RequestRejected, Sampling
from skymath_jax.records import Instance, Problem, stable_id
from skymath_jax.synthesis import methods, seeds
from skymath_jax.synthesis.methods import METHODS, Origin, Rejected, Rejection, Reply, Settings
from skymath_jax.synthesis.store import ResponseStore, StoredResponse, request_key, sampling_json

FAILURES_IN_A_ROW = 32  # requests without an answer, no answer among them, that end the pass
KEPT_TEXT = 500  # characters of a reply that a rejection keeps
LONGEST_PAUSE = 1.0  # seconds between looks at what another process is asking
FAILURES = (RequestRejected, OSError)  # one request gets no answer; an unreachable teacher is a UserError and ends all


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of one method (a key of METHODS) on one problem; `sample` counts the runs of this pair from 0."""

  problem: Problem
  method: str
  sample: int


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


def plan(
  problems: Sequence[Problem] | int,
  runs: Mapping[str, float],
  *,
  settings: Settings | None = None,
  rng_seed: int = 0,
  stage: int = 1,
  synthesis_pass: int = 1,
) -> dict[str, dict[str, int]]:
  """{method: {`runs`, `requests`}} of a pass, without asking anything.

  `requests` is what is asked if nothing is rejected, so an upper bound. A number of problems in place of the problems
  (those of a later pass are not known yet) gives the expected number of runs.
  """
  _check_runs(runs)
  if isinstance(problems, int):
    counts = {name: round(problems * average) for name, average in runs.items()}
  else:
    found = jobs(problems, runs, rng_seed=rng_seed, stage=stage, synthesis_pass=synthesis_pass)
    counts = {name: 0 for name in runs} | collections.Counter(job.method for job in found)
  steps = (settings or Settings()).evol_steps
  per_run = {name: METHODS[name].requests * (steps if METHODS[name].chained else 1) for name in runs}
  return {name: {"runs": count, "requests": count * per_run[name]} for name, count in counts.items()}


def _check_runs(runs: Mapping[str, float]) -> None:
  methods.check(runs)
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
  _check_runs(runs)
  seeds.require_answers(problems, runs)
  distinct = list({p.id: p for p in problems}.values())
  origin = Origin(teacher=generator.model_id, stage=stage, synthesis_pass=synthesis_pass)
  work = _Work(generator, store, origin, sampling, rng_seed, settings or Settings())

  def make_jobs() -> Iterator[Job]:
    return jobs(distinct, runs, rng_seed=rng_seed, stage=stage, synthesis_pass=synthesis_pass)

  total = sum(1 for _ in make_jobs())
  # Beside another process this one starts elsewhere, so that they seldom want the same. Results are in job order.
  start = random.randrange(total) if total and store.shared() else 0
  turned = itertools.chain(
    itertools.islice(enumerate(make_jobs()), start, None), itertools.islice(enumerate(make_jobs()), start)
  )
  with bar(f"synthesis stage {stage} pass {synthesis_pass}", total) as progress:
    await _drive(work, turned, min(concurrency, total), progress)
  result = work.result()
  failed = f", {result.requests['failed']:,} requests got no answer" if result.requests["failed"] else ""
  log(
    f"synthesis stage {stage} pass {synthesis_pass}: {len(result.instances):,} instances, "
    f"{len(result.rejected):,} rejected; {result.requests['sent']:,} requests sent, "
    f"{result.requests['replayed']:,} replayed{failed}"
  )
  return result


async def _drive(work: "_Work", numbered: Iterator[tuple[int, Job]], workers: int, progress: Bar) -> None:
  """Works off the jobs; the first exception that is not a rejection ends all of it."""

  async def worker() -> None:
    for number, job in numbered:
      work.outcomes[number] = await work.perform(job)
      progress.advance(1, work.speed())

  tasks = [asyncio.create_task(worker()) for _ in range(workers)]
  try:
    await asyncio.gather(*tasks)
  finally:
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Work:
  """What the jobs of one pass share, and their outcomes so far."""

  def __init__(
    self,
    generator: Generator,
    store: ResponseStore,
    origin: Origin,
    sampling: Sampling,
    rng_seed: int,
    settings: Settings,
  ):
    self.generator, self.store, self.origin = generator, store, origin
    self.sampling, self.rng_seed, self.settings = sampling, rng_seed, settings
    self.outcomes: dict[int, list[Instance | Rejected]] = {}
    self.requests = {"asked": 0, "replayed": 0, "sent": 0, "failed": 0}
    self.tokens = {"prompt": 0, "completion": 0}
    self.failures_in_a_row = 0
    self._start = time.perf_counter()

  async def perform(self, job: Job) -> list[Instance | Rejected]:
    """Runs one method; a reply that cannot be used is an outcome, anything else that is raised goes up."""
    method = METHODS[job.method]
    try:
      return [_shortened(made) for made in await method.augment(job.problem, StoredAsk(self, job))]
    except Rejection as rejection:
      reason, text = rejection.reason, rejection.text
      return [_shortened(Rejected(problem_id=job.problem.id, method=method.name, reason=reason, text=text))]

  def speed(self) -> str:
    return f"{self.tokens['completion'] / max(time.perf_counter() - self._start, 1e-9):,.0f} tokens/s"

  def result(self) -> Result:
    """The outcomes in job order; an instance made twice (same text from the same parent) is kept once, and says so."""
    instances: dict[str, Instance] = {}
    said: collections.Counter[str] = collections.Counter()
    rejected: list[Rejected] = []
    for number in sorted(self.outcomes):
      for made in self.outcomes[number]:
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
      requests=dict(self.requests),
      tokens=dict(self.tokens),
      seconds=time.perf_counter() - self._start,
    )


def _shortened(made: Instance | Rejected) -> Instance | Rejected:
  return dataclasses.replace(made, text=made.text[:KEPT_TEXT]) if isinstance(made, Rejected) else made


async def _claimed(store: ResponseStore, key: str) -> StoredResponse | None:
  """None once it is for us to ask; the response if another process got it while we waited for that."""
  pause = 0.1
  while True:
    found = await store.claim(key)
    if found is not False:
      return None if found is True else found
    await asyncio.sleep(pause)
    pause = min(2 * pause, LONGEST_PAUSE)


class StoredAsk:
  """The `Ask` of one job: looks into the store, else asks the teacher and stores the answer before returning it."""

  def __init__(self, work: _Work, job: Job):
    self._work, self._job, self._ordinal = work, job, 0
    origin = work.origin
    self._identity = (work.rng_seed, origin.stage, origin.synthesis_pass, job.problem.id, job.method, job.sample)
    self.rng = random.Random(stable_id("rng", *self._identity))
    self.settings, self.origin = work.settings, origin

  async def __call__(self, prompt_name: str, /, **fields: str) -> Reply:
    """The reply; `Rejection("error: …")` where the teacher gave none."""
    work, prompt = self._work, prompts.load(prompt_name)
    seed = int(stable_id("ask", *self._identity, self._ordinal)[:8], 16) & 0x7FFFFFFF
    self._ordinal += 1
    sampling, text = dataclasses.replace(work.sampling, seed=seed), prompt.render(**fields)
    key = request_key(
      prompt_name=prompt.name,
      prompt_hash=prompt.hash,
      prompt=text,
      teacher=work.origin.teacher,
      sampling=sampling,
      sample=self._job.sample,
    )
    work.requests["asked"] += 1
    stored = work.store.get(key) or await _claimed(work.store, key)
    if stored is not None:
      work.requests["replayed"] += 1
      work.failures_in_a_row = 0
    else:
      stored = await self._send(key, prompt, text, sampling)
    return Reply(
      text=stored.text,
      truncated=stored.finish_reason != "stop",
      prompt=prompt,
      sampling=sampling,
      tokens=stored.completion_tokens,
    )

  async def _send(self, key: str, prompt: prompts.Prompt, text: str, sampling: Sampling) -> StoredResponse:
    work, asked_at = self._work, time.time()
    work.requests["sent"] += 1
    try:
      response = await work.generator.complete(Request(id=key[:32], prompt=text, sampling=sampling))
    except BaseException as error:
      work.store.release(key)
      if not isinstance(error, FAILURES):
        raise
      work.requests["failed"] += 1
      work.failures_in_a_row += 1
      if work.failures_in_a_row >= FAILURES_IN_A_ROW:
        raise UserError(
          f"{work.failures_in_a_row} requests in a row got no answer from the teacher; the last: {error}",
          where=work.origin.teacher,
          remedy="see to the teacher and run the same command again: every answer so far is kept",
        ) from error
      raise Rejection(f"error: {error}") from error
    work.failures_in_a_row = 0
    work.tokens["prompt"] += response.prompt_tokens
    work.tokens["completion"] += response.completion_tokens
    return await work.store.put_async(
      StoredResponse(
        key=key,
        problem_id=self._job.problem.id,
        method=METHODS[self._job.method].name,
        prompt_name=prompt.name,
        prompt_hash=prompt.hash,
        prompt=text,
        teacher=work.origin.teacher,
        sampling=sampling_json(sampling),
        text=response.text.encode("utf-8", "replace").decode(),  # half a surrogate pair has no place in a file
        finish_reason=response.finish_reason,
        prompt_tokens=response.prompt_tokens,
        completion_tokens=response.completion_tokens,
        asked_at=asked_at,
      )
    )
