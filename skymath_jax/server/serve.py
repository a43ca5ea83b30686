"""The server process: engine, driver, gRPC and HTTP, from warm-up to a clean stop."""

import asyncio
import contextlib
import dataclasses
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from aiohttp import web

from skymath_jax import chat, models
from skymath_jax.console import log
from skymath_jax.engine import plan
from skymath_jax.engine.batching import SlotsLike
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings
from skymath_jax.engine.warm_up import warm_up
from skymath_jax.errors import UserError
from skymath_jax.generation.jetstream import TOKEN_VARIABLE
from skymath_jax.models import Decoder
from skymath_jax.server import compat, incoming
from skymath_jax.server import http as http_front
from skymath_jax.server.driver import MAX_TOKEN_LENGTH, Driver, EngineLike
from skymath_jax.server.grpc import Orchestrator
from skymath_jax.server.settings import ServerSettings, in_use, is_loopback, joined, made_token
from skymath_jax.tokenizer import Tokenizer

jetstream_pb2_grpc = compat.load("core.proto.jetstream_pb2_grpc")
GRPC_OPTIONS = (
  ("grpc.so_reuseport", 0),  # a port in use must not be shared
  ("grpc.max_concurrent_streams", 1 << 16),
  # gRPC itself cancels calls that Python has not taken up, at random beyond 1,000 of them, all beyond 3,000 and after
  # 30 s: with thousands of clients that happens at once. How many may wait is for `queue_size` to say.
  ("grpc.server.max_pending_requests", 1 << 16),
  ("grpc.server.max_pending_requests_hard_limit", 1 << 17),
  ("grpc.server_max_unrequested_time_in_server", 3600),
  ("grpc.server_handshake_timeout_ms", int(1000 * incoming.HANDSHAKE_SECONDS)),
  ("grpc.max_connection_idle_ms", 300_000),  # no call under way
)
SWITCH_INTERVAL = 0.001  # seconds that one thread may keep others waiting while a server runs; Python's is 5 ms
GRACE = 3.0  # seconds at most, for calls to send their last message
LONG_COLLECTION = 0.08  # CPU-seconds of one pass of the garbage collector, in which nothing is answered
PARENT_GRACE = 20.0  # seconds to stop once the parent is gone


