"""From a request to its tokens: bounded admission, prefill ahead of the slots, decode, cancellation, a clean stop.

A request goes `ask` → prefill thread → generate thread, JetStream's `Driver` hardened: faults stay with their request.
The stock generate and detokenize threads share the slots, which costs idle slots and has a race that ends in SIGKILL;
here one thread owns them, and token ids need no detokenizing. The stock transfer thread has nothing to carry in
interleaved mode: each hop between threads costs a turn of the interpreter lock. A `Driver` has class-level state
upstream: one per process.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import queue
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from skymath_jax.engine.batching import CancelledJobError, Job, Loop, SlotsLike, UnavailableError
from skymath_jax.engine.counters import Counters
from skymath_jax.engine.engine import Scores
from skymath_jax.engine.prefix import Prefix, PrefixCache
from skymath_jax.engine.sizes import MAX_PREFILL_TOKENS
from skymath_jax.engine.types import SHORTEN, Prompt, checked_prompt, prefix_budget
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.server import compat
from skymath_jax.server.fair import FairQueue, Waiting
from skymath_jax.server.jobs import StreamedJob
from skymath_jax.tokenizer import Tokenizer

Answer = TypeVar("Answer")
orchestrator: Any = compat.load("core.orchestrator")
MIN_PATIENCE = 0.02  # seconds
MAX_STOPS = 16  # each is looked for after each call of the engine
MAX_STOP_LENGTH = 256  # characters
SHORT_TEXT = 2048  # characters: they are tokenized in less time than it takes to ask another thread
MAX_TOKEN_LENGTH = 16  # characters to a token, over a whole prompt: only runs of one character have more


class EngineLike(Protocol):
  """What a server needs of an engine: `engine.Engine`, or a double."""

  max_length: int
  vocab_size: int
  prefill_rows: int
  prefixes: PrefixCache

  def prefill_each(self, prompts: Sequence[Prompt]) -> Sequence[Prefix | Exception]: ...

  def score(self, tokens: Sequence[int]) -> Scores: ...


@dataclasses.dataclass(kw_only=True)
class _Request(orchestrator.ActiveRequest):
  """JetStream's request, which carries our job from thread to thread."""

  job: Job


class _Budget:
  """Prompt tokens that are prefilled and wait for a slot, of which there may be `budget`, and one batch more."""

  def __init__(self, budget: int):
    self._budget = budget
    self._tokens = 0
    self._open = True
    self._changed = threading.Condition()

  def enter(self, jobs: Sequence[Job]) -> None:
    """Counts the jobs in, as soon as there is room."""
    with self._changed:
      self._changed.wait_for(lambda: self._tokens < self._budget or not self._open)
      self._tokens += sum(len(job.prompt.tokens) for job in jobs)

  def leave(self, job: Job) -> None:
    """The job's prefix has a slot, or needs none any more."""
    with self._changed:
      self._tokens -= len(job.prompt.tokens)
      self._changed.notify_all()

  def close(self) -> None:
    """Waits no longer."""
    with self._changed:
      self._open = False
      self._changed.notify_all()


