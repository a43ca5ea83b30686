"""Continuous batching on the host: which job is in which slot, and what becomes of the tokens that come out.

The same loop runs in process and behind JetStream. It belongs to one thread; jobs tell others what happened through
`Job.on_tokens`, `on_finish` and `on_error`.
"""

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from skymath_jax.engine.counters import Counters
from skymath_jax.engine.prefix import Prefix
from skymath_jax.engine.types import Prompt
from skymath_jax.generation.types import Response, cut_at_stop


class UnavailableError(Exception):
  """The device state was lost or the server stops: the request may be sent again."""


class CancelledJobError(Exception):
  """Nobody waits for the response any more."""


def _no_tokenizer(_: Sequence[int]) -> str:
  raise TypeError("this job was made without a tokenizer")


@dataclasses.dataclass(kw_only=True, eq=False)
class Job:
  """One request on its way.

  Args:
    prompt: checked tokens and sampling.
    stop: texts that end the response.
    stop_tokens: ids that end it, beside the model's own; they are not part of it.
    decode: tokens to text; needed only for `stop` and `text`.
    owner: whose it is, client and call, where several share an engine.
  """

  prompt: Prompt
  stop: tuple[str, ...] = ()
  stop_tokens: frozenset[int] = frozenset()
  decode: Callable[[Sequence[int]], str] = _no_tokenizer
  owner: tuple[str, str] = ("", "")
  tokens: list[int] = dataclasses.field(default_factory=list)
  finish_reason: str | None = None
  cancelled: bool = False

  def take(self, made: list[int], valid: int) -> list[int]:
    """Takes the first `valid` of the tokens of one call and returns what is new; fewer mean that the model stopped."""
    new = made[:valid]
    if self.stop_tokens:
      new = list(itertools.takewhile(lambda token: token not in self.stop_tokens, new))
      valid = len(new)
    fresh, stopped = self._up_to_stop(new) if self.stop else (new, False)
    self.tokens += fresh
    if stopped:
      self.finish_reason = "stop"
    elif len(self.tokens) >= self.prompt.max_tokens:
      self.finish_reason = "length"
    elif valid < len(made):
      self.finish_reason = "stop"
    return fresh

  def _up_to_stop(self, new: list[int]) -> tuple[list[int], bool]:
    """Drops what follows the token that completed a stop text, so that the outcome does not depend on chunks.

    Also says whether there was one.
    """

    def stops(count: int) -> bool:
      return cut_at_stop(self.decode([*self.tokens, *new[:count]]), self.stop)[1]

    if not stops(len(new)):
      return new, False
    return new[: next((count for count in range(1, len(new)) if stops(count)), len(new))], True

  def text(self) -> str:
    """The response so far, without its stop text."""
    return cut_at_stop(self.decode(self.tokens), self.stop)[0]

  def response(self, id: str) -> Response:
    """The finished response."""
    assert self.finish_reason is not None
    return Response(
      id=id,
      text=self.text(),
      finish_reason=self.finish_reason,
      prompt_tokens=len(self.prompt.tokens),
      completion_tokens=len(self.tokens),
    )

  def on_tokens(self, tokens: list[int]) -> None:
    """Called in the loop's thread with new tokens, maybe none."""

  def on_finish(self) -> None:
    """Called once in the loop's thread, after the last tokens."""

  def on_error(self, error: Exception) -> None:
    """Called once in the loop's thread instead of `on_finish`."""


class SlotsLike(Protocol):
  """What the loop needs of an engine: `slots.Slots`, or a double. Reading what `generate` returns waits for it."""

  count: int

  @property
  def lost(self) -> bool: ...
  def insert(self, prefix: Prefix, slot: int) -> None: ...
  def generate(self) -> ArrayLike: ...
  def release(self, slot: int) -> None: ...
  def reset(self) -> None: ...


