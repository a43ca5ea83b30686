"""Client of one or more JetStream servers (`skymath serve`) over gRPC, with token ids on the wire.

Sampling parameters travel as call metadata, which `server/grpc.py` reads. Only what is RETRYABLE is asked again: of
another replica at once, else after a pause that doubles and is jittered. Each request has one outcome: what a replica
had sent of an answer before it died is thrown away.
"""

import asyncio
import functools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import grpc

# these two modules import nothing but grpc and protobuf
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.config import Teacher
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation.redact import redacted
from skymath_jax.generation.types import Request, RequestRejected, Response, Sampling, Stats, as_completed, cut_at_stop

RETRYABLE = {
  grpc.StatusCode.UNAVAILABLE,
  grpc.StatusCode.RESOURCE_EXHAUSTED,
  grpc.StatusCode.DEADLINE_EXCEEDED,
  grpc.StatusCode.CANCELLED,  # by the server, which was stopped; our own cancellation is no RPC error
}
TOKEN_VARIABLE = "SKYMATH_TOKEN"  # environment variable of the bearer token, of servers and of their clients
MAX_PAUSE_SECONDS = 10.0
FIRST_COOLDOWN_SECONDS = 0.5  # that a replica is left alone after its first failure
HEALTH_CHECK_SECONDS = 15.0  # between health checks of replicas, and that one may take
MAX_MESSAGE_BYTES = 64 << 20
CHANNEL_OPTIONS = (
  ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
  ("grpc.max_reconnect_backoff_ms", 2000),
  ("grpc.use_local_subchannel_pool", 1),  # a server restarted on the same port gets a fresh connection
)


class TokenCoder(Protocol):
  """The part of a tokenizer that a client needs."""

  def encode(self, text: str, *, bos: bool = False) -> list[int]: ...
  def decode(self, ids: Iterable[int]) -> str: ...


class _Abandoned(Exception):
  """The replica fell silent while it worked on the request."""


class _Replica:
  """One server: its channel, made in the event loop that uses it, the calls under way, and whether it can be had.

  After a failure it is left alone for a while that doubles; then one request at a time tries it.
  """

  def __init__(self, address: str, credentials: grpc.ChannelCredentials | None):
    self.address = address
    self.heard = 0.0  # monotonic time of its last word
    self.asked = 0.0  # and of the first of the calls under way
    self.calls: set[grpc.aio.UnaryStreamCall] = set()
    self.abandoned: set[grpc.aio.UnaryStreamCall] = set()
    self._failures = 0
    self._failed_at = 0.0  # monotonic time
    self._cooldown_until = 0.0
    self._missed_checks = 0
    if credentials is None:
      self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
      self.channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    self.stub = jetstream_pb2_grpc.OrchestratorStub(self.channel)

  @property
  def available(self) -> bool:
    """Whether a request may go there now."""
    return self._failures == 0 or (not self.calls and time.monotonic() >= self._cooldown_until)

  def load(self) -> tuple[int, int, float]:
    """Sorts replicas: those that can be had, the idlest of them, at random among equals.

    Where none can be had, one that still works on something has stumbled only; one without any call may be dead.
    """
    return 0 if self.available else 1 if self.calls else 2, len(self.calls), random.random()

  def begin(self, call: grpc.aio.UnaryStreamCall) -> None:
    """A call is under way."""
    if not self.calls:
      self.asked = time.monotonic()
    self.calls.add(call)

  def give_up(self) -> None:
    """Ends all calls under way here, as `_Abandoned`."""
    self.abandoned |= self.calls
    for call in self.calls:
      call.cancel()

  def succeeded(self, asked: float) -> None:
    """It answered what was asked at that time; words of a server that has died since may still arrive."""
    if asked >= self._failed_at:
      self._failures = 0

  def failed(self) -> None:
    """It could not be reached or does not take requests."""
    self._failed_at = time.monotonic()
    if self._failed_at >= self._cooldown_until:  # many calls fail at once: that is one failure
      self._cooldown_until = self._failed_at + min(MAX_PAUSE_SECONDS, FIRST_COOLDOWN_SECONDS * 2**self._failures)
      self._failures += 1

  async def probe(self, seconds: float) -> None:
    """A health check; the second one in a row without an answer gives up all calls under way here."""
    asked = time.monotonic()
    try:
      answer = await self.stub.HealthCheck(jetstream_pb2.HealthCheckRequest(), timeout=seconds)
    except grpc.aio.AioRpcError:
      self._missed_checks += 1
      self.failed()
      if self._missed_checks >= 2:
        self.give_up()
    else:
      self._missed_checks = 0
      if answer.is_live:
        self.succeeded(asked)
      else:
        self.failed()


