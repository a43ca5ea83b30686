"""Client of one or more JetStream servers (`skymath serve`) over gRPC, with token ids on the wire.

Sampling parameters travel as call metadata, which `serving/service.py` reads. Only what may pass is asked again:
UNAVAILABLE, RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED, after a pause that doubles and is jittered.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

import grpc

# these two modules import nothing but grpc and protobuf
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.errors import UserError
from skymath_jax.generation.types import (
  Request,
  RequestRejected,
  Response,
  Sampling,
  Stats,
  as_they_come,
  cut_at_stop,
)

PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
LONGEST_PAUSE = 10.0  # seconds
LARGEST_MESSAGE = 64 << 20  # bytes
CHANNEL_OPTIONS = (
  ("grpc.max_receive_message_length", LARGEST_MESSAGE),
  ("grpc.max_reconnect_backoff_ms", 2000),
  ("grpc.use_local_subchannel_pool", 1),  # a server restarted on the same port gets a fresh connection
)


class TokenCoder(Protocol):
  """The part of a tokenizer that a client needs."""

  def encode(self, text: str, *, bos: bool = False) -> list[int]: ...
  def decode(self, ids: Iterable[int]) -> str: ...


class _Replica:
  """One server: its channel, made in the event loop that uses it, and how many calls are under way."""

  def __init__(self, address: str):
    self.address, self.running = address, 0
    self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    self.stub = jetstream_pb2_grpc.OrchestratorStub(self.channel)


class JetStreamGenerator:
  """A `Generator` over gRPC.

  Args:
    addresses: `host:port` of each replica; a request goes to the one with the fewest calls under way.
    tokenizer: of the served model; prompts get its bos token in front.
    model_id: name and weights hash of the served model.
    concurrency: calls under way at most.
    deadline: seconds that one attempt may take.
    attempts: how often a request is sent at most.
    first_pause: seconds before the second attempt.

  Attributes:
    stats: what was sent, completed and retried; `stats.completed` compares with the server's `requests_completed`.
  """

  def __init__(
    self,
    addresses: Sequence[str],
    tokenizer: TokenCoder,
    model_id: str,
    *,
    concurrency: int = 256,
    deadline: float = 600.0,
    attempts: int = 8,
    first_pause: float = 0.2,
  ):
    if not addresses:
      raise UserError("no server to ask", where="teacher.addresses", remedy="give at least one host:port")
    self.model_id, self.stats = model_id, Stats()
    self._addresses, self._tokenizer, self._concurrency = list(addresses), tokenizer, concurrency
    self._deadline, self._attempts, self._first_pause = deadline, attempts, first_pause
    self._replicas: list[_Replica] = []
    self._turns: asyncio.Semaphore | None = None

  async def complete(self, request: Request) -> Response:
    """The response to one request.

    Raises:
      RequestRejected: the server says that this request can never be answered.
      UserError: no server answered in `attempts` attempts, or one failed in a way that will not pass.
    """
    self._connect()
    async with self._turns:
      tokens = self._tokenizer.encode(request.prompt, bos=True)
      for attempt in range(1, self._attempts + 1):
        replica = min(self._replicas, key=lambda r: (r.running, random.random()))
        try:
          response = await self._attempt(replica, request, tokens)
        except grpc.aio.AioRpcError as error:
          if error.code() not in PASSING or attempt == self._attempts:
            self.stats.failed += 1
            raise _as_user_error(error, replica, request, attempt) from None
          self.stats.retried += 1
          pause = min(LONGEST_PAUSE, self._first_pause * 2 ** (attempt - 1))
          await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        else:
          self.stats.count(response)
          return response
    raise AssertionError("the last attempt returns or raises")

  def _connect(self) -> None:
    if self._turns is None:
      self._turns = asyncio.Semaphore(self._concurrency)
      self._replicas = [_Replica(address) for address in self._addresses]

  async def check(self, seconds: float = 10.0) -> None:
    """Returns once every server says that it is live.

    Raises:
      UserError: one did not within `seconds`; its address is named.
    """
    self._connect()
    for replica in self._replicas:
      try:
        answer = await replica.stub.HealthCheck(
          jetstream_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True
        )
      except grpc.aio.AioRpcError as error:
        answer, why = None, error.code().name
      if answer is None or not answer.is_live:
        raise UserError(
          f"no healthy JetStream server answers here ({why if answer is None else 'it says that it is not live'})",
          where=replica.address,
          remedy="start it with `skymath serve`, or correct teacher.addresses",
        )

  async def _attempt(self, replica: _Replica, request: Request, tokens: list[int]) -> Response:
    content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=tokens)
    message = jetstream_pb2.DecodeRequest(max_tokens=request.sampling.max_tokens, token_content=content)
    self.stats.sent += 1
    replica.running += 1
    try:
      call = replica.stub.Decode(message, timeout=self._deadline, metadata=metadata_of(request.sampling))
      new: list[int] = []
      async for part in call:
        for sample in part.stream_content.samples:
          new.extend(sample.token_ids)
      trailing = dict(await call.trailing_metadata() or ())
    finally:
      replica.running -= 1
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
    return as_they_come(self.complete, requests, window=self._concurrency)

  async def close(self) -> None:
    """Closes the connections; a later request opens new ones."""
    replicas, self._replicas, self._turns = self._replicas, [], None
    await asyncio.gather(*(replica.channel.close() for replica in replicas))


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


def _as_user_error(error: grpc.aio.AioRpcError, replica: _Replica, request: Request, attempts: int) -> UserError:
  code, details = error.code().name, error.details()
  if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
    return RequestRejected(f"the server refused request {request.id} ({details})", where=replica.address)
  times = f" after {attempts} attempts" if attempts > 1 else ""
  return UserError(
    f"the model server failed{times} with {code} ({details})",
    where=replica.address,
    remedy="check that it runs (skymath serve) and read its log",
  )
