"""Asks the teacher on behalf of the jobs of one pass: from the store where an answer is there, else over the wire.

The sampling seed of a request and what a job draws by lot are hashes of what is being made (rng_seed, stage, pass,
problem, method, sample, ordinal of the ask), so a second run finds every answer of the first.
"""

import asyncio
import dataclasses
import random
import time

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.generation.types import Generator, Request, RequestRejected, Sampling, Stats
from skymath_jax.records import stable_id
from skymath_jax.synthesis.methods import METHODS, Origin, Rejection, Reply, Settings, style
from skymath_jax.synthesis.plan import Job
from skymath_jax.synthesis.store import ResponseStore, StoredResponse, request_key, sampling_json

FAILURES_IN_A_ROW = 32  # requests without an answer, no answer among them, that end the pass
LONGEST_PAUSE = 1.0  # seconds between looks at what another process is asking
FAILURES = (RequestRejected, OSError)  # one request gets no answer; an unreachable teacher is a UserError and ends all


class Work:
  """What the jobs of one pass share, and what was asked so far."""

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
    self.requests = {"asked": 0, "replayed": 0, "sent": 0, "failed": 0}
    self.tokens = {"prompt": 0, "completion": 0}
    self.failures_in_a_row = 0
    self.started = time.perf_counter()

  def note(self) -> str:
    """What is shown while the pass runs: pace, money spent, requests without an answer."""
    seconds = max(time.perf_counter() - self.started, 1e-9)
    parts = [
      f"{self.requests['sent'] / seconds:,.1f} requests/s",
      f"{self.tokens['completion'] / seconds:,.0f} tokens/s",
    ]
    stats = getattr(self.generator, "stats", None) or Stats()
    parts += [f"{self.requests['replayed']:,} replayed"] if self.requests["replayed"] else []
    parts += [f"{stats.retried:,} retried"] if stats.retried else []
    parts += [f"{self.requests['failed']:,} failed"] if self.requests["failed"] else []
    parts += [f"{stats.cost:,.2f} spent"] if stats.cost else []
    return " · ".join(parts)


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

  def __init__(self, work: Work, job: Job):
    self._work, self._job, self._ordinal = work, job, 0
    origin = work.origin
    self._identity = (work.rng_seed, origin.stage, origin.synthesis_pass, job.problem.id, job.method, job.sample)
    self.rng = random.Random(stable_id("rng", *self._identity))
    self.settings, self.origin = work.settings, origin

  async def __call__(self, prompt_name: str, /, **fields: str) -> Reply:
    """The reply; `Rejection("error: …")` where the teacher gave none."""
    work, prompt = self._work, prompts.load(self._shown(prompt_name))
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

  def _shown(self, prompt_name: str) -> str:
    plain = self.settings.prompts == "plain"
    return prompt_name if plain else prompts.few_shot(prompt_name, style(self._job.problem))

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
        method=METHODS[self._job.method].name if self._job.method in METHODS else self._job.method,
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