class Server:
  """gRPC and HTTP in one event loop beside the driver's threads, as soon as it is made.

  JetStream's own server hard-codes the stock orchestrator and listens on all interfaces. While this one runs, threads
  take turns faster, and the garbage collector is kept short.

  Raises:
    UserError: a port is in use.

  Attributes:
    driver: whose requests are waiting and running.
    event_loop: of gRPC and HTTP, in a thread of its own.
    port, http_port: where it listens.
  """

  def __init__(self, front: http_front.Front, settings: ServerSettings):
    self.driver = front.driver
    self._stopped = False
    self._switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(min(SWITCH_INTERVAL, self._switch_interval))
    self._quiet = contextlib.ExitStack()
    self._quiet.enter_context(_short_collections())
    self._quiet.enter_context(incoming.one_line_of_trouble([settings.token]))
    self.event_loop = asyncio.new_event_loop()
    self._loop_thread = threading.Thread(target=self.event_loop.run_forever, name="event-loop")
    self._loop_thread.start()
    self._http: web.AppRunner | None = None
    self._http_socket: asyncio.Server | None = None
    self._watch: asyncio.Task[None] | None = None
    try:
      self.port, self.http_port = self._call(self._listen(front, settings))
    except BaseException:
      self.stop()
      raise

  async def _listen(self, front: http_front.Front, settings: ServerSettings) -> tuple[int, int]:
    most = incoming.connections_for_each()
    # what cannot fit is refused before it is parsed, which holds the event loop; a character has four bytes, an id five
    fits = 4 * MAX_TOKEN_LENGTH * front.driver.engine.max_length
    largest = min(incoming.MAX_BODY, max(incoming.SMALL_BODY, fits))
    limits = {"grpc.max_allowed_incoming_connections": most, "grpc.max_receive_message_length": largest}
    self._grpc_server = grpc.aio.server(options=(*GRPC_OPTIONS, *limits.items()))
    jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Orchestrator(front.driver, settings), self._grpc_server)
    host, credentials = settings.host, settings.grpc_credentials()
    address = joined(host, settings.port)
    try:
      if credentials is None:
        bound = self._grpc_server.add_insecure_port(address)
      else:
        bound = self._grpc_server.add_secure_port(address, credentials)
    except RuntimeError:
      bound = 0
    if not bound:
      raise in_use(host, settings.port, "port")
    runner = web.AppRunner(http_front.app(front, settings), handler_cancellation=True)
    await runner.setup()
    self._http = runner
    assert runner.server is not None
    connections = incoming.Connections(runner.server, most)
    tls = settings.http_credentials()
    patience = incoming.HANDSHAKE_SECONDS if tls else None
    try:
      self._http_socket = await self.event_loop.create_server(
        connections,
        host.strip("[]"),
        settings.http_port,
        ssl=tls,
        ssl_handshake_timeout=patience,
        backlog=incoming.BACKLOG,
      )
    except OSError:
      raise in_use(host, settings.http_port, "http_port") from None
    self._watch = self.event_loop.create_task(connections.watch())
    await self._grpc_server.start()
    return bound, self._http_socket.sockets[0].getsockname()[1]

  def _call(self, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, self.event_loop).result()

  async def _async_stop(self) -> None:
    await self._grpc_server.stop(grace=GRACE)
    for part in (self._http_socket, self._watch):
      if part is not None:
        part.close() if isinstance(part, asyncio.Server) else part.cancel()
    if self._http is not None:
      await self._http.cleanup()
    ending = asyncio.all_tasks() - {asyncio.current_task()}
    if ending:  # calls that were cut off still have a last line to run
      await asyncio.wait(ending, timeout=GRACE)

  def drain(self, seconds: float, at_once: threading.Event) -> None:
    """Refuses new requests, and waits for those under way until `seconds` have passed or `at_once` is set."""
    end = time.monotonic() + seconds
    while not self.driver.drain(0.1) and time.monotonic() < end and not at_once.is_set():
      pass

  def stop(self) -> None:
    """Driver first (open streams end as UNAVAILABLE), then the event loop that its threads post to."""
    if self._stopped:
      return
    self._stopped = True
    self.driver.stop()
    self._call(self._async_stop())
    self.event_loop.call_soon_threadsafe(self.event_loop.stop)
    self._loop_thread.join()
    self.event_loop.close()
    sys.setswitchinterval(self._switch_interval)
    gc.unfreeze()
    self._quiet.close()


def settings_of(**values: Any) -> tuple[EngineSettings, ServerSettings]:
  """Engine and server, from the fields of both; checked, as far as can be before minutes of compilation.

  Raises:
    UserError: see `EngineSettings` and `ServerSettings.check`.
  """
  names = {field.name for field in dataclasses.fields(ServerSettings)}
  server = ServerSettings(**{name: value for name, value in values.items() if name in names})
  server.check()
  return EngineSettings(**{name: value for name, value in values.items() if name not in names}), server


def start(
  decoder: Decoder, tokenizer: Tokenizer, model_id: str, engine_settings: EngineSettings, settings: ServerSettings
) -> Server:
  """A running, warmed-up server; the caller stops it. One at a time in a process.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    model_id: name and weights hash, which `/v1/models` shows.
    engine_settings: slots, lengths, number formats.
    settings: where to listen, whom to let in.

  Raises:
    UserError: a port is in use, or what was asked for is not safe.
  """
  settings.check()
  engine = Engine(decoder, engine_settings, stop_ids=tokenizer.end_ids)
  warm_up(engine)
  return start_engine(engine, Slots(engine), tokenizer, model_id, settings)


def start_engine(
  engine: EngineLike, slots: SlotsLike, tokenizer: Tokenizer, model_id: str, settings: ServerSettings
) -> Server:
  """`start` for an engine that is there already, or a double of one.

  Raises:
    UserError: a port is in use.
  """
  driver = Driver(engine, slots, tokenizer, queue_size=settings.queue_size)
  try:
    chat_prompt = chat.encoder(tokenizer, settings.chat_frame)
    return Server(http_front.Front(driver=driver, model_id=model_id, chat_prompt=chat_prompt), settings)
  except BaseException:
    driver.stop()  # its threads would keep the process
    raise


