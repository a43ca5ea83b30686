"""A job on its way back: from the engine's threads to the event loop in which somebody waits for its tokens."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable

from skymath_jax.engine.batching import Job

WORD_SECONDS = 30.0  # without a token, after which who waits is told that the engine works


@dataclasses.dataclass(kw_only=True, eq=False)
class StreamedJob(Job):
  """A job whose tokens are read in an event loop: token lists, then None or an exception.

  Args:
    work_done: a number that grows while the engine works, for whomever.
  """

  work_done: Callable[[], float]
  loop: asyncio.AbstractEventLoop = dataclasses.field(default_factory=asyncio.get_running_loop)
  messages: asyncio.Queue[list[int] | Exception | None] = dataclasses.field(default_factory=asyncio.Queue)
  stream: bool = False

  def on_tokens(self, tokens: list[int]) -> None:
    if self.stream and tokens:
      self._send(tokens)

  def on_finish(self) -> None:
    self._send(*(() if self.stream else (self.tokens,)), None)

  def on_error(self, error: Exception) -> None:
    self._send(error)

  def _send(self, *messages: list[int] | Exception | None) -> None:
    def put() -> None:
      for message in messages:
        self.messages.put_nowait(message)

    with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens any more
      self.loop.call_soon_threadsafe(put)

  async def chunks(self) -> AsyncIterator[list[int]]:
    """New tokens as they come; leaving early cancels the job.

    None at all (an empty list) say that the engine works, be it for others: whoever waits long, in a queue or for the
    whole of a response, can tell a server that is slow from one that is stuck.

    Raises:
      Exception: what the job met.
    """
    heard_of = self.work_done()
    try:
      while True:
        try:
          async with asyncio.timeout(WORD_SECONDS):
            message = await self.messages.get()
        except TimeoutError:
          before, heard_of = heard_of, self.work_done()
          if heard_of == before:
            continue
          message = []
        if message is None:
          return
        if isinstance(message, Exception):
          raise message
        yield message
    finally:
      self.cancelled = self.cancelled or self.finish_reason is None
