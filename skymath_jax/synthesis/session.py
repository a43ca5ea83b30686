"""The teacher as one pass asks it: from the store where an answer is there, else over the wire.

The sampling seed of a request and what a job draws by lot are hashes of what is being made (rng_seed, stage, pass,
problem, method, sample, ordinal of the ask), so a second run finds every answer of the first.
"""

import asyncio
import dataclasses
import random
import time

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.generation.types import Generator, Request, RequestRejected, Response, Sampling, Stats
from skymath_jax.generation.visible import visible
from skymath_jax.records import Problem, stable_id
from skymath_jax.synthesis.methods import METHODS, Origin, Rejection, Reply, Settings, prompt_of, style
from skymath_jax.synthesis.store import ResponseStore, StoredResponse, request_key, sampling_json

MAX_CONSECUTIVE_FAILURES = 32  # requests without an answer, no answer among them, that end the pass
PROBE = "What is 2 + 3?"
MAX_POLL_SECONDS = 1.0  # between looks at what another process is asking
FAILURES = (RequestRejected, OSError)  # one request gets no answer; an unreachable teacher is a UserError and ends all


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of one method (a key of METHODS) on one problem; `sample` counts the runs of this pair from 0."""

  problem: Problem
  method: str
  sample: int


class Session:
  """What the jobs of one pass share, and what was asked so far.

  Attributes:
    requests: asked = replayed + sent; failed is the part of sent that got no answer.
    tokens: {prompt, completion} of what was sent.
    started: `time.perf_counter` at the beginning.
  """

  def __init__(
    self,
    generator: Generator,
    store: ResponseStore,
    origin: Origin,
    *,
    sampling: Sampling,
    rng_seed: int,
    settings: Settings,
  ):
    self.generator = generator
    self.store = store
    self.origin = origin
    self.sampling = sampling
    self.rng_seed = rng_seed
    self.settings = settings
    self.requests = {"asked": 0, "replayed": 0, "sent": 0, "failed": 0}
    self.tokens = {"prompt": 0, "completion": 0}
    self.started = time.perf_counter()
    self._consecutive_failures = 0

  def progress(self) -> str:
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

  async def answer(self, job: Job, prompt: prompts.Prompt, text: str, sampling: Sampling) -> StoredResponse:
    """The stored response to a rendered prompt, asked for where there is none yet.

    Raises:
      Rejection: the teacher gave no answer.
      UserError: the store fails, the teacher is gone, or too many requests in a row got no answer.
    """
    key = request_key(
      prompt_name=prompt.name,
      prompt_hash=prompt.hash,
      prompt=text,
      teacher=self.origin.teacher,
      sampling=sampling,
      sample=job.sample,
    )
    self.requests["asked"] += 1
    stored = self.store.get(key) or await self._claim_or_wait(key)
    if stored is not None:
      self.requests["replayed"] += 1
      self._consecutive_failures = 0
      return stored
    asked_at = time.time()
    response = await self._complete(Request(id=key[:32], prompt=text, sampling=sampling), key)
    return await self.store.put_async(
      StoredResponse(
        key=key,
        problem_id=job.problem.id,
        method=METHODS[job.method].name if job.method in METHODS else job.method,
        prompt_name=prompt.name,
        prompt_hash=prompt.hash,
        prompt=text,
        teacher=self.origin.teacher,
        sampling=sampling_json(sampling),
        text=_storable(response.text),
        thought=_storable(response.thought),
        finish_reason=_storable(response.finish_reason),
        prompt_tokens=response.prompt_tokens,
        completion_tokens=response.completion_tokens,
        asked_at=asked_at,
      )
    )

  async def _claim_or_wait(self, key: str) -> StoredResponse | None:
    """None once it is for us to ask; the response if another process got it while we waited for that."""
    pause = 0.1
    while True:
      found = await self.store.claim(key)
      if found is not False:
        return None if found is True else found
      await asyncio.sleep(pause)
      pause = min(2 * pause, MAX_POLL_SECONDS)

  async def _complete(self, request: Request, key: str) -> Response:
    """Asks the teacher; a request that gets no answer is a rejection, and too many of them end the pass."""
    self.requests["sent"] += 1
    try:
      response = await self.generator.complete(request)
    except BaseException as error:
      self.store.release(key)
      if not isinstance(error, FAILURES):
        raise
      self.requests["failed"] += 1
      self._consecutive_failures += 1
      if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES and not await self._answers(request):
        raise UserError(
          f"{MAX_CONSECUTIVE_FAILURES} requests in a row got no answer from the teacher; the last: {error}",
          where=self.origin.teacher,
          remedy="see to the teacher and run the same command again: every answer so far is kept",
        ) from error
      raise Rejection(f"error: {error}") from error
    self._consecutive_failures = 0
    self.tokens["prompt"] += response.prompt_tokens
    self.tokens["completion"] += response.completion_tokens
    return response

  async def _answers(self, request: Request) -> bool:
    """Whether the teacher answers something small: then it is the prompts that fail, such as the last ones of a run."""
    self._consecutive_failures = 0
    try:
      await self.generator.complete(dataclasses.replace(request, id=f"probe {request.id}", prompt=PROBE))
    except (UserError, OSError):
      return False
    return True


def _storable(text: str) -> str:
  return text.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in a file


class StoredAsk:
  """The `Ask` of one job: renders the prompt, gives the request its own sampling seed, and asks the session."""

  def __init__(self, session: Session, job: Job):
    self._session = session
    self._job = job
    self._ordinal = 0
    self.origin = session.origin
    self.settings = session.settings
    self._identity = (
      session.rng_seed, self.origin.stage, self.origin.synthesis_pass, job.problem.id, job.method, job.sample
    )  # fmt: skip
    self.rng = random.Random(stable_id("rng", *self._identity))

  async def __call__(self, prompt_name: str, /, **fields: str) -> Reply:
    """The reply; `Rejection("error: …")` where the teacher gave none."""
    prompt = prompts.load(prompt_of(prompt_name, self.settings, style(self._job.problem)))
    seed = int(stable_id("ask", *self._identity, self._ordinal)[:8], 16) & 0x7FFFFFFF
    self._ordinal += 1
    sampling = dataclasses.replace(self._session.sampling, seed=seed)
    text = prompt.render(query=fields.get("question"), **fields)  # as the frames of training call it
    stored = await self._session.answer(self._job, prompt, text, sampling)
    shown = visible(stored.text)  # of a client that does not set the thought apart, or an older version
    return Reply(
      text=shown.text,
      thought="\n\n".join(filter(None, (stored.thought, shown.thought))),
      finish_reason=stored.finish_reason if shown.whole else "length",
      prompt=prompt,
      sampling=sampling,
      tokens=stored.completion_tokens,
    )
