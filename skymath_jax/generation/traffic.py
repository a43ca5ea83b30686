"""How much an endpoint is asked at once, when it is asked again, and who is to blame when an attempt fails.

Requests under way adapt to what the endpoint bears, as TCP does: one more for each answer up to half of where it was
too much, then one more a round; half of them when it says that it is too much, with a pause for all that doubles and is
jittered, or is as long as the endpoint asks for. A failure costs the request one of its attempts only where the request
may be to blame: others have got through since it first failed, or the endpoint is neither down nor busy. Where nothing
gets through at all, patience ends at last.
"""

import asyncio
import collections
import enum
import random
import time

import tenacity

from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation.types import RequestRejected

FIRST_LIMIT = 64  # requests under way at the beginning
MAX_PAUSE_SECONDS = 60.0  # of our own choice
MAX_RETRY_AFTER_SECONDS = 600.0  # that are waited where the endpoint asks for it
OUTAGE_SECONDS = 600.0  # without any answer, after which a run ends: an endpoint that restarts takes minutes
FIRST_ANSWER_SECONDS = 45.0  # ... where none ever came and the endpoint does not say that it is down: a wrong address
SUSPECT_SECONDS = 120.0  # without any answer, after which a request that alone is told to wait is given up
MIN_FAILURES = 4  # of one request, before patience may end
TELL_SECONDS = 30.0  # between lines about an outage


class Kind(enum.Enum):
  """What an attempt failed with."""

  BUSY = enum.auto()  # the endpoint limits the rate
  DOWN = enum.auto()  # it says that it is down, or that what is behind it is
  LOST = enum.auto()  # no connection, or no answer in time
  BROKEN = enum.auto()  # an error inside it, or an answer that is none


class Failure(Exception):
  """An attempt failed in a way that may pass.

  Attributes:
    retry_after: seconds that the endpoint asked to wait.
    billed: whether it may charge for the attempt all the same.
  """

  def __init__(self, what: str, kind: Kind, *, retry_after: float = 0.0, billed: bool = False):
    super().__init__(what)
    self.kind = kind
    self.retry_after = retry_after
    self.billed = billed


