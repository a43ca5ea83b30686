"""How much an endpoint is asked at once and a second, when it is asked again, and who is to blame for a failure.

One failure in a few says nothing of the endpoint; where many attempts fail, what it is asked adapts to what it bears.
Where it limits the rate (429), that is the pace, as in TCP CUBIC: that of what it let through so far, a little less,
and slowly more. Where it is broken or down, it is the number of requests under way: half of them, with a pause for all
that doubles and is jittered. Both wait as long as the endpoint asks for; neither is taken for the other.

A failure costs the request one of its attempts only where it may be to blame: the endpoint is broken for it, or others
have got through since it first failed. Where many fail at first, more failures are needed to tell one from bad luck. A
request is given up only if others do get through; where none does, a small question is asked to tell
(`Trial.unproven`). Where nothing gets through at all, patience ends at last.
"""

import asyncio
import collections
import enum
import math
import random
import time

import tenacity

from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation.types import RequestRejected

FIRST_LIMIT = 64  # requests under way at the beginning
MAX_PAUSE_SECONDS = 20.0  # of our own choice
MAX_FIRST_PAUSE_SECONDS = 8.0  # ... before the first answer, and of a request that fails alone
MAX_RETRY_AFTER_SECONDS = 600.0  # that are waited where the endpoint asks for it
OUTAGE_SECONDS = 600.0  # without any answer, after which a run ends: an endpoint that restarts takes minutes
REFUSED_SECONDS = 50.0  # ... where it refuses them all
FIRST_ANSWER_SECONDS = 40.0  # ... where none ever came and the endpoint does not say that it is down: a wrong address
SUSPECT_SECONDS = 120.0  # without any answer, after which a request that alone is told to wait is given up
MIN_FAILURES = 4  # of one request, before patience may end
TELL_SECONDS = 30.0  # between lines about an outage
BAD_LUCK = 1e-8  # chance that a request which is not to blame is given up
MOST_ATTEMPTS = 4  # times the usual ones, however many fail
FIRST_MEMORY, FIRST_DOUBT = 512, 64  # first attempts whose failures are counted; and good ones that are taken as seen
FIRST_EXCUSED = 2  # of the failures, that say nothing of the endpoint
MEMORY = 64  # attempts among which those are counted that fail
TOO_BUSY, TOO_BROKEN = 0.2, 0.4  # share of them that is told to wait, or fails otherwise, that is too much
MIN_MEMORY = 5  # of them, of which nothing can be said yet
EASED = 0.85  # of the pace that was borne, right after it was too much
LEAST_CUT = 0.5  # of the pace at which it was too much: what is measured in a moment may be far too little
PACE_SECONDS = 2.0  # over which the pace of what is let through is measured
PLATEAU_SECONDS = 2.0  # until that pace is reached again; it is held as long again ...
DOUBLING_SECONDS = 4.0  # ... and doubles this much later
GROWTH = 1 / 16  # of the requests under way, at least, that are added in the time of one answer
FIRST_CUTS, FIRST_HASTE = 3, 4.0  # the first paces are guesses: they grow so many times as fast
OUTAGE_PAUSES = 3  # in a row, after which it was no limit of the rate that let nothing through
TICK_SECONDS = 0.05  # of pace that may be made up for at once: timers are late