def serve(
  decoder: Decoder,
  tokenizer: Tokenizer,
  model_id: str,
  engine_settings: EngineSettings,
  settings: ServerSettings,
  *,
  exit_with_parent: bool = False,
) -> None:
  """Serves until SIGTERM, SIGINT or, with `exit_with_parent`, the end of standard input.

  Prints the one line `ready` on standard output when healthy, and where it listens on standard error. Told to stop, it
  refuses new requests at once and answers those it has; a second signal does not wait for them.

  Args:
    decoder, tokenizer, model_id, engine_settings, settings: see `start`.
    exit_with_parent: stop when standard input closes, so that a killed parent leaves no server behind.

  Raises:
    UserError: see `start`.
  """
  stopping, ready, at_once = threading.Event(), threading.Event(), threading.Event()
  if exit_with_parent:
    threading.Thread(target=_watch_parent, args=(stopping, ready), daemon=True).start()

  def on_signal(*_: object) -> None:
    if not ready.is_set():
      os._exit(130)
    (at_once if stopping.is_set() else stopping).set()

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, on_signal)
  server = start(decoder, tokenizer, model_id, engine_settings, settings)
  scheme = "https" if settings.tls_certificate else "http"
  of_grpc, of_http = (joined(settings.host, port) for port in (server.port, server.http_port))
  log(f"serving {model_id}: gRPC {of_grpc}, HTTP {scheme}://{of_http}")
  ready.set()
  with contextlib.suppress(BrokenPipeError):
    print("ready", flush=True)
  try:
    stopping.wait()
    server.drain(settings.drain_seconds, at_once)
  finally:
    server.stop()


def _watch_parent(stopping: threading.Event, ready: threading.Event) -> None:
  """Waits for the end of standard input; leaves at once where nothing has begun, or where stopping takes too long."""
  with contextlib.suppress(OSError):
    while os.read(sys.stdin.fileno(), 4096):
      pass
  if ready.is_set():
    stopping.set()
    threading.Event().wait(PARENT_GRACE)
  os._exit(0)


@contextlib.contextmanager
def _short_collections() -> Iterator[None]:
  """The garbage collector passes over all that was there before, and over what a long pass has found in use.

  Of JAX it is a sixth of a second at a time, and what is compiled while a server runs as much again within a minute.
  What is passed over is never collected if it lies in a cycle, such as that of a call under way: so it is the work of a
  pass that counts, which grows with what is new, and not how long a busy machine takes for it.
  """
  start = 0.0

  def collected(phase: str, about: dict[str, int]) -> None:
    nonlocal start
    if phase == "start":
      start = time.thread_time()
    elif about["generation"] == 2 and time.thread_time() - start > LONG_COLLECTION:
      gc.freeze()

  gc.freeze()
  gc.callbacks.append(collected)
  try:
    yield
  finally:
    gc.callbacks.remove(collected)


def serve_model(*, model: str, dtype: str, exit_with_parent: bool, **values: Any) -> None:
  """`skymath serve`: serves `model` until it is told to stop.

  Args:
    model: Hugging Face folder, checkpoint folder or asset:NAME.
    dtype: float32, bfloat16, or empty for that of the files.
    exit_with_parent: see `serve`.
    **values: fields of `EngineSettings` and `ServerSettings`; the token comes from the environment, or is made where
      other machines are let in.

  Raises:
    UserError: a setting cannot be, or the model cannot be read.
  """
  if dtype not in (known := ("", "float32", "bfloat16")):
    raise UserError(f"{dtype!r} is not known", where="dtype", remedy=f"use one of: {', '.join(known[1:])}")
  token = os.environ.get(TOKEN_VARIABLE, "").strip()
  if values["allow_remote"] and not (token or values["without_token"] or is_loopback(values["host"])):
    token = made_token()
  engine_settings, settings = settings_of(**values, token=token)
  decoder, tokenizer, engine_settings = plan.load(model, engine_settings, dtype=dtype or None)
  serve(decoder, tokenizer, models.model_id(model), engine_settings, settings, exit_with_parent=exit_with_parent)
