"""What an HTTP server does for those who do not yet ask anything: connections, bodies, and what it says of trouble.

A connection that says nothing, says half a header or half a body, or is kept alive is closed after some time, and
earlier where another one wants its place; one whose request is being answered stays.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import resource
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

from aiohttp import web

from skymath_jax.console import log
from skymath_jax.generation.redact import redacted

MAX_BODY = 4 << 20  # bytes
MAX_BODIES = 256 << 20  # bytes, of all that are being read
MAX_VALUES, MAX_OBJECTS = 400_000, 60_000  # of JSON, which take a twentieth of a second
SMALL_BODY = 1 << 16  # bytes: read in less time than it takes to ask another thread
BODY_SECONDS = 30.0  # in which a body must have come
IDLE_SECONDS = 20.0  # in which a request must have begun and its header have ended
HANDSHAKE_SECONDS = 10.0  # of TLS, and of HTTP/2
WRITE_SECONDS = 60.0  # in which a reader must make room for more
MAX_CONNECTIONS = 16_384
BACKLOG = 64  # connections that wait to be accepted
REPEAT_SECONDS = 60.0  # between two lines about the same kind of trouble
LOGGERS = ("asyncio", "aiohttp", "grpc", "skymath_jax.server", "skymath_jax.engine")
UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Connection(web.RequestHandler):
  """One HTTP connection: since when it is idle (None while it has a request), and since when it sends a body."""

  __slots__ = ("__weakref__", "idle_since", "sends_since")

  idle_since: float | None
  sends_since: float | None

  def connection_made(self, transport: asyncio.BaseTransport) -> None:
    self.idle_since = time.monotonic()
    self.sends_since = None
    super().connection_made(transport)

  async def start(self) -> None:
    if self.transport is not None:  # else it was lost before this task had its turn, which aiohttp takes for a fault
      await super().start()


class _Refusal(asyncio.Protocol):
  def connection_made(self, transport: asyncio.BaseTransport) -> None:
    assert isinstance(transport, asyncio.Transport)
    transport.write(BUSY)
    transport.close()


@web.middleware
async def counted_as_busy(request: web.Request, handler: Handler) -> web.StreamResponse:
  """Keeps the connection from being closed as idle while its request is answered."""
  connection = request.protocol
  assert isinstance(connection, _Connection)
  connection.idle_since = None
  try:
    return await handler(request)
  finally:
    connection.idle_since = time.monotonic()


@contextlib.contextmanager
def _sending(request: web.Request) -> Iterator[None]:
  """While the block runs, the connection may have to give up its place: it has not asked for anything yet."""
  connection = request.protocol
  assert isinstance(connection, _Connection)
  connection.sends_since = time.monotonic()
  try:
    yield
  finally:
    connection.sends_since = None


class Connections:
  """Makes the protocol of each new connection (it is what `create_server` wants) and ends the idle ones.

  Args:
    server: whose they are.
    most: at once; one more takes the place of the one that has been idle or sending longest, or is refused.
  """

  def __init__(self, server: web.Server, most: int):
    self._server = server
    self._most = most
    self._made: weakref.WeakSet[_Connection] = weakref.WeakSet()  # also those that still shake hands

  def __call__(self) -> asyncio.Protocol:
    if len(self._made) >= self._most and not self._end_longest_idle():
      logging.getLogger(__name__).warning("more than %d connections: new ones are refused", self._most)
      return _Refusal()
    made = _Connection(self._server, loop=asyncio.get_running_loop(), auto_decompress=False, lingering_time=2.0)
    self._made.add(made)
    return made

  def _end_longest_idle(self) -> bool:
    there = [c for c in self._server.connections if isinstance(c, _Connection) and c.transport]
    idle = [(c.idle_since or c.sends_since, c) for c in there]
    waiting = [(since, c) for since, c in idle if since is not None]
    if waiting:
      longest = min(waiting, key=lambda pair: pair[0])[1]
      longest.force_close()
      self._made.discard(longest)
    return bool(waiting)

  async def watch(self) -> None:
    """Ends, once a second, those that have been idle for too long; runs until it is cancelled."""
    while True:
      await asyncio.sleep(1.0)
      limit = time.monotonic() - IDLE_SECONDS
      for connection in self._server.connections:
        if isinstance(connection, _Connection) and (connection.idle_since or limit) < limit:
          connection.force_close()


def connections_for_each() -> int:
  """How many connections each of the two ports may have: half of the files that may still be opened.

  As many files may be opened as the system allows this process.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = hard
  try:
    used = len(os.listdir("/proc/self/fd"))
  except OSError:
    used = 64
  left = (MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft) - used
  return max(4, min(MAX_CONNECTIONS, (left - min(BACKLOG, left // 4)) // 2))


class Bodies:
  """Reads JSON bodies: in UTF-8, of bounded size, in bounded time, large ones in a thread of their own.

  Args:
    off_the_loop: runs a function in a thread.
  """

  def __init__(self, off_the_loop: Callable[..., Awaitable[Any]]):
    self._off_the_loop = off_the_loop
    self._held = 0

  async def read(self, request: web.Request) -> Any:
    """The body's JSON value.

    Raises:
      ValueError: it is no JSON.
      RecursionError: it is nested without end.
      TimeoutError: it took too long.
      web.HTTPException: too large, or in a charset or an encoding that is not taken.
    """
    packed = request.headers.get("Content-Encoding", "identity") != "identity"
    if packed or (request.charset or "utf-8").lower() not in UTF_8:
      raise web.HTTPUnsupportedMediaType(reason="the body must be UTF-8, not compressed")
    if (announced := request.content_length or 0) > MAX_BODY:
      raise web.HTTPRequestEntityTooLarge(MAX_BODY, announced)
    data = bytearray()
    try:
      async with asyncio.timeout(BODY_SECONDS):
        with _sending(request):
          async for chunk in request.content.iter_any():
            data += chunk
            self._held += len(chunk)
            self._require_room(len(data))
      if data.count(b",") > MAX_VALUES or data.count(b"{") > MAX_OBJECTS:
        what = f"more than {MAX_VALUES:,} values or {MAX_OBJECTS:,} objects"
        raise web.HTTPRequestEntityTooLarge(MAX_VALUES, reason=what)
      text = data.decode()
      return json.loads(text) if len(data) <= SMALL_BODY else await self._off_the_loop(json.loads, text)
    finally:
      self._held -= len(data)

  def _require_room(self, size: int) -> None:
    if size > MAX_BODY:
      raise web.HTTPRequestEntityTooLarge(MAX_BODY, size)
    if size > SMALL_BODY and self._held > MAX_BODIES:
      raise web.HTTPServiceUnavailable(reason="too many large requests at once", headers={"Retry-After": "1"})


class OneLine(logging.Handler):
  """Prints a line for each kind of trouble, and no more of the same kind for a minute; `secrets` in none."""

  def __init__(self, secrets: Sequence[str] = ()) -> None:
    super().__init__(logging.WARNING)
    self._secrets = secrets
    self._said: dict[str, float] = {}
    self._left_out: dict[str, int] = {}

  def emit(self, record: logging.LogRecord) -> None:
    """Prints the record, or counts it."""
    raised = record.exc_info[1] if record.exc_info else None
    kind = f"{record.name} {re.sub(r'[0-9]+', '', str(record.msg)[:60])} {type(raised).__name__}"
    if time.monotonic() - self._said.get(kind, -REPEAT_SECONDS) < REPEAT_SECONDS:
      self._left_out[kind] = self._left_out.get(kind, 0) + 1
      return
    if len(self._said) > 1000:  # not one that a caller could make endless
      self._said.clear()
    self._said[kind] = time.monotonic()
    more = self._left_out.pop(kind, 0)
    why = f" ({type(raised).__name__}: {self._shown(str(raised))[:200]}{_where(raised)})" if raised else ""
    lines = self._shown(record.getMessage()).splitlines() or [""]
    log(f"{record.name}: {lines[0][:300]}{why}" + (f" — {more:,} more like this before" if more else ""))

  def _shown(self, text: str) -> str:
    return redacted(text, self._secrets)


def _where(error: BaseException) -> str:
  trace = error.__traceback__
  while trace is not None and trace.tb_next is not None:
    trace = trace.tb_next
  return f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""


@contextlib.contextmanager
def one_line_of_trouble(secrets: Sequence[str] = ()) -> Iterator[None]:
  """While the block runs, what servers log is short and rare enough for a disk, and holds no secret."""
  handler, before = OneLine(secrets), {}
  for name in LOGGERS:
    logger = logging.getLogger(name)
    before[logger] = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
  try:
    yield
  finally:
    for logger, propagate in before.items():
      logger.removeHandler(handler)
      logger.propagate = propagate
