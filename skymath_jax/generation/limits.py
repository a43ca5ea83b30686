"""What a paid endpoint may be asked: so many requests and tokens a minute, and never more than a sum of money.

A request goes out only while its worst case (each byte of the prompt a token, every token it may write) still fits
under the ceiling together with all that is under way; the real cost replaces the worst case when the answer is in. So
the ceiling holds whatever is in flight, and near it requests wait for one another instead of failing. Example::

  meter = Meter(Limits(requests_per_minute=500, prices=(2.5, 10.0), cost_ceiling=40.0))
  ticket = await meter.admit(request)  # waits its turn
  meter.settle(ticket, prompt_tokens=120, completion_tokens=310)
"""

import asyncio
import dataclasses
import math
import time

from skymath_jax.config import Teacher
from skymath_jax.errors import UserError
from skymath_jax.generation.ledger import Ledger
from skymath_jax.generation.types import Request

CHAT_OVERHEAD = 16  # tokens that an endpoint may put around one user message
MILLION = 1_000_000


class CostCeilingReached(UserError):
  """No further request fits under the cost ceiling; what was answered is paid for and kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """Zero means no limit, or no price.

  Args:
    requests_per_minute, tokens_per_minute: of all requests together; tokens are those of prompts and responses.
    prices: money for a million prompt tokens, and for a million response tokens.
    cost_ceiling: most money that may be spent.
  """

  requests_per_minute: float = Teacher.requests_per_minute
  tokens_per_minute: float = Teacher.tokens_per_minute
  prices: tuple[float, float] = Teacher.prices
  cost_ceiling: float = Teacher.cost_ceiling

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not all(math.isfinite(number) and number >= 0 for number in (value if field.name == "prices" else [value])):
        raise UserError(f"{value!r} is out of range", where=f"teacher.{field.name}", remedy="give zero or more")
    if self.cost_ceiling and not any(self.prices):
      raise UserError(
        "a cost ceiling without prices can never be reached",
        where="teacher.cost_ceiling",
        remedy="set teacher.prices, money for a million tokens of prompts and of responses",
      )

  def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
    """Money for so many tokens."""
    each_prompt, each_written = self.prices
    return (prompt_tokens * each_prompt + completion_tokens * each_written) / MILLION


@dataclasses.dataclass(frozen=True, eq=False)  # two alike may be under way at once
class Ticket:
  """The worst case of one attempt."""

  prompt_tokens: int
  completion_tokens: int
  cost: float


class Meter:
  """Lets attempts through and counts what they cost; for one event loop at a time.

  Args:
    limits: what is allowed.
    spent: what earlier runs spent of the same money.
    ledger: keeps what may be charged without an answer.

  Attributes:
    spent: money for all that was answered, and for attempts of which nobody knows whether they will be charged.
    reserved: money that what is under way may cost at most.
  """

  def __init__(self, limits: Limits, *, spent: float = 0.0, ledger: Ledger | None = None):
    self.limits = limits
    self.spent = spent
    self.ledger = ledger
    self._under_way: set[Ticket] = set()
    self._settled = asyncio.Event()
    self._next_request = 0.0  # monotonic time at which the next may start
    self._next_token = 0.0

  @property
  def reserved(self) -> float:
    return sum(ticket.cost for ticket in self._under_way)

  async def admit(self, request: Request) -> Ticket:
    """Waits until the attempt may start.

    Raises:
      CostCeilingReached: even alone it does not fit under the ceiling any more.
    """
    prompt, completion = len(request.prompt.encode()) + CHAT_OVERHEAD, request.sampling.max_tokens
    ticket = Ticket(prompt, completion, self.limits.cost(prompt, completion))
    await self._room_for(ticket)
    self._under_way.add(ticket)
    try:
      await self._pace(prompt + completion)
    except BaseException:
      self._close(ticket)
      raise
    if self.ledger is not None:
      asked, wrote = (sum(getattr(t, name) for t in self._under_way) for name in ("prompt_tokens", "completion_tokens"))
      self.ledger.cover(asked, wrote)
    return ticket

  def settle(self, ticket: Ticket, *, prompt_tokens: int, completion_tokens: int) -> None:
    """The attempt was answered (or refused: no tokens); an answer that does not count its tokens costs the worst."""
    if self.limits.tokens_per_minute:
      unused = ticket.prompt_tokens + ticket.completion_tokens - prompt_tokens - completion_tokens
      self._next_token -= max(0, unused) * 60 / self.limits.tokens_per_minute
    self.spent += self.limits.cost(prompt_tokens, completion_tokens)
    self._close(ticket)

  def forfeit(self, ticket: Ticket) -> None:
    """Nobody knows what became of the attempt (timeout, lost connection): it is taken as paid in full."""
    self.spent += ticket.cost
    self._lose(ticket.prompt_tokens, ticket.completion_tokens)
    self._close(ticket)

  def unkept(self, prompt_tokens: int, completion_tokens: int) -> None:
    """An answer that was paid and counted is not kept anywhere."""
    self._lose(prompt_tokens, completion_tokens)

  def _lose(self, prompt_tokens: int, completion_tokens: int) -> None:
    if self.ledger is not None:
      self.ledger.lose(prompt_tokens, completion_tokens)

  def _close(self, ticket: Ticket) -> None:
    self._under_way.discard(ticket)
    self._settled.set()

  async def _room_for(self, ticket: Ticket) -> None:
    ceiling = self.limits.cost_ceiling
    while ceiling and self.spent + self.reserved + ticket.cost > ceiling:
      if not self._under_way or self.spent + ticket.cost > ceiling:
        raise CostCeilingReached(
          f"{self.spent:.4f} is spent and the next request may cost {ticket.cost:.4f}: over the ceiling of {ceiling:g}",
          where="teacher.cost_ceiling",
          remedy="raise it and run the same command again: every answer so far is kept",
        )
      self._settled.clear()
      await self._settled.wait()

  async def _pace(self, tokens: int) -> None:
    """Paces: each attempt takes its share of the minute; those that are early wait."""
    limits = self.limits
    now = time.monotonic()
    start = max(now, self._next_request, self._next_token)
    if limits.requests_per_minute:
      self._next_request = max(now, self._next_request) + 60 / limits.requests_per_minute
    if limits.tokens_per_minute:
      self._next_token = max(now, self._next_token) + tokens * 60 / limits.tokens_per_minute
    if start > now:
      await asyncio.sleep(start - now)
