"""The server process: engine, driver, gRPC and HTTP, from warm-up to a clean stop."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

import grpc
from aiohttp import web

from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder
from skymath_jax.serving import compat
from skymath_jax.serving import http as http_front
from skymath_jax.serving.driver import Driver
from skymath_jax.serving.engine import DecoderEngine
from skymath_jax.serving.loop import Counters
from skymath_jax.serving.service import Frontend, Orchestrator
from skymath_jax.tokenizer import Tokenizer

server_lib = compat.load("core.server_lib")
jetstream_pb2_grpc = compat.load("core.proto.jetstream_pb2_grpc")
GRPC_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 1 << 16))  # a port in use must not be shared
PARENT_GRACE = 20.0  # seconds to stop once the parent is gone


class Server(server_lib.JetStreamServer):
  """gRPC and HTTP in one event loop beside the driver's threads.

  The stock constructor is not called: it hard-codes the stock orchestrator and listens on all interfaces.
  """

  def __init__(self, driver: Driver, frontend: Frontend, *, host: str, port: int, http_port: int):
    self._driver, self._stopped = driver, False
    self._loop = asyncio.new_event_loop()
    self._loop_thread = threading.Thread(target=self._loop.run_forever, name="event-loop")
    self._loop_thread.start()
    try:
      self.port, self.http_port = self._call(self._listen(frontend, host, port, http_port))
    except BaseException:
      self.stop()
      raise

  async def _listen(self, frontend: Frontend, host: str, port: int, http_port: int) -> tuple[int, int]:
    self._grpc_server, self._http = grpc.aio.server(options=GRPC_OPTIONS), None
    jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Orchestrator(frontend), self._grpc_server)
    try:
      bound = self._grpc_server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
      bound = 0
    if not bound:
      raise _in_use(host, port, "port")
    runner = web.AppRunner(http_front.app(frontend), access_log=None)
    await runner.setup()
    self._http = runner
    try:
      await web.TCPSite(runner, host, http_port).start()
    except OSError:
      raise _in_use(host, http_port, "http_port") from None
    return bound, runner.addresses[0][1]

  def _call(self, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

  async def _async_stop(self) -> None:
    await self._grpc_server.stop(grace=1.0)
    if self._http is not None:
      await self._http.cleanup()

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


def _in_use(host: str, port: int, flag: str) -> UserError:
  return UserError(
    f"cannot listen on {host}:{port}",
    where=flag,
    remedy=f"another program uses it, or the host is not of this machine: choose another {flag}, or 0",
  )


def check_free(host: str, port: int, flag: str) -> None:
  """Fails early, before minutes of compilation, where a port cannot be had.

  Raises:
    UserError: the port is in use or not allowed.
  """
  with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind((host.strip("[]"), port))
    except OSError:
      raise _in_use(host, port, flag) from None


def start(
  decoder: Decoder,
  tokenizer: Tokenizer,
  model_id: str,
  *,
  host: str = "127.0.0.1",
  port: int = 9000,
  http_port: int = 0,
  slots: int = 64,
  max_length: int = 2048,
  steps_per_call: int = 8,
  queue_size: int = 4096,
) -> Server:
  """A running, warmed-up server; the caller stops it. One at a time in a process.

  Raises:
    UserError: a port is in use.
  """
  check_free(host, port, "port")
  check_free(host, http_port, "http_port")
  engine = DecoderEngine(decoder, tokenizer, slots=slots, max_length=max_length, steps_per_call=steps_per_call)
  engine.warm_up()
  driver = Driver(engine, queue_size=queue_size, counters=Counters())
  frontend = Frontend(
    driver, tokenizer, model_id=model_id, max_length=engine.core.max_length, vocab_size=decoder.config.vocab_size
  )
  server = Server(driver, frontend, host=host, port=port, http_port=http_port)
  server.start()
  return server


def serve(
  decoder: Decoder, tokenizer: Tokenizer, model_id: str, *, exit_with_parent: bool = False, **settings: Any
) -> None:
  """Serves until SIGTERM, SIGINT or, with `exit_with_parent`, the end of standard input.

  Prints the one line `ready` on standard output when healthy, and where it listens on standard error.

  Args:
    decoder: the model.
    tokenizer: its tokenizer.
    model_id: name and weights hash, which `/v1/models` shows.
    exit_with_parent: stop when standard input closes, so that a killed parent leaves no server behind.
    **settings: `host`, `port`, `http_port`, `slots`, `max_length`, `steps_per_call`, `queue_size`; see `start`.

  Raises:
    UserError: a port is in use.
  """
  stopping, ready = threading.Event(), threading.Event()
  if exit_with_parent:
    threading.Thread(target=_watch_parent, args=(stopping, ready), daemon=True).start()
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.set() if ready.is_set() else os._exit(130))
  server = start(decoder, tokenizer, model_id, **settings)
  host = settings["host"] if "host" in settings else "127.0.0.1"
  log(f"serving {model_id}: gRPC {host}:{server.port}, HTTP http://{host}:{server.http_port}")
  ready.set()
  with contextlib.suppress(BrokenPipeError):
    print("ready", flush=True)
  try:
    stopping.wait()
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
