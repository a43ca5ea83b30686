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
from typing import Any

import grpc
import jax
from aiohttp import web

from skymath_jax import models, prompts, sharding
from skymath_jax.console import log
from skymath_jax.engine.batching import Counters
from skymath_jax.engine.core import Settings
from skymath_jax.errors import UserError
from skymath_jax.generation.jetstream import TOKEN_VARIABLE
from skymath_jax.models import Decoder
from skymath_jax.server import compat
from skymath_jax.server import http as http_front
from skymath_jax.server.driver import Driver
from skymath_jax.server.grpc import Frontend, Orchestrator
from skymath_jax.server.jetstream import DecoderEngine
from skymath_jax.server.listening import Listening, in_use
from skymath_jax.tokenizer import Tokenizer

server_lib = compat.load("core.server_lib")
jetstream_pb2_grpc = compat.load("core.proto.jetstream_pb2_grpc")
GRPC_OPTIONS = (
  ("grpc.so_reuseport", 0),  # a port in use must not be shared
  ("grpc.max_concurrent_streams", 1 << 16),
  # gRPC itself cancels calls that Python has not taken up, at random beyond 1,000 of them, all beyond 3,000 and after
  # 30 s: with thousands of clients that happens at once. How many may wait is for `queue_size` to say.
  ("grpc.server.max_pending_requests", 1 << 16),
  ("grpc.server.max_pending_requests_hard_limit", 1 << 17),
  ("grpc.server_max_unrequested_time_in_server", 3600),
)
SWITCH_INTERVAL = (
  0.001  # seconds that one thread may keep the others waiting, as long as a server runs; Python's is 5 ms
)
GRACE = 3.0  # seconds at most, for calls to send their last message
PARENT_GRACE = 20.0  # seconds to stop once the parent is gone


