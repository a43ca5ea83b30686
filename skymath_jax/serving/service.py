"""The gRPC service: from a `DecodeRequest` and its metadata to a job, and from the job's tokens to messages.

JetStream's proto has no sampling parameters; they travel as call metadata (`generation/jetstream.py` sends them):
`temperature`, `top_p`, `top_k`, `seed`, `stop-bin` (JSON list of texts, UTF-8), `stream` (1 = a message per call,
else one at the end). The trailing metadata hold `finish-reason`, `prompt-tokens` and `completion-tokens`.
"""

import asyncio
import contextlib
import dataclasses
import json
import queue
from collections.abc import AsyncIterator
from typing import Any

import grpc

from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.serving import compat
from skymath_jax.serving.core import checked_prompt
from skymath_jax.serving.driver import Driver
from skymath_jax.serving.loop import CancelledJobError, Job, UnavailableError
from skymath_jax.serving.text import TextStream
from skymath_jax.tokenizer import Tokenizer

orchestrator = compat.load("core.orchestrator")
jetstream_pb2 = compat.load("core.proto.jetstream_pb2")
Sample = jetstream_pb2.DecodeResponse.StreamContent.Sample


@dataclasses.dataclass(kw_only=True, eq=False)
class StreamedJob(Job):
  """A job whose tokens are read in an event loop: token lists, then None or an exception."""

  loop: asyncio.AbstractEventLoop = dataclasses.field(default_factory=asyncio.get_running_loop)
  messages: asyncio.Queue = dataclasses.field(default_factory=asyncio.Queue)
  stream: bool = False

  def on_tokens(self, tokens: list[int]) -> None:
    if self.stream and tokens:
      self._send(tokens)

  def on_finish(self) -> None:
    if not self.stream:
      self._send(self.tokens)
    self._send(None)

  def on_error(self, error: Exception) -> None:
    self._send(error)

  def _send(self, message: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens any more
      self.loop.call_soon_threadsafe(self.messages.put_nowait, message)

  async def chunks(self) -> AsyncIterator[list[int]]:
    """New tokens as they come; leaving early cancels the job.

    Raises:
      Exception: what the job met.
    """
    try:
      while (message := await self.messages.get()) is not None:
        if isinstance(message, Exception):
          raise message
        yield message
    finally:
      self.cancelled = self.cancelled or self.finish_reason is None


class Frontend:
  """What gRPC and HTTP share: text or token ids to a queued job."""

  def __init__(self, driver: Driver, tokenizer: Tokenizer, *, model_id: str, max_length: int, vocab_size: int):
    self.driver, self.tokenizer, self.model_id = driver, tokenizer, model_id
    self.max_length, self._vocab_size = max_length, vocab_size

  def submit(self, content: str | list[int], sampling: Sampling, *, stream: bool) -> StreamedJob:
    """A queued job; must be called in an event loop.

    Raises:
      RequestRejected: the request is at fault.
      queue.Full: too many wait; try again later.
      UnavailableError: the server stops.
    """
    tokens = self.tokenizer.encode(content, bos=True) if isinstance(content, str) else content
    prompt = checked_prompt(tokens, sampling, max_length=self.max_length, vocab_size=self._vocab_size)
    job = StreamedJob(prompt=prompt, stop=sampling.stop, decode=self.tokenizer.decode, stream=stream)
    self.driver.submit(job)
    return job


def sampling_from(metadata: dict[str, Any], max_tokens: int) -> Sampling:
  """The sampling that call metadata ask for.

  Raises:
    RequestRejected: a value cannot be read or is out of range.
  """
  readers = {"temperature": float, "top_p": float, "top_k": int, "seed": int}
  try:
    fields = {name: read(metadata[name]) for name, read in readers.items() if name in metadata}
    if "stop-bin" in metadata:
      fields["stop"] = tuple(json.loads(metadata["stop-bin"]))
  except (ValueError, TypeError) as error:
    raise RequestRejected(f"call metadata cannot be read ({error})", where="metadata", remedy="send numbers") from None
  return Sampling(max_tokens=max_tokens, **fields)


class Orchestrator(orchestrator.LLMOrchestrator):
  """JetStream's servicer over our front end; `HealthCheck` is the stock one."""

  def __init__(self, frontend: Frontend):
    super().__init__(frontend.driver)
    self._frontend = frontend

  async def Decode(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
    """Streams token ids; texts too where the prompt came as text."""
    metadata = dict(context.invocation_metadata() or ())
    job = await self._admit(request, metadata, context)
    context.add_done_callback(lambda _: setattr(job, "cancelled", job.finish_reason is None))
    text = TextStream(self._frontend.tokenizer.decode, job.stop) if request.HasField("text_content") else None
    try:
      async for tokens in job.chunks():
        yield _message(tokens, text.feed(tokens) if text else "")
      if text and (rest := text.end()):
        yield _message([], rest)
    except (UnavailableError, CancelledJobError) as error:
      await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    except asyncio.CancelledError:
      raise
    except Exception as error:
      await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
    context.set_trailing_metadata(
      (
        ("finish-reason", job.finish_reason),
        ("prompt-tokens", str(len(job.prompt.tokens))),
        ("completion-tokens", str(len(job.tokens))),
      )
    )

  async def _admit(self, request: Any, metadata: dict[str, Any], context: grpc.aio.ServicerContext) -> StreamedJob:
    content = request.text_content.text if request.HasField("text_content") else list(request.token_content.token_ids)
    try:
      stream = metadata.get("stream") == "1"
      return self._frontend.submit(content, sampling_from(metadata, request.max_tokens), stream=stream)
    except RequestRejected as error:
      self._frontend.driver.counters.add(rejected=1)
      await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except queue.Full:
      await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests wait already; send it again later")
    except UnavailableError as error:
      await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


def _message(tokens: list[int], text: str) -> Any:
  content = jetstream_pb2.DecodeResponse.StreamContent(samples=[Sample(text=text, token_ids=tokens)])
  return jetstream_pb2.DecodeResponse(stream_content=content)