class Loop:
  """Slots and the jobs in them. All methods are for the loop's own thread.

  Between two engine calls the device idles: then jobs only take their tokens and slots change hands. Callbacks of jobs
  are kept, in order, and made while the next call runs.
  """

  def __init__(self, slots: SlotsLike, counters: Counters | None = None):
    self.free = list(range(slots.count))[::-1]
    self.live: dict[int, Job] = {}
    self.last_call = 0.0  # seconds of the last engine call
    self._slots = slots
    self._counters = counters or Counters()
    self._callbacks: list[Callable[[], None]] = []

  def start(self, job: Job, prefix: Prefix | Exception) -> None:
    """Puts a prefilled job into a free slot; `prefix` may be the exception that prefill met."""
    if job.cancelled:
      self._fail(job, CancelledJobError())
      return
    if isinstance(prefix, Exception):
      self._fail(job, prefix)
      return
    slot = self.free.pop()
    try:
      self._slots.insert(prefix, slot)
    except Exception as error:  # whatever it is, it is this job's alone
      self.free.append(slot)
      self._fail(job, error)
      if self._slots.lost:
        self.fail_all(UnavailableError("the engine's state was lost while a neighbour was inserted"))
        self._slots.reset()
      return
    self.live[slot] = job

  def step(self) -> None:
    """One engine call for all live jobs; an exception fails them and starts the engine's state anew."""
    self._drop_cancelled()
    if self.live:
      self._call()
    if not self.live:  # no other call is sure to follow
      self.call_back()

  def call_back(self) -> None:
    """Makes the callbacks that have come up since; one that fails must not end the thread that serves all others."""
    callbacks, self._callbacks = self._callbacks, []
    for callback in callbacks:
      try:
        callback()
      except Exception:
        logging.getLogger(__name__).exception("a job's listener failed")

  def fail_all(self, error: Exception) -> None:
    """Fails every job in a slot, and makes all callbacks."""
    for slot, job in list(self.live.items()):
      self._end(slot)
      self._fail(job, error)
    self.call_back()

  def _call(self) -> None:
    start = time.monotonic()
    try:
      begun = self._slots.generate()
      self.call_back()
      rows = np.asarray(begun)
    except Exception as error:
      self.fail_all(UnavailableError(f"generation failed ({error})"))
      self._slots.reset()
      return
    self.last_call = time.monotonic() - start
    steps = rows.shape[1] // 2
    tokens, valid = rows[:, :steps].tolist(), rows[:, steps : 2 * steps].sum(axis=1).tolist()
    generated = sum(valid[slot] for slot in self.live)
    self._counters.add(generated_tokens=generated, generate_seconds=self.last_call, generate_calls=1)
    for slot, job in list(self.live.items()):
      self._hand_out(slot, job, tokens[slot], valid[slot])

  def _hand_out(self, slot: int, job: Job, tokens: list[int], valid: int) -> None:
    """Gives a job its tokens, and its slot back where they are the last."""
    try:
      new = job.take(tokens, valid)
    except Exception as error:  # e.g. a tokenizer that cannot decode
      self._end(slot)
      self._fail(job, error)
      return
    self._callbacks.append(functools.partial(job.on_tokens, new))
    if job.finish_reason is not None:
      self._end(slot)
      self._callbacks.append(functools.partial(self._finished, job))

  def _drop_cancelled(self) -> None:
    for slot, job in list(self.live.items()):
      if job.cancelled:
        self._end(slot)
        self._fail(job, CancelledJobError())

  def _end(self, slot: int) -> None:
    del self.live[slot]
    self._slots.release(slot)
    self.free.append(slot)

  def _fail(self, job: Job, error: Exception) -> None:
    self._callbacks.append(functools.partial(self._failed, job, error))

  def _failed(self, job: Job, error: Exception) -> None:
    self._counters.add(**{"cancelled" if isinstance(error, CancelledJobError) else "failed": 1})
    job.on_error(error)

  def _finished(self, job: Job) -> None:
    self._counters.add(completed=1, prompt_tokens=len(job.prompt.tokens), completion_tokens=len(job.tokens))
    job.on_finish()
