"""JetStream's `Driver`, hardened: bounded admission, cancellation, faults that stay with their request, a clean stop.

A request goes `submit` → prefill thread → generate thread, both ours. The stock generate and detokenize threads share
the slots, which costs idle slots and has a race that ends in SIGKILL; here one thread owns them, and token ids need no
detokenizing. The stock transfer thread has nothing to carry in interleaved mode: each hop between threads costs a turn
of the interpreter lock. A `Driver` has class-level state upstream: one per process.
"""

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Sequence

import numpy as np

from skymath_jax.engine.batching import CancelledJobError, Counters, Job, Loop, UnavailableError
from skymath_jax.engine.core import PREFILL_TOKENS, Params, Prefix, kept
from skymath_jax.server import compat
from skymath_jax.server.jetstream import DecoderEngine

orchestrator = compat.load("core.orchestrator")
LEAST_PATIENCE = 0.02  # seconds


@dataclasses.dataclass
class ServedRequest(orchestrator.ActiveRequest):
  """JetStream's request with our job in it."""

  job: Job | None = None


class EngineSlots:
  """`loop.Slots` over JetStream's engine interface."""

  def __init__(self, engine: DecoderEngine, params: Params):
    self._engine, self._params, self._result = engine, params, None
    self._state, self.count = engine.init_decode_state(), engine.max_concurrent_decodes

  @property
  def lost(self) -> bool:
    """Whether the device state is gone."""
    return self._state.lost

  def insert(self, prefix: Prefix, slot: int) -> None:
    """`Engine.insert`."""
    self._state = self._engine.insert(prefix, self._state, slot=slot)

  def dispatch(self) -> None:
    """`Engine.generate`."""
    self._state, self._result = self._engine.generate(self._params, self._state)

  def rows(self) -> np.ndarray:
    """Its result, waited for."""
    return self._result.convert_to_numpy().data

  def release(self, slot: int) -> None:
    """Lets the engine forget a slot."""
    self._state.release(slot)

  def reset(self) -> None:
    """A new decode state."""
    self._state = self._engine.init_decode_state()


class _Ahead:
  """Prompt tokens that are prefilled and wait for a slot, of which there may be `budget`, and one batch more."""

  def __init__(self, budget: int):
    self._budget, self._tokens, self._open = budget, 0, True
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
    engine: the engine.
    queue_size: jobs that may wait for a slot; `submit` refuses more.
    counters: totals to count into.
  """

  def __init__(self, engine: DecoderEngine, *, queue_size: int, counters: Counters):
    # the stock constructor starts the threads: all of ours must be there before
    self.counters, self._queue_size = counters, queue_size
    self._jobs_lock, self._waiting = threading.Lock(), {}  # id → job, between submit and slot
    self._draining = False
    self._loop = Loop(EngineSlots(engine, engine.core.params), counters)
    self._engine, self._ahead = engine, _Ahead(kept(engine.core.max_length))
    super().__init__(
      prefill_engines=[engine],
      generate_engines=[engine],
      prefill_params=[engine.core.params],
      generate_params=[engine.core.params],
      interleaved_mode=True,
      jax_padding=False,
    )
    for backlog in self._generate_backlogs.values():
      backlog.maxsize = 0  # the stock size of 1 makes every prefill wait for a slot; `_ahead` sets the bound instead

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

  def submit(self, job: Job) -> None:
    """Queues a job.

    Raises:
      queue.Full: too many wait already.
      UnavailableError: the driver stops.
    """
    request = ServedRequest(
      max_tokens=job.prompt.max_tokens,
      return_channel=None,
      prefill_content=list(job.prompt.tokens),
      is_client_side_tokenization=True,
      job=job,
    )
    self.place_request_on_prefill_queue(request)

  def place_request_on_prefill_queue(self, request: ServedRequest) -> None:
    """The stock method with a bound."""
    with self._jobs_lock:
      if not self.accepting:
        raise UnavailableError("the server is stopping")
      if len(self._waiting) >= self._queue_size:
        self.counters.add(refused=1)
        raise queue.Full
      self._waiting[id(request.job)] = request.job
      self.counters.add(accepted=1)
    super().place_request_on_prefill_queue(request)

  def cancel(self, job: Job) -> None:
    """Nobody waits for the job any more: it gives up its place in the queue now, or its slot at the next step."""
    job.cancelled = True
    with self._jobs_lock:
      was_waiting = self._waiting.pop(id(job), None) is not None
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
    self._ahead.close()
    super().stop()
    error = UnavailableError("the server is stopping")
    self._loop.fail_all(error)
    with self._jobs_lock:
      left, self._waiting = list(self._waiting.values()), {}
    for job in left:
      self.counters.add(failed=1)
      job.on_error(error)

  def _transfer_thread(self, idx: int) -> None:
    """Ends at once: `_prefill_thread` hands over to the generate thread itself."""

  def _prefill_thread(self, idx: int) -> None:
    """Prefills ahead of the slots while the engine decodes; a failure is a result, as the stock thread has none."""
    core = self._engine.core
    while (requests := self._next_requests()) is not None:
      jobs = [request.job for request in requests]
      self._ahead.enter(jobs)
      start = time.monotonic()
      wanted = [job.prompt for job in jobs if not job.cancelled]
      prefixes = dict(zip(map(id, wanted), core.prefill_each(core.params, wanted) if wanted else [], strict=True))
      self.counters.add(prefill_seconds=time.monotonic() - start)
      for request in requests:
        request.prefill_result = prefixes.get(id(request.job.prompt), CancelledJobError())
        self._generate_backlogs[idx].put(request)

  def _next_requests(self) -> list[ServedRequest] | None:
    """The next request, and those behind it that fit into the same pass of prefill; None when the driver stops."""
    requests, tokens = [self._prefill_backlog.get()], 0
    with contextlib.suppress(queue.Empty):
      while requests[-1] is not None and len(requests) < self._engine.core.prefill_rows:
        tokens += len(requests[-1].job.prompt.tokens)
        if tokens >= PREFILL_TOKENS:
          break
        requests.append(self._prefill_backlog.get_nowait())
    return None if requests[-1] is None else requests

  def _generate_thread(self, idx: int) -> None:
    backlog = self._generate_backlogs[idx]
    while self.live:
      try:
        if not self._fill(backlog):
          return
        self._loop.step()
      except Exception as error:  # none is known; stock JetStream would kill the process
        logging.getLogger(__name__).exception("the generate thread goes on after an error")
        self._loop.fail_all(UnavailableError(f"the generate thread met an error ({error})"))

  def _fill(self, backlog: queue.Queue) -> bool:
    """Gives free slots to what waits; False when the driver stops.

    While sequences are running it waits for prefills no longer than the last call of the engine took, so that their
    streams go on.
    """
    loop, running = self._loop, bool(self._loop.live)
    end = time.monotonic() + max(loop.last_call, LEAST_PATIENCE)
    while loop.free and (self._waiting or not loop.live):
      try:
        request = backlog.get(timeout=max(0.0, end - time.monotonic()) if running else 1.0)
      except queue.Empty:
        return True
      if request is None:
        return False
      with self._jobs_lock:
        wanted = self._waiting.pop(id(request.job), None) is not None
      if wanted:  # else it was cancelled, and told so
        loop.start(request.job, request.prefill_result)
      request.prefill_result = None
      self._ahead.leave(request.job)
    return True
