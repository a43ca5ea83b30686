"""What is asked (`Request`), what comes back (`Response`), and who answers (`Generator`).

Example::

  async for response in generator.generate(Request(id=p.id, prompt=p.question, sampling=Sampling()) for p in problems):
    print(response.id, response.text)
"""

import asyncio
import dataclasses
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Protocol

from skymath_jax.errors import UserError


class RequestRejected(UserError):
  """One request is at fault (too long, a setting out of range): asking again is no use, other requests are fine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """How tokens are chosen.

  Args:
    temperature: 0 takes the likeliest token.
    top_p: least probability mass of the likeliest tokens that are kept; 1 keeps all.
    top_k: number of likeliest tokens that are kept; 0 keeps all. It acts before `top_p`.
    max_tokens: most tokens of a response; less where the model's context ends earlier.
    stop: texts that end a response; they are cut off.
    seed: with the same prompt, model and settings it gives the same response.

  Raises:
    RequestRejected: a value is out of range.
  """

  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  max_tokens: int = 512
  stop: tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self) -> None:
    object.__setattr__(self, "stop", tuple(self.stop))
    wanted = {
      "temperature": (math.isfinite(self.temperature) and 0 <= self.temperature <= 100, "between 0 and 100"),
      "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
      "top_k": (0 <= self.top_k < 2**31, "0 (off) or more"),
      "max_tokens": (1 <= self.max_tokens < 2**31, "1 or more"),
      "stop": (all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
      "seed": (0 <= self.seed < 2**63, "between 0 and 2^63 - 1"),
    }
    for name, (good, range_) in wanted.items():
      if not good:
        raise RequestRejected(f"{getattr(self, name)!r} is out of range", where=name, remedy=f"it must be {range_}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """One prompt; `id` comes back with the response, and must be its alone among the requests of one `generate`."""

  id: str
  prompt: str
  sampling: Sampling = Sampling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Response:
  """The text after the prompt.

  Attributes:
    finish_reason: `stop` (the model ended it), `length` (it ran out of tokens), or what else it was cut off for.
    thought: what a reasoning model thought before, where the server or its marks set that apart.
    counted: whether the tokens are counted; else they are estimated, at least in part.
  """

  id: str
  text: str
  finish_reason: str
  prompt_tokens: int
  completion_tokens: int
  thought: str = ""
  counted: bool = True


@dataclasses.dataclass(kw_only=True)
class Stats:
  """What a client has done so far. `completed` counts responses received, as a server counts those it finished.

  `cost` is money, where the client was told prices.
  """

  sent: int = 0
  completed: int = 0
  retried: int = 0
  failed: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0
  cost: float = 0.0

  def count(self, response: Response) -> None:
    """Adds one finished response."""
    self.completed += 1
    self.prompt_tokens += response.prompt_tokens
    self.completion_tokens += response.completion_tokens


class Generator(Protocol):
  """A model that completes prompts. `model_id` is its name, `@`, and the hash of its weights where they are known."""

  model_id: str

  async def complete(self, request: Request) -> Response:
    """The response to one request; waits its turn and retries what may pass.

    Raises:
      RequestRejected: this request can never be answered.
      UserError: the model cannot be reached.
    """
    ...

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come, in any order; requests are drawn no faster than they are worked on.

    Raises:
      UserError: what `complete` raises, or two requests with one id.
    """
    ...

  async def close(self) -> None:
    """Gives back connections and threads."""
    ...


async def as_completed(
  complete: Callable[[Request], Awaitable[Response]], requests: Iterable[Request], *, window: int
) -> AsyncIterator[Response]:
  """Runs `complete` on up to `window` requests at once; the first error ends it and cancels the rest.

  Raises:
    UserError: two requests have one id, so that nobody could tell their responses apart.
  """
  waiting = unique_ids(requests)
  running: set[asyncio.Future[Response]] = set()
  done: asyncio.Queue[asyncio.Future[Response]] = asyncio.Queue()  # asyncio.wait would touch every task each time

  def start_more() -> None:
    for request in itertools.islice(waiting, window - len(running)):
      task = asyncio.ensure_future(complete(request))
      running.add(task)
      task.add_done_callback(done.put_nowait)

  try:
    start_more()
    while running:
      task = await done.get()
      running.discard(task)
      response = task.result()
      start_more()
      yield response
  finally:
    for task in running:
      task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def unique_ids(requests: Iterable[Request]) -> Iterator[Request]:
  """The requests, as long as each has an id of its own.

  Raises:
    UserError: one has not.
  """
  seen: set[str] = set()
  for request in requests:
    if request.id in seen:
      raise UserError(
        f"two requests have the id {request.id!r}", where="requests", remedy="give each its own: responses come by id"
      )
    seen.add(request.id)
    yield request


def cut_at_stop(text: str, stop: Iterable[str]) -> tuple[str, bool]:
  """`text` up to the first of the stop texts in it, and whether there was one."""
  ends = [end for end in map(text.find, stop) if end >= 0]
  return (text[: min(ends)], True) if ends else (text, False)