class JetStreamGenerator:
  """A `Generator` over gRPC.

  Args:
    addresses: `host:port` of each replica; a request goes to the one with the fewest calls under way, and to another
      one when that fails.
    tokenizer: of the served model.
    model_id: name and weights hash of the served model.
    concurrency: calls under way at most.
    silence: seconds without a word from a server, for whichever of our calls, after which they are given up. Our own
      servers say now and then that they work, so a request may wait for hours behind those of others. A server that
      is full is asked again for as long.
    attempts: how often a request is sent at most; refusals of a full server do not count.
    first_pause: seconds before the second attempt.
    certificate: file with the PEM certificate that signs the servers'; empty means no TLS.
    token: the servers' bearer token; empty sends none.
    encode: from a prompt to token ids, such as `chat.question_encoder` gives; None: the bare text, after what the
      tokenizer itself puts before a text.

  Attributes:
    stats: what was sent, completed and retried; `stats.completed` compares with the server's `requests_completed`.

  Raises:
    UserError: no address is given, or the certificate cannot be read.
  """

  def __init__(
    self,
    addresses: Sequence[str],
    tokenizer: TokenCoder,
    model_id: str,
    *,
    concurrency: int,
    silence: float = 600.0,
    attempts: int = 8,
    first_pause: float = 0.2,
    certificate: str = Teacher.certificate,
    token: str = "",
    encode: Callable[[str], list[int]] | None = None,
  ):
    if not addresses:
      raise UserError("no server to ask", where="teacher.addresses", remedy="give at least one host:port")
    self.model_id = model_id
    self.stats = Stats()
    self._addresses = list(addresses)
    self._tokenizer = tokenizer
    self._encode = encode or functools.partial(tokenizer.encode, bos=True)
    self._concurrency = concurrency
    self._silence = silence
    self._attempts = attempts
    self._first_pause = first_pause
    self._credentials = _credentials(certificate) if certificate else None
    self._token = token
    self._authorization = (("authorization", f"Bearer {token}"),) if token else ()
    self._replicas: list[_Replica] = []
    self._semaphore: asyncio.Semaphore | None = None
    self._watches: list[asyncio.Task[None]] = []

  async def complete(self, request: Request) -> Response:
    """The response to one request.

    Raises:
      RequestRejected: the server says that this request can never be answered.
      UserError: no server answered in `attempts` attempts, or one failed in a way that will not pass.
    """
    async with self._connect():
      tokens = self._encode(request.prompt)
      failures = pauses = 0
      start = time.monotonic()
      while True:
        replica, asked = min(self._replicas, key=_Replica.load), time.monotonic()
        try:
          response = await self._attempt(replica, request, tokens)
        except (grpc.aio.AioRpcError, _Abandoned) as error:
          patience = max(start, replica.heard) + self._silence
          too_large = _is_too_large(error)
          full = _code(error) == grpc.StatusCode.RESOURCE_EXHAUSTED and time.monotonic() < patience and not too_large
          failures += not full
          if _code(error) not in RETRYABLE or too_large or failures == self._attempts:
            self.stats.failed += 1
            raise _as_user_error(error, replica, request, failures, self._token) from None
          self.stats.retried += 1
          if not full:
            replica.failed()
          if full or not any(other.available for other in self._replicas):
            pause, pauses = min(MAX_PAUSE_SECONDS, self._first_pause * 2**pauses), pauses + 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        else:
          replica.succeeded(asked)
          self.stats.count(response)
          return response

  def _connect(self) -> asyncio.Semaphore:
    """Opens the channels in the event loop that uses them; what a call holds while it is under way."""
    if self._semaphore is None:
      self._semaphore = asyncio.Semaphore(self._concurrency)
      self._replicas = [_Replica(address, self._credentials) for address in self._addresses]
      self._watches = [asyncio.create_task(self._watch_silence())]
      if len(self._replicas) > 1:  # a single one that is slow has no other to take over
        self._watches.append(asyncio.create_task(self._watch_health()))
    return self._semaphore

  async def _watch_silence(self) -> None:
    while True:
      await asyncio.sleep(self._silence / 8)
      for replica in self._replicas:
        if replica.calls and time.monotonic() - max(replica.heard, replica.asked) > self._silence:
          replica.give_up()

  async def _watch_health(self) -> None:
    while True:
      await asyncio.sleep(HEALTH_CHECK_SECONDS)
      await asyncio.gather(*(replica.probe(HEALTH_CHECK_SECONDS) for replica in self._replicas))

  async def check(self, seconds: float = 10.0) -> None:
    """Returns once every server has said that it is live or has had `seconds` to do so; those that did not are named.

    Raises:
      UserError: none did.
    """
    self._connect()
    troubles = await asyncio.gather(*(self._trouble(replica, seconds) for replica in self._replicas))
    silent = [(replica, why) for replica, why in zip(self._replicas, troubles, strict=True) if why]
    if len(silent) == len(self._replicas):
      raise UserError(
        f"no healthy JetStream server answers here ({silent[0][1]})",
        where=", ".join(replica.address for replica, _ in silent),
        remedy="start it with `skymath serve`, or correct teacher.addresses",
      )
    for replica, why in silent:
      replica.failed()
      log(f"warning: {replica.address}: no healthy JetStream server answers here ({why}); the others do its work")

  async def _trouble(self, replica: _Replica, seconds: float) -> str:
    """Why the server cannot be asked, or nothing."""
    request = jetstream_pb2.HealthCheckRequest()
    try:
      answer = await replica.stub.HealthCheck(request, timeout=seconds, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
      return str(error.code().name)
    return "" if answer.is_live else "it says that it is not live"

  async def _attempt(self, replica: _Replica, request: Request, tokens: list[int]) -> Response:
    content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=tokens)
    message = jetstream_pb2.DecodeRequest(max_tokens=request.sampling.max_tokens, token_content=content)
    self.stats.sent += 1
    metadata = (*metadata_of(request.sampling), *self._authorization)
    call = replica.stub.Decode(message, metadata=metadata)
    replica.begin(call)
    try:
      new: list[int] = []
      async for part in call:
        replica.heard = time.monotonic()
        for sample in part.stream_content.samples:
          new.extend(sample.token_ids)
      trailing = dict(await call.trailing_metadata() or ())
    except asyncio.CancelledError:
      if call in replica.abandoned:
        raise _Abandoned("it has fallen silent") from None
      raise
    finally:
      replica.calls.discard(call)
      replica.abandoned.discard(call)
    text, stopped = cut_at_stop(self._tokenizer.decode(new), request.sampling.stop)
    # a stock JetStream server says nothing of the reason: judge by the length
    guess = "length" if not stopped and len(new) >= request.sampling.max_tokens else "stop"
    return Response(
      id=request.id,
      text=text,
      finish_reason=trailing.get("finish-reason", guess),
      prompt_tokens=len(tokens),
      completion_tokens=len(new),
    )

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=self._concurrency)

  async def close(self) -> None:
    """Closes the connections; a later request opens new ones."""
    replicas = self._replicas
    watches = self._watches
    self._replicas = []
    self._semaphore = None
    self._watches = []
    for watch in watches:
      watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)
    await asyncio.gather(*(replica.channel.close() for replica in replicas))


