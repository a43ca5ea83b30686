"""The engine in process: a `Generator` for evaluation, for a laptop, and for whoever wants no server.

Example::

  settings = EngineSettings(slots=64, max_length=512, steps_per_call=16)
  generator = LocalGenerator(decoder, tokenizer, "micro@1f0c", settings)
  responses = generator.generate_all([Request(id="1", prompt="2 + 2 =", sampling=Sampling(max_tokens=8))])
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable

from skymath_jax.engine.batching import Job, Loop
from skymath_jax.engine.counters import Counters
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings, checked_prompt
from skymath_jax.generation.types import Request, Response, Stats, as_completed, unique_ids
from skymath_jax.models import Decoder
from skymath_jax.tokenizer import Tokenizer


@dataclasses.dataclass(kw_only=True, eq=False)
class _FutureJob(Job):
  """A job whose outcome is a thread-safe future."""

  future: concurrent.futures.Future[Job] = dataclasses.field(default_factory=concurrent.futures.Future)

  def on_finish(self) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled in the same moment
      self.future.set_result(self)

  def on_error(self, error: Exception) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):
      self.future.set_exception(error)


class LocalGenerator:
  """Continuous batching in a thread of its own, which lives while there is work.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    model_id: name and weights hash.
    settings: slots, lengths, number formats.
    encode: from a prompt to token ids, such as `chat.question_encoder` gives; None: the bare text, after what the
      tokenizer itself puts before a text.

  Attributes:
    engine: the model ready for serving, with the cache of prompt pieces (`engine.prefixes`).
    stats: what was asked and answered.
    counters: what the engine did.
  """

  def __init__(
    self,
    decoder: Decoder,
    tokenizer: Tokenizer,
    model_id: str,
    settings: EngineSettings,
    *,
    encode: Callable[[str], list[int]] | None = None,
  ):
    self.model_id = model_id
    self.stats = Stats()
    self.counters = Counters()
    self.engine = Engine(decoder, settings, stop_ids=tokenizer.end_ids)
    self._tokenizer = tokenizer
    self._encode = encode or functools.partial(tokenizer.encode, bos=True)
    self._waiting: queue.SimpleQueue[_FutureJob] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._thread: threading.Thread | None = None
    self._closed = False

  async def complete(self, request: Request) -> Response:
    """The response to one request.

    Raises:
      RequestRejected: the prompt is empty or too long.
    """
    job = self._submit(request)
    try:
      await asyncio.wrap_future(job.future)
    except asyncio.CancelledError:
      job.cancelled = True
      raise
    response = job.response(request.id)
    self.stats.count(response)
    return response

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=2 * self.engine.sizes.slots)

  def generate_all(self, requests: Iterable[Request]) -> list[Response]:
    """Responses in the order of the requests, for callers without an event loop.

    Raises:
      UserError: two requests have one id (before any is asked), or what `complete` raises.
    """

    async def run() -> list[Response]:
      by_id = {response.id: response async for response in self.generate(ordered)}
      return [by_id[request.id] for request in ordered]

    ordered = list(unique_ids(requests))
    return asyncio.run(run())

  async def close(self) -> None:
    """Takes no further requests; those under way go on to their end."""
    self._closed = True

  def _submit(self, request: Request) -> _FutureJob:
    if self._closed:
      raise RuntimeError("this generator is closed")
    s = request.sampling
    tokens = self._encode(request.prompt)
    prompt = checked_prompt(tokens, s, max_length=self.engine.max_length, vocab_size=self.engine.vocab_size)
    job = _FutureJob(prompt=prompt, stop=s.stop, decode=self._tokenizer.decode)
    self.stats.sent += 1
    with self._lock:
      self._waiting.put(job)
      if self._thread is None:
        self._thread = threading.Thread(target=self._run, name="local-generator")
        self._thread.start()
    return job

  def _run(self) -> None:
    """Serves until nothing waits and no slot is busy."""
    loop = Loop(Slots(self.engine), self.counters)
    while threading.main_thread().is_alive():  # a daemon thread would be torn down inside a device call at exit
      self._fill(loop)
      loop.step()
      if not loop.live:
        with self._lock:
          if self._waiting.empty():
            self._thread = None
            return

  def _fill(self, loop: Loop) -> None:
    jobs: list[_FutureJob] = []
    while len(jobs) < len(loop.free):
      try:
        jobs.append(self._waiting.get_nowait())
      except queue.Empty:
        break
    prefixes = self.engine.prefill_each([job.prompt for job in jobs]) if jobs else []
    for job, prefix in zip(jobs, prefixes, strict=True):
      loop.start(job, prefix)