class Kind(enum.Enum):
  """What an attempt failed with."""

  BUSY = enum.auto()  # the endpoint limits the rate
  DOWN = enum.auto()  # it says that it is down, or that what is behind it is
  LOST = enum.auto()  # no connection, or no answer in time
  REFUSED = enum.auto()  # it says that key, money, address or model are wrong, which were right before
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

  @property
  def wait(self) -> float:
    """Seconds to wait; none where it is asked for so many that it is no use."""
    return self.retry_after if self.retry_after <= MAX_RETRY_AFTER_SECONDS else 0.0


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
    self._pace = self._pace_before = 0.0  # requests a second that were borne when it was too much; 0 before
    self._cuts = 0
    self._under_way = 0
    self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
    self._resume_at = self._reduced_at = self._paced_at = self._next_at = 0.0
    self._pauses = 0  # in a row, without an answer
    self._answers = 0  # since it was too much
    self._entered = 0.0  # attempts since then, the older ones counting less and less
    self._failed = {True: 0.0, False: 0.0}  # of them, that were told to wait, or failed otherwise
    self._measured = 0.0  # attempts a second that were not told to wait, at `_measured_to`
    self._measured_from = self._measured_to = 0.0
    self._first, self._first_failed = 0.0, 0.0  # first attempts of late, and those of them that failed
    self._began = self._told = 0.0
    self._timer: asyncio.TimerHandle | None = None

  @property
  def answered(self) -> bool:
    return self.answered_at > 0

  @property
  def pace(self) -> float:
    """Requests a second that may go out now."""
    if not self._pace:
      return math.inf
    haste = FIRST_HASTE if self._cuts <= FIRST_CUTS else 1.0
    since = (time.monotonic() - self._paced_at) * haste
    rising = min(1.0, EASED + (1 - EASED) * max(0.0, since) / PLATEAU_SECONDS)
    return self._pace * (rising + (max(0.0, since - 2 * PLATEAU_SECONDS) / DOUBLING_SECONDS) ** 2)

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
    while self._waiting and self._under_way < max(1, int(self.limit)):
      now = time.monotonic()
      start = max(self._resume_at, self._next_at)
      if start > now:
        if self._timer is None:
          self._timer = asyncio.get_running_loop().call_later(start - now, self._resume)
        return
      turn = self._waiting.popleft()
      if not turn.done():
        self._next_at = max(now - TICK_SECONDS, self._next_at) + 1 / self.pace
        self._under_way += 1
        self._entered += 1
        if self._entered > MEMORY:
          self._entered /= 2
          self._failed = {busy: count / 2 for busy, count in self._failed.items()}
        turn.set_result(None)

  def _resume(self) -> None:
    self._timer = None
    self._let_in()

  def succeeded(self) -> None:
    """A request got its answer."""
    now = time.monotonic()
    if self._pauses or not self.answered:  # of the time before, when nothing got through, there is no pace
      self._measured, self._measured_from = 0.0, now
    if self._pauses >= OUTAGE_PAUSES and self._pace_before:
      self._pace, self._pace_before = max(self._pace, EASED * self._pace_before), 0.0
    self._let_through(now)
    self.answered_at = now
    self._answers += 1
    self._pauses = 0
    step = 1.0 if self.limit < self._threshold else max(GROWTH, 1.0 / self.limit)
    self.limit = min(self._max_limit, self.limit + step)

  def failed(self, sent: float, failure: Failure) -> None:
    """An attempt failed: less from now on, if it is one of many. What was sent before the last such time is no news.

    Args:
      sent: monotonic time at which the attempt went out.
    """
    busy = failure.kind is Kind.BUSY
    if not busy:
      self._let_through(time.monotonic())
    if sent < self._reduced_at:
      return
    self._failed[busy] += 1
    few = self._failed[busy] < (TOO_BUSY if busy else TOO_BROKEN) * max(MIN_MEMORY / TOO_BUSY, self._entered)
    if self.answered and few:
      return
    now = time.monotonic()
    if busy and self._answers:
      so_far = 1 - math.exp(-max(now - self._measured_from, PACE_SECONDS / 4) / PACE_SECONDS)
      self._cuts += 1
      self._pace_before = self.pace if self._pace else 0.0
      least = self._pace_before * LEAST_CUT
      self._pace, self._paced_at = max(least, self._measured_at(now) / so_far), now
    if not self._answers:
      longest = MAX_PAUSE_SECONDS if self.answered else MAX_FIRST_PAUSE_SECONDS
      self._resume_at = now + min(longest, self.first_pause * 2**self._pauses) * random.uniform(1.0, 1.5)
      self._pauses += 1
    if not busy:
      self._threshold = max(1.0, self.limit / 2) if self._answers else self._threshold
      self.limit = max(1.0, self.limit / 2)
    self._resume_at = max(self._resume_at, now + failure.wait)
    self._reduced_at = now
    self._answers = 0
    self._entered = 0.0
    self._failed = dict.fromkeys(self._failed, 0.0)

  def tried_first(self, *, failed: bool) -> None:
    """A request's first attempt ended; it was not told to wait."""
    if self._first >= FIRST_MEMORY:
      self._first, self._first_failed = self._first / 2, self._first_failed / 2
    self._first += 1
    self._first_failed += failed

  def attempts_to_tell(self, attempts: int) -> int:
    """How often a request must fail to be told from one that had bad luck: `attempts`, or more where many fail."""
    share = max(0.0, self._first_failed - FIRST_EXCUSED) / (self._first + FIRST_DOUBT)
    needed = math.ceil(math.log(BAD_LUCK) / math.log(share)) if share else 1
    return max(attempts, min(needed, MOST_ATTEMPTS * attempts))

  def _let_through(self, now: float) -> None:
    """An attempt was not told to wait."""
    self._measured = self._measured_at(now) + 1 / PACE_SECONDS
    self._measured_to = now

  def _measured_at(self, now: float) -> float:
    return self._measured * math.exp((self._measured_to - now) / PACE_SECONDS)

  def out_of_patience(self, failure: Failure, *, failures: int, suspect: bool) -> bool:
    """Whether so long nothing has got through that it is no use to wait; tells now and then of the wait.

    Args:
      failures: of the request, by now. The first ones say little where answers take minutes.
      suspect: whether others got through after this request had failed.
    """
    now = time.monotonic()
    silent = now - (self.answered_at or self._began)
    if failure.retry_after > MAX_RETRY_AFTER_SECONDS:
      patience = FIRST_ANSWER_SECONDS
    elif failure.kind is Kind.REFUSED:
      patience = REFUSED_SECONDS
    elif suspect and failure.kind is Kind.BUSY:
      patience = SUSPECT_SECONDS
    elif self.answered or failure.kind is Kind.DOWN:
      patience = OUTAGE_SECONDS
    else:
      patience = FIRST_ANSWER_SECONDS
    patience = max(patience, failure.wait + TELL_SECONDS)
    if silent > TELL_SECONDS and now - self._told > TELL_SECONDS:
      self._told = now
      log(f"warning: no answer from the teacher for {silent:.0f} s; trying for {patience:.0f} s. The last: {failure}")
    return silent > patience and failures >= MIN_FAILURES