def _credentials(certificate: str) -> grpc.ChannelCredentials:
  try:
    return grpc.ssl_channel_credentials(root_certificates=Path(certificate).read_bytes())
  except OSError as error:
    raise UserError(
      f"the certificate cannot be read ({error.strerror})", where=certificate, remedy="correct teacher.certificate"
    ) from None


def _code(error: grpc.aio.AioRpcError | _Abandoned) -> grpc.StatusCode:
  return grpc.StatusCode.UNAVAILABLE if isinstance(error, _Abandoned) else error.code()


def _is_too_large(error: grpc.aio.AioRpcError | _Abandoned) -> bool:
  """Whether gRPC itself has refused the request's size, for which it has no code of its own."""
  return not isinstance(error, _Abandoned) and "message larger than max" in (error.details() or "")


def metadata_of(sampling: Sampling) -> tuple[tuple[str, str | bytes], ...]:
  """Call metadata that carry what JetStream's request message has no field for; defaults are left out."""
  pairs: list[tuple[str, str | bytes]] = []
  default = Sampling()
  for name in ("temperature", "top_p", "top_k", "seed"):
    if getattr(sampling, name) != getattr(default, name):
      pairs.append((name, repr(getattr(sampling, name))))
  if sampling.stop:
    pairs.append(("stop-bin", json.dumps(sampling.stop).encode()))
  return tuple(pairs)


def _as_user_error(
  error: grpc.aio.AioRpcError | _Abandoned, replica: _Replica, request: Request, attempts: int, token: str
) -> UserError:
  code, details = _code(error).name, str(error) if isinstance(error, _Abandoned) else error.details()
  details = redacted(details or "", [token])
  if _code(error) == grpc.StatusCode.UNAUTHENTICATED:
    what, remedy = "the server wants a bearer token", f"put it into the environment variable {TOKEN_VARIABLE}"
    return UserError(what, where=replica.address, remedy=remedy)
  if _code(error) == grpc.StatusCode.INVALID_ARGUMENT or _is_too_large(error):
    return RequestRejected(f"the server refused request {request.id} ({details})", where=replica.address)
  times = f" after {attempts} attempts" if attempts > 1 else ""
  return UserError(
    f"the model server failed{times} with {code} ({details})",
    where=replica.address,
    remedy="check that it runs (skymath serve) and read its log",
  )
