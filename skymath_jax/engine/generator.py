"""The engine in process: a `Generator` for evaluation, for a laptop, and for whoever wants no server.

Example::

  generator = LocalGenerator(decoder, tokenizer, "micro@1f0c", slots=64, max_length=512)
  responses = generator.generate_all([Request(id="1", prompt="2 + 2 =", sampling=Sampling(max_tokens=8))])
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import jax
import numpy as np

from skymath_jax.engine.batching import Counters, Job, Loop
from skymath_jax.engine.core import Core, Prefix, Settings, checked_prompt
from skymath_jax.engine.prefix import PrefixCache
from skymath_jax.engine.slots import SlotTable
from skymath_jax.generation.types import Request, Response, Stats, as_completed, unique_ids
from skymath_jax.models import Decoder
from skymath_jax.tokenizer import Tokenizer


class LocalSlots:
  """`loop.Slots` straight over a core."""

  def __init__(self, core: Core):
    self._core, self._table, self.count = core, SlotTable(core), core.slots
    self._rows: jax.Array | None = None

  @property
  def lost(self) -> bool:
    """Whether the device state is gone."""
    return self._table.lost

  def insert(self, prefix: Prefix, slot: int) -> None:
    """See `SlotTable.insert`."""
    self._table.insert(prefix, slot)

  def dispatch(self) -> None:
    """See `SlotTable.generate`."""
    self._rows = self._table.generate(self._core.params)

  def rows(self) -> np.ndarray:
    """Its result, waited for."""
    return np.asarray(self._rows)

  def release(self, slot: int) -> None:
    """See `SlotTable.release`."""
    self._table.release(slot)

  def reset(self) -> None:
    """See `SlotTable.reset`."""
    self._table.reset()


@dataclasses.dataclass(kw_only=True, eq=False)
class _FutureJob(Job):
  """A job whose outcome is a thread-safe future."""

  future: concurrent.futures.Future = dataclasses.field(default_factory=concurrent.futures.Future)

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
    tokenizer: its tokenizer; prompts get its bos token in front.
    model_id: name and weights hash.
    **settings: of `core.Settings`.
  """

  def __init__(self, decoder: Decoder, tokenizer: Tokenizer, model_id: str, **settings: Any):
    self.model_id, self.stats, self.counters = model_id, Stats(), Counters()
    self._tokenizer = tokenizer
    stop_ids = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    self._core = Core(decoder, Settings(**settings), stop_ids=stop_ids)
    self._waiting: queue.SimpleQueue[_FutureJob] = queue.SimpleQueue()
    self._lock, self._thread, self._closed = threading.Lock(), None, False

  @property
  def prefixes(self) -> PrefixCache:
    """The cache of prompt pieces, with its counts of tokens computed and reused."""
    return self._core.prefixes

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
    return self._finished(request, job)

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=2 * self._core.slots)

  def generate_all(
    self, requests: Iterable[Request], on_result: Callable[[Response], None] | None = None
  ) -> list[Response]:
    """Responses in the order of the requests, for callers without an event loop; `on_result` sees them as they come.

    Raises:
      UserError: two requests have one id (before any is asked), or what `complete` raises.
    """

    async def run() -> list[Response]:
      by_id = {}
      async for response in self.generate(ordered):
        by_id[response.id] = response
        if on_result is not None:
          on_result(response)
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
    tokens = self._tokenizer.encode(request.prompt, bos=True)
    prompt = checked_prompt(tokens, s, max_length=self._core.max_length, vocab_size=self._core.config.vocab_size)
    job = _FutureJob(prompt=prompt, stop=s.stop, decode=self._tokenizer.decode)
    self.stats.sent += 1
    with self._lock:
      self._waiting.put(job)
      if self._thread is None:
        self._thread = threading.Thread(target=self._run, name="local-generator")
        self._thread.start()
    return job

  def _finished(self, request: Request, job: Job) -> Response:
    response = job.response(request.id)
    self.stats.count(response)
    return response

  def _run(self) -> None:
    """Serves until nothing waits and no slot is busy."""
    loop = Loop(LocalSlots(self._core), self.counters)
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
    prefixes = self._core.prefill_each(self._core.params, [job.prompt for job in jobs]) if jobs else []
    for job, prefix in zip(jobs, prefixes, strict=True):
      loop.start(job, prefix)