class Traffic:
  """The requests to one endpoint; for one event loop at a time.

  Args:
    limit: requests under way at most.
    first_pause: seconds of the first pause.

  Attributes:
    limit: requests that may be under way now.
    answered_at: monotonic time of the last answer, 0 before the first.
    answered: whether any request ever got through.
  """

  def __init__(self, limit: int, *, first_pause: float):
    self.limit = float(min(limit, FIRST_LIMIT))
    self.first_pause = first_pause
    self.answered_at = 0.0
    self._max_limit = limit
    self._threshold = float(limit)  # up to which each answer adds one
    self._under_way = 0
    self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
    self._resume_at = self._reduced_at = 0.0
    self._pauses = 0  # in a row, without an answer
    self._answers = 0  # since the limit was reduced
    self._began = self._told = 0.0
    self._timer: asyncio.TimerHandle | None = None

  @property
  def answered(self) -> bool:
    return self.answered_at > 0

  async def enter(self, *, again: bool) -> float:
    """Waits until a request may go out; returns when it does. What is asked again goes first."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    (self._waiting.appendleft if again else self._waiting.append)(turn)
    self._let_in()
    try:
      await turn
    except asyncio.CancelledError:
      if turn.done() and not turn.cancelled():
        self.leave()
      raise
    self._began = self._began or time.monotonic()
    return time.monotonic()

  def leave(self) -> None:
    """A request that was let in is no longer under way."""
    self._under_way -= 1
    self._let_in()

  def close(self) -> None:
    """The event loop ends; another one may follow."""
    if self._timer is not None:
      self._timer.cancel()
    self._timer = None

  def _let_in(self) -> None:
    while self._waiting and self._waiting[0].cancelled():
      self._waiting.popleft()
    pause = self._resume_at - time.monotonic()
    if pause > 0 and self._timer is None and self._waiting:
      self._timer = asyncio.get_running_loop().call_later(pause, self._resume)
    while self._waiting and pause <= 0 and self._under_way < max(1, int(self.limit)):
      turn = self._waiting.popleft()
      if not turn.done():
        self._under_way += 1
        turn.set_result(None)

  def _resume(self) -> None:
    self._timer = None
    self._let_in()

  def succeeded(self) -> None:
    """A request got its answer."""
    self.answered_at = time.monotonic()
    self._answers += 1
    self._pauses = 0
    step = 1.0 if self.limit < self._threshold else 1.0 / self.limit
    self.limit = min(self._max_limit, self.limit + step)

  def slow_down(self, sent: float, retry_after: float) -> None:
    """The endpoint has too much: fewer requests, after a pause. Those sent before the last such word say nothing new.

    Args:
      sent: monotonic time at which the attempt went out.
      retry_after: seconds that the endpoint asked to wait.
    """
    now = time.monotonic()
    if sent >= self._reduced_at:
      if self._answers:
        self._threshold = max(1.0, self.limit / 2)
      self.limit = max(1.0, self.limit / 2)
      pause = min(MAX_PAUSE_SECONDS, self.first_pause * 2**self._pauses) * random.uniform(1.0, 1.5)
      self._resume_at = max(self._resume_at, now + pause)
      self._reduced_at = self._resume_at
      self._pauses += 1
      self._answers = 0
    if retry_after:
      asked = now + min(retry_after, MAX_RETRY_AFTER_SECONDS)
      self._reduced_at = self._resume_at = max(self._resume_at, asked)

  def out_of_patience(self, failure: Failure, *, failures: int, suspect: bool) -> bool:
    """Whether so long nothing has got through that it is no use to wait; tells now and then of the wait.

    Args:
      failures: of the request, by now. The first ones say little where answers take minutes.
      suspect: whether others got through after this request had failed.
    """
    if failure.retry_after > MAX_RETRY_AFTER_SECONDS:
      return True
    now = time.monotonic()
    silent = now - (self.answered_at or self._began)
    if suspect and failure.kind is Kind.BUSY:
      patience = SUSPECT_SECONDS
    elif self.answered or failure.kind is Kind.DOWN:
      patience = OUTAGE_SECONDS
    else:
      patience = FIRST_ANSWER_SECONDS
    patience = max(patience, failure.retry_after + TELL_SECONDS)
    if silent > TELL_SECONDS and now - self._told > TELL_SECONDS:
      self._told = now
      log(f"warning: no answer from the teacher for {silent:.0f} s; trying for {patience:.0f} s. The last: {failure}")
    return silent > patience and failures >= MIN_FAILURES


class Trial:
  """The attempts of one request: whether there is another one, and after which pause (for tenacity)."""

  def __init__(self, traffic: Traffic, attempts: int):
    self._traffic = traffic
    self._attempts = attempts
    self._backoff = tenacity.wait_exponential_jitter(traffic.first_pause, MAX_PAUSE_SECONDS, jitter=traffic.first_pause)
    self._failed_at = 0.0  # monotonic time of the first failure
    self._counted = 0
    self._suspect = False
    self.sent = 0.0  # monotonic time of the last attempt
    self.failures = 0

  def over(self, state: tenacity.RetryCallState) -> bool:
    """Whether no attempt is left; what failed is counted."""
    failure, traffic = _failure(state), self._traffic
    self.failures += 1
    self._failed_at = self._failed_at or time.monotonic()
    self._suspect = traffic.answered_at > self._failed_at
    blamed = failure.kind is Kind.BROKEN or (self._suspect and failure.kind is not Kind.BUSY)
    if blamed:
      self._counted += 1
    else:
      traffic.slow_down(self.sent, failure.retry_after)
    return self._counted >= self._attempts or traffic.out_of_patience(
      failure, failures=self.failures, suspect=self._suspect
    )

  def pause(self, state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt, beside the pause of all."""
    failure = _failure(state)
    own = self._backoff(state) if self._counted else 0.0
    return max(own, min(failure.retry_after, MAX_RETRY_AFTER_SECONDS))

  def verdict(self, failure: Failure, *, request_id: str, where: str) -> UserError:
    """What the last failure means: this request has no answer, or no request has."""
    if self._counted >= self._attempts or (self._suspect and failure.kind is Kind.BUSY):
      return RequestRejected(f"request {request_id} got no answer in {self.failures} attempts ({failure})", where=where)
    return UserError(
      f"the endpoint failed and no request got through any more ({failure})",
      where=where,
      remedy="see that it is up and that address, model and limits are right, then run the same command again",
    )


def _failure(state: tenacity.RetryCallState) -> Failure:
  assert state.outcome is not None
  failure = state.outcome.exception()
  assert isinstance(failure, Failure)
  return failure
