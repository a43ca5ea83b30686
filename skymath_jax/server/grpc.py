"""The gRPC service: from a `DecodeRequest` and its metadata to a job, and from the job's tokens to messages.

JetStream's proto has no sampling parameters; they travel as call metadata (`generation/jetstream.py` sends them):
`temperature`, `top_p`, `top_k`, `seed`, `stop-bin` (JSON list of texts, UTF-8), `stop-tokens` (ids, comma-separated),
`stream` (1 = a message per call, else one at the end), `authorization` (Bearer TOKEN). The trailing metadata hold
`finish-reason`, `prompt-tokens` and `completion-tokens`. A message without tokens comes now and then while a caller has
to wait and the engine works.
"""

import json
import queue
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc

from skymath_jax.engine.batching import CancelledJobError, UnavailableError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.server import compat
from skymath_jax.server.driver import Driver
from skymath_jax.server.fair import client_of
from skymath_jax.server.jobs import StreamedJob
from skymath_jax.server.settings import ServerSettings
from skymath_jax.server.text import TextStream

orchestrator: Any = compat.load("core.orchestrator")
jetstream_pb2 = compat.load("core.proto.jetstream_pb2")
Sample = jetstream_pb2.DecodeResponse.StreamContent.Sample


def sampling_from(metadata: dict[str, Any], max_tokens: int) -> Sampling:
  """The sampling that call metadata ask for.

  Raises:
    RequestRejected: a value cannot be read or is out of range.
  """
  readers = {"temperature": float, "top_p": float, "top_k": int, "seed": int}
  try:
    fields: dict[str, Any] = {name: read(metadata[name]) for name, read in readers.items() if name in metadata}
    if "stop-bin" in metadata:
      stop = json.loads(metadata["stop-bin"])
      if not isinstance(stop, list):
        raise ValueError("stop-bin is no list")
      fields["stop"] = tuple(stop)
  except (ValueError, TypeError, RecursionError) as error:
    raise RequestRejected(f"call metadata cannot be read ({error})", where="metadata", remedy="send numbers") from None
  return Sampling(max_tokens=max_tokens, **fields)


def _stop_tokens(metadata: dict[str, Any]) -> list[int]:
  try:
    return [int(token) for token in metadata.get("stop-tokens", "").split(",") if token]
  except ValueError:
    raise RequestRejected("not token ids", where="stop-tokens", remedy="send numbers, comma-separated") from None


class Orchestrator(orchestrator.LLMOrchestrator):
  """JetStream's servicer over our driver."""

  def __init__(self, driver: Driver, settings: ServerSettings):
    super().__init__(driver)
    self._settings = settings

  async def HealthCheck(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
    """Live as long as new requests are taken."""
    return jetstream_pb2.HealthCheckResponse(is_live=self._driver.accepting)

  async def Decode(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
    """Streams token ids; texts too where the prompt came as text.

    Raises:
      grpc.aio.AbortError: the caller has been told (`_status`) why there is no answer, or no whole one.
    """
    metadata = dict(context.invocation_metadata() or ())
    if not self._settings.admits(metadata.get("authorization")):
      await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server wants a bearer token")
    try:
      job = await self._job_of(request, metadata, context.peer())
      context.add_done_callback(lambda _: self._driver.leave(job))  # client gone, deadline passed, call cancelled
      text = TextStream(job.decode, job.stop) if request.HasField("text_content") else None
      async for tokens in job.chunks():
        yield _message(tokens, text.feed(tokens) if text else "")
      if text and (rest := text.end()):
        yield _message([], rest)
    except Exception as error:
      await context.abort(*_status(error))
    context.set_trailing_metadata(
      (
        ("finish-reason", job.finish_reason),
        ("prompt-tokens", str(len(job.prompt.tokens))),
        ("completion-tokens", str(len(job.tokens))),
      )
    )

  async def _job_of(self, request: Any, metadata: dict[str, Any], peer: str) -> StreamedJob:
    try:
      sampling, stop_tokens = sampling_from(metadata, request.max_tokens), _stop_tokens(metadata)
    except RequestRejected:
      self._driver.counters.add(rejected=1)
      raise
    content = request.text_content.text if request.HasField("text_content") else request.token_content.token_ids
    address = peer.rpartition(":")[0].partition(":")[2]  # of ipv4:ADDRESS:PORT, or ipv6:%5BADDRESS%5D:PORT
    owner = (client_of(address), secrets.token_hex(8))
    streams = metadata.get("stream") == "1"
    return await self._driver.ask(content, sampling, stream=streams, stop_tokens=stop_tokens, owner=owner)


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
  """How a failure is told to the caller."""
  if isinstance(error, RequestRejected):
    return grpc.StatusCode.INVALID_ARGUMENT, str(error)
  if isinstance(error, queue.Full):
    return grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests wait already; send it again later"
  if isinstance(error, UnavailableError | CancelledJobError):
    return grpc.StatusCode.UNAVAILABLE, str(error)
  return grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"


def _message(tokens: list[int], text: str) -> Any:
  content = jetstream_pb2.DecodeResponse.StreamContent(samples=[Sample(text=text, token_ids=tokens)])
  return jetstream_pb2.DecodeResponse(stream_content=content)
