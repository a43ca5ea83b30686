"""JetStream's `Driver`, hardened: bounded admission, cancellation, faults that stay with their request, a clean stop.

A request goes `submit` → prefill thread → transfer thread (both stock) → generate thread (ours). The stock generate and
detokenize threads share the slots, which costs idle slots and has a race that ends in SIGKILL; here one thread owns
them, and token ids need no detokenizing. A `Driver` has class-level state upstream: one per process.
"""

import dataclasses
import logging
import queue
import threading
import time
from typing import Any

import numpy as np

from skymath_jax.serving import compat
from skymath_jax.serving.core import Params, Prefix
from skymath_jax.serving.engine import DecoderEngine
from skymath_jax.serving.loop import CancelledJobError, Counters, Job, Loop, UnavailableError

orchestrator = compat.load("core.orchestrator")
LEAST_PATIENCE = 0.02  # seconds
LEAST_AHEAD = 4096  # prompt tokens


@dataclasses.dataclass
class ServedRequest(orchestrator.ActiveRequest):
  """JetStream's request with our job in it."""

  job: Job | None = None


class EngineSlots:
  """`loop.Slots` over JetStream's engine interface."""

  def __init__(self, engine: DecoderEngine, params: Params):
    self._engine, self._params = engine, params
    self._state, self.count = engine.init_decode_state(), engine.max_concurrent_decodes

  @property
  def lost(self) -> bool:
    """Whether the device state is gone."""
    return self._state.lost

  def insert(self, prefix: Prefix, slot: int) -> None:
    """`Engine.insert`."""
    self._state = self._engine.insert(prefix, self._state, slot=slot)

  def generate(self) -> np.ndarray:
    """`Engine.generate`, waited for."""
    self._state, result = self._engine.generate(self._params, self._state)
    return result.convert_to_numpy().data

  def release(self, slot: int) -> None:
    """Lets the engine forget a slot."""
    self._state.release(slot)

  def reset(self) -> None:
    """A new decode state."""
    self._state = self._engine.init_decode_state()


class _GuardedPrefill:
  """The engine as the stock prefill thread sees it: a failure is a result, for an exception would kill the process.

  It runs ahead of the slots while the engine decodes, until `budget` prompt tokens wait for a slot.
  """

  def __init__(self, engine: DecoderEngine, counters: Counters, budget: int):
    self._engine, self._counters, self._budget = engine, counters, budget
    self._ahead, self._changed, self._open = 0, threading.Condition(), True

  def taken(self, job: Job) -> None:
    """The job's prefix has a slot, or needs none any more."""
    with self._changed:
      self._ahead -= len(job.prompt.tokens)
      self._changed.notify_all()

  def close(self) -> None:
    """Waits no longer."""
    with self._changed:
      self._open = False
      self._changed.notify_all()

  def prefill(self, *, params: Params, padded_tokens: Job, true_length: int) -> Prefix | Exception:
    """The prefix of a job, or what went wrong."""
    with self._changed:
      self._changed.wait_for(lambda: self._ahead < self._budget or not self._open)
      self._ahead += len(padded_tokens.prompt.tokens)
    if padded_tokens.cancelled:
      return CancelledJobError()
    start = time.monotonic()
    try:
      return self._engine.prefill(params=params, padded_tokens=padded_tokens.prompt, true_length=true_length)
    except Exception as error:
      return error
    finally:
      self._counters.add(prefill_seconds=time.monotonic() - start)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._engine, name)


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
    self._prefill = _GuardedPrefill(engine, counters, budget=max(LEAST_AHEAD, 2 * engine.core.max_length))
    super().__init__(
      prefill_engines=[self._prefill],
      generate_engines=[engine],
      prefill_params=[engine.core.params],
      generate_params=[engine.core.params],
      interleaved_mode=True,
      jax_padding=False,
    )
    for backlog in (*self._transfer_backlogs, *self._generate_backlogs.values()):
      backlog.maxsize = 0  # the stock size of 1 makes every prefill wait for a slot; `_prefill` sets the bound instead

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
    self._prefill.close()
    super().stop()
    error = UnavailableError("the server is stopping")
    self._loop.fail_all(error)
    with self._jobs_lock:
      left, self._waiting = list(self._waiting.values()), {}
    for job in left:
      self.counters.add(failed=1)
      job.on_error(error)

  def _process_prefill_content(self, request: ServedRequest, *_: Any) -> tuple[Job, int]:
    """Hands the job itself to the engine: the stock method pads, and cuts long prompts without a word."""
    return request.job, len(request.job.prompt.tokens)

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
      self._prefill.taken(request.job)
    return True