class Server(server_lib.JetStreamServer):
  """gRPC and HTTP in one event loop beside the driver's threads.

  The stock constructor is not called: it hard-codes the stock orchestrator and listens on all interfaces. While it
  runs, threads take turns faster, and the garbage collector passes over what was there before: all of JAX, for a sixth
  of a second at a time.
  """

  def __init__(self, driver: Driver, frontend: Frontend, listening: Listening):
    self._driver, self._stopped = driver, False
    self._switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(min(SWITCH_INTERVAL, self._switch_interval))
    gc.freeze()
    self._loop = asyncio.new_event_loop()
    self._loop_thread = threading.Thread(target=self._loop.run_forever, name="event-loop")
    self._loop_thread.start()
    try:
      self.port, self.http_port = self._call(self._listen(frontend, listening))
    except BaseException:
      self.stop()
      raise

  async def _listen(self, frontend: Frontend, listening: Listening) -> tuple[int, int]:
    self._grpc_server, self._http = grpc.aio.server(options=GRPC_OPTIONS), None
    jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Orchestrator(frontend), self._grpc_server)
    host, credentials = listening.host, listening.grpc_credentials()
    address = f"{host}:{listening.port}"
    try:
      if credentials is None:
        bound = self._grpc_server.add_insecure_port(address)
      else:
        bound = self._grpc_server.add_secure_port(address, credentials)
    except RuntimeError:
      bound = 0
    if not bound:
      raise in_use(host, listening.port, "port")
    runner = web.AppRunner(http_front.app(frontend), access_log=None)
    await runner.setup()
    self._http = runner
    try:
      await web.TCPSite(runner, host, listening.http_port, ssl_context=listening.http_credentials()).start()
    except OSError:
      raise in_use(host, listening.http_port, "http_port") from None
    return bound, runner.addresses[0][1]

  def _call(self, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

  async def _async_stop(self) -> None:
    await self._grpc_server.stop(grace=GRACE)
    if self._http is not None:
      await self._http.cleanup()
    ending = asyncio.all_tasks() - {asyncio.current_task()}
    if ending:  # calls that were cut off still have a last line to run
      await asyncio.wait(ending, timeout=GRACE)

  def drain(self, seconds: float, hurry: threading.Event) -> None:
    """Refuses new requests, and waits for those under way until `seconds` have passed or `hurry` is set."""
    end = time.monotonic() + seconds
    while not self._driver.drain(0.1) and time.monotonic() < end and not hurry.is_set():
      pass

  def stop(self) -> None:
    """Driver first (open streams end as UNAVAILABLE), then the event loop that its threads post to."""
    if self._stopped:
      return
    self._stopped = True
    self._driver.stop()
    self._call(self._async_stop())
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._loop_thread.join()
    self._loop.close()
    sys.setswitchinterval(self._switch_interval)
    gc.unfreeze()


def checked(
  *, queue_size: int = 4096, chat_frame: str = "sft/alpaca", drain_seconds: float = 8.0, **settings: Any
) -> tuple[Listening, Settings]:
  """What the settings of `start` and `serve` say, after all that can be found out before minutes of compilation.

  Raises:
    UserError: see `start`.
  """
  for name, value, least in (("queue_size", queue_size, 1), ("drain_seconds", drain_seconds, 0)):
    if not value >= least:
      raise UserError(f"{value} is too small", where=name, remedy=f"give {least} or more")
  prompts.load(chat_frame)
  names = {field.name for field in dataclasses.fields(Listening)}
  listening = Listening(**{name: value for name, value in settings.items() if name in names}).checked()
  return listening, Settings(**{name: value for name, value in settings.items() if name not in names})


def start(
  decoder: Decoder,
  tokenizer: Tokenizer,
  model_id: str,
  *,
  queue_size: int = 4096,
  chat_frame: str = "sft/alpaca",
  **settings: Any,
) -> Server:
  """A running, warmed-up server; the caller stops it. One at a time in a process.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    model_id: name and weights hash, which `/v1/models` shows.
    queue_size: requests that may wait for a slot.
    chat_frame: prompt frame of chat messages, where the tokenizer has no chat template.
    **settings: of `listening.Listening` and `core.Settings`.

  Raises:
    UserError: a port is in use, what was asked for is not safe, or a setting cannot be.
  """
  listening, shape = checked(queue_size=queue_size, chat_frame=chat_frame, **settings)
  engine = DecoderEngine(decoder, tokenizer, **dataclasses.asdict(shape))
  engine.warm_up()
  driver = Driver(engine, queue_size=queue_size, counters=Counters())
  try:
    token = listening.token
    frontend = Frontend(driver, tokenizer, engine.core, model_id=model_id, chat_frame=chat_frame, token=token)
    server = Server(driver, frontend, listening)
  except BaseException:
    driver.stop()  # its threads would keep the process
    raise
  server.start()
  return server


def serve(
  decoder: Decoder,
  tokenizer: Tokenizer,
  model_id: str,
  *,
  exit_with_parent: bool = False,
  drain_seconds: float = 8.0,
  **settings: Any,
) -> None:
  """Serves until SIGTERM, SIGINT or, with `exit_with_parent`, the end of standard input.

  Prints the one line `ready` on standard output when healthy, and where it listens on standard error. Told to stop, it
  refuses new requests at once and answers those it has; a second signal does not wait for them.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    model_id: name and weights hash, which `/v1/models` shows.
    exit_with_parent: stop when standard input closes, so that a killed parent leaves no server behind.
    drain_seconds: how long requests may take to finish after SIGTERM; what is left then ends as UNAVAILABLE.
    **settings: see `start`.

  Raises:
    UserError: see `start`.
  """
  stopping, ready, hurry = threading.Event(), threading.Event(), threading.Event()
  if exit_with_parent:
    threading.Thread(target=_watch_parent, args=(stopping, ready), daemon=True).start()

  def on_signal(*_: Any) -> None:
    if not ready.is_set():
      os._exit(130)
    (hurry if stopping.is_set() else stopping).set()

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, on_signal)
  server = start(decoder, tokenizer, model_id, **settings)
  host = settings["host"] if "host" in settings else "127.0.0.1"
  scheme = "https" if settings.get("tls_certificate") else "http"
  log(f"serving {model_id}: gRPC {host}:{server.port}, HTTP {scheme}://{host}:{server.http_port}")
  ready.set()
  with contextlib.suppress(BrokenPipeError):
    print("ready", flush=True)
  try:
    stopping.wait()
    server.drain(drain_seconds, hurry)
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


def serve_model(*, model: str, dtype: str, **settings: Any) -> None:
  """Serves `model` until it is told to stop; prints one line `ready` when healthy."""
  if dtype not in (known := ("", "float32", "bfloat16")):
    raise UserError(f"{dtype!r} is not known", where="dtype", remedy=f"use one of: {', '.join(known[1:])}")
  settings["token"] = os.environ.get(TOKEN_VARIABLE, "")
  checked(**{name: value for name, value in settings.items() if name != "exit_with_parent"})
  decoder, tokenizer = models.load_any(model, mesh=serving_mesh(model), dtype=dtype or None)
  serve(decoder, tokenizer, models.model_id(model), **settings)


def serving_mesh(model: str) -> jax.sharding.Mesh | None:
  """All devices of this machine, matrices split over them; None where there is one device."""
  if jax.device_count() == 1:
    return None
  config = models.config_of(model)
  sizes = sharding.serving_sizes(
    jax.device_count(), kv_heads=config.kv_heads, heads=config.heads, others=(config.mlp, config.vocab_size)
  )
  return sharding.make_mesh(**sizes)