class Driver(orchestrator.Driver):
  """Threads around one engine.

  Args:
    engine: prefills prompts.
    slots: decode them.
    tokenizer: of the model.
    queue_size: jobs that may wait for a slot; `submit` refuses more, and first those of whoever has most there.

  Attributes:
    counters: totals, of this driver alone.
  """

  def __init__(self, engine: EngineLike, slots: SlotsLike, tokenizer: Tokenizer, *, queue_size: int):
    # the stock constructor starts the threads: all of ours must be there before
    self.counters = Counters()
    self.engine = engine
    self.slot_count = slots.count
    self._tokenizer = tokenizer
    self._jobs_lock = threading.Lock()
    self._waiting = Waiting(queue_size)  # between submit and slot
    self._draining = False
    self._loop = Loop(slots, self.counters)
    self._to_slots = FairQueue(self._in_slots)
    self._to_prefill = FairQueue(lambda: self._in_slots() + self._to_slots.jobs())
    self._scoring = concurrent.futures.ThreadPoolExecutor(1, "score")
    self._tokenizing = concurrent.futures.ThreadPoolExecutor(2, "tokenize")
    self._prefilled = _Budget(prefix_budget(engine.max_length))
    stock = types.SimpleNamespace(max_concurrent_decodes=slots.count)  # all that is asked of an engine from here on
    super().__init__(
      prefill_engines=[stock],
      generate_engines=[stock],
      prefill_params=[None],
      generate_params=[None],
      interleaved_mode=True,
      jax_padding=False,
    )

  def _work_done(self) -> float:
    """Grows with each prefill and each call of the engine."""
    totals = self.counters.read()
    return totals["prefill_seconds"] + totals["generate_calls"]

  def _in_slots(self) -> list[Job]:
    return list(self._loop.live.values())

  @property
  def accepting(self) -> bool:
    """Whether new jobs are taken."""
    return self.live and not self._draining

  @property
  def waiting(self) -> int:
    """Jobs that have no slot yet."""
    return len(self._waiting)

  @property
  def busy(self) -> int:
    """Slots in use."""
    return len(self._loop.live)

  async def ask(
    self,
    content: str | Sequence[int],
    sampling: Sampling,
    *,
    stream: bool,
    stop_tokens: Sequence[int] = (),
    owner: tuple[str, str] = ("", ""),
  ) -> StreamedJob:
    """A queued job; `leave` when nobody waits for it any more.

    Raises:
      RequestRejected: the request is at fault.
      queue.Full: too many wait; try again later.
      UnavailableError: the server stops.
    """
    engine = self.engine
    try:
      if sampling.max_tokens > engine.max_length:
        raise RequestRejected(
          f"max_tokens is {sampling.max_tokens}, but prompt and response share {engine.max_length}",
          where="max_tokens",
          remedy="ask for less, or serve with a larger max_length",
        )
      if len(sampling.stop) > MAX_STOPS or any(len(text) > MAX_STOP_LENGTH for text in sampling.stop):
        what = f"more than {MAX_STOPS} stop texts, or one longer than {MAX_STOP_LENGTH} characters"
        raise RequestRejected(what, where="stop", remedy="use fewer and shorter ones")
      tokens = await self._encode(content) if isinstance(content, str) else content
      prompt = checked_prompt(tokens, sampling, max_length=engine.max_length, vocab_size=engine.vocab_size)
    except RequestRejected:
      self.counters.add(rejected=1)
      raise
    job = StreamedJob(
      prompt=prompt,
      stop=sampling.stop,
      stop_tokens=frozenset(stop_tokens),
      decode=self._tokenizer.decode,
      owner=owner,
      stream=stream,
      work_done=self._work_done,
    )
    self.submit(job)
    return job

  def require_room(self, characters: int) -> None:
    """Raises a `RequestRejected` where so long a text cannot fit, which is known before it is tokenized."""
    most = self.engine.max_length
    if characters > MAX_TOKEN_LENGTH * most:
      what = f"the prompt has {characters:,} characters, but prompt and response share {most} tokens"
      raise RequestRejected(what, where="prompt", remedy=SHORTEN)

  async def _encode(self, text: str) -> list[int]:
    self.require_room(len(text))
    try:
      if len(text) <= SHORT_TEXT:
        return self._tokenizer.encode(text, bos=True)
      return await self.off_the_loop(self._tokenizer.encode, text, bos=True)
    except (ValueError, TypeError, UnicodeError) as error:  # such as half a surrogate pair
      raise RequestRejected(f"the text cannot be tokenized ({error})", where="prompt") from None

  async def off_the_loop(self, work: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """What `work` returns; it runs in a thread, so that the event loop goes on meanwhile."""
    call = functools.partial(work, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(self._tokenizing, call)

  async def score(self, job: StreamedJob) -> Scores:
    """What the model predicted behind each token of the prompt and the response."""
    tokens = [*job.prompt.tokens, *job.tokens]
    return await asyncio.get_running_loop().run_in_executor(self._scoring, self.engine.score, tokens)

  def leave(self, job: StreamedJob) -> None:
    """Frees what an unfinished job holds: its place in the queue now, its slot at the next step."""
    if job.finish_reason is None:
      self.cancel(job)

  def submit(self, job: Job) -> None:
    """Queues a job; where too many wait, in the place of one of whoever has more of them.

    Raises:
      queue.Full: too many wait already.
      UnavailableError: the driver stops.
    """
    request = _Request(max_tokens=job.prompt.max_tokens, return_channel=None, job=job)
    with self._jobs_lock:
      if not self.accepting:
        raise UnavailableError("the server is stopping")
      try:
        displaced = self._waiting.add(job)
      except queue.Full:
        self.counters.add(refused=1)
        raise
      self.counters.add(accepted=1)
    if displaced is not None:
      displaced.cancelled = True
      self.counters.add(failed=1)
      displaced.on_error(queue.Full())
    self._to_prefill.put(request)

  def cancel(self, job: Job) -> None:
    """Nobody waits for the job any more: it gives up its place in the queue now, or its slot at the next step."""
    job.cancelled = True
    with self._jobs_lock:
      was_waiting = self._waiting.discard(job)
    if was_waiting:
      self.counters.add(cancelled=1)
      job.on_error(CancelledJobError())

  def drain(self, seconds: float) -> bool:
    """Takes no new jobs and waits for those it has; False if some are left after `seconds`."""
    with self._jobs_lock:
      self._draining = True
    end = time.monotonic() + seconds
    while self._unfinished() and time.monotonic() < end:
      time.sleep(0.02)
    return not self._unfinished()

  def _unfinished(self) -> float:
    totals = self.counters.read()
    return totals["accepted"] - totals["completed"] - totals["failed"] - totals["cancelled"]

  def stop(self) -> None:
    """Ends all threads; what waits or runs fails with `UnavailableError`."""
    with self._jobs_lock:
      self.live = False
    self._prefilled.close()
    self._tokenizing.shutdown(wait=False, cancel_futures=True)
    for line in (self._to_prefill, self._to_slots):
      line.put(None)
    super().stop()
    error = UnavailableError("the server is stopping")
    self._loop.fail_all(error)
    with self._jobs_lock:
      left = self._waiting.clear()
    for job in left:
      self.counters.add(failed=1)
      job.on_error(error)

  def _transfer_thread(self, idx: int) -> None:
    """Ends at once: `_prefill_thread` hands over to the generate thread itself."""

  def _detokenize_thread(self, idx: int) -> None:
    """Ends at once: jobs are given token ids, by the generate thread."""

  def _prefill_thread(self, idx: int) -> None:
    """Prefills ahead of the slots while the engine decodes; a failure is a result, as the stock thread has none."""
    while requests := self._next_requests():
      jobs = [request.job for request in requests]
      self._prefilled.enter(jobs)
      start = time.monotonic()
      wanted = [job for job in jobs if not job.cancelled]
      results = self.engine.prefill_each([job.prompt for job in wanted]) if wanted else []
      prefixes = dict(zip(map(id, wanted), results, strict=True))
      self.counters.add(prefill_seconds=time.monotonic() - start)
      for request in requests:
        request.prefill_result = prefixes.get(id(request.job), CancelledJobError())
        self._to_slots.put(request)

  def _next_requests(self) -> list[_Request]:
    """The next request, and those behind it that fit into the same pass of prefill; none when the driver stops."""
    request = self._to_prefill.get()
    requests: list[_Request] = []
    tokens = 0
    with contextlib.suppress(queue.Empty):
      while request is not None:
        requests.append(request)
        tokens += len(request.job.prompt.tokens)
        if tokens >= MAX_PREFILL_TOKENS or len(requests) >= self.engine.prefill_rows:
          break
        request = self._to_prefill.get_nowait()
    return [] if request is None else requests

  def _generate_thread(self, idx: int) -> None:
    while self.live:
      try:
        if not self._fill():
          return
        self._loop.step()
      except Exception as error:  # none is known; stock JetStream would kill the process
        logging.getLogger(__name__).exception("the generate thread goes on after an error")
        self._loop.fail_all(UnavailableError(f"the generate thread met an error ({error})"))

  def _fill(self) -> bool:
    """Gives free slots to what waits; False when the driver stops.

    While sequences are running it waits for prefills no longer than the last call of the engine took, so that their
    streams go on.
    """
    loop = self._loop
    running = bool(loop.live)
    end = time.monotonic() + max(loop.last_call, MIN_PATIENCE)
    while loop.free and (self._waiting or not loop.live):
      try:
        request = self._to_slots.get(timeout=max(0.0, end - time.monotonic()) if running else 1.0)
      except queue.Empty:
        return True
      if request is None:
        return False
      with self._jobs_lock:
        wanted = self._waiting.discard(request.job)
      if wanted:  # else it was cancelled, and told so
        loop.start(request.job, request.prefill_result)
      request.prefill_result = None
      self._prefilled.leave(request.job)
    return True