class Trial:
  """The attempts of one request: whether there is another one, and after which pause (for tenacity)."""

  def __init__(self, traffic: Traffic, attempts: int):
    self._traffic = traffic
    self._attempts = attempts
    self._backoff = tenacity.wait_exponential_jitter(
      traffic.first_pause, MAX_FIRST_PAUSE_SECONDS, jitter=traffic.first_pause
    )
    self._first_at = self._last_at = 0.0  # monotonic time of the first and the last failure
    self._broken = 0  # failures at which it was not told to wait
    self._counted = 0  # ... of them those that are blamed on it
    self.sent = 0.0  # monotonic time of the last attempt
    self.failures = 0

  @property
  def unproven(self) -> bool:
    """Whether only an answer to another question can tell who is to blame: it worked before, and nothing came since."""
    return self._broken >= self._attempts and 0 < self._traffic.answered_at <= self._last_at

  @property
  def _spent(self) -> bool:
    return self._counted >= self._traffic.attempts_to_tell(self._attempts)

  @property
  def _suspect(self) -> bool:
    """Whether others got through since it first failed."""
    return self._traffic.answered_at > self._first_at > 0

  def over(self, state: tenacity.RetryCallState) -> bool:
    """Whether no attempt is left; what failed is counted if others got through since the last time."""
    failure, traffic = _failure(state), self._traffic
    first = not self.failures
    if first and failure.kind is not Kind.BUSY:
      traffic.tried_first(failed=True)
    others = not first and traffic.answered_at > self._last_at
    broken = failure.kind is Kind.BROKEN and (first or not traffic.answered)
    self.failures += 1
    self._broken += failure.kind is not Kind.BUSY
    self._counted += broken or (others and failure.kind is not Kind.BUSY)
    self._last_at = time.monotonic()
    self._first_at = self._first_at or self._last_at
    traffic.failed(self.sent, failure)
    if self._spent:
      return True
    return traffic.out_of_patience(failure, failures=self.failures, suspect=self._suspect)

  def pause(self, state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt, beside the pause of all."""
    failure = _failure(state)
    return failure.wait if failure.kind is Kind.BUSY else max(self._backoff(state), failure.wait)

  def verdict(self, failure: Failure, *, request_id: str, where: str) -> UserError:
    """What the last failure means: this request has no answer, or no request has."""
    if self._spent or (self._suspect and failure.kind is Kind.BUSY):
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
