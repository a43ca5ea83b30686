"""The gRPC service: from a `DecodeRequest` and its metadata to a job, and from the job's tokens to messages.

JetStream's proto has no sampling parameters; they travel as call metadata (`generation/jetstream.py` sends them):
`temperature`, `top_p`, `top_k`, `seed`, `stop-bin` (JSON list of texts, UTF-8), `stop-tokens` (ids, comma-separated),
`stream` (1 = a message per call, else one at the end), `authorization` (Bearer TOKEN). The trailing metadata hold
`finish-reason`, `prompt-tokens` and `completion-tokens`.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import json
import queue
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from skymath_jax.engine.batching import CancelledJobError, Job, UnavailableError
from skymath_jax.engine.core import Core, checked_prompt
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.server import chat, compat
from skymath_jax.server.driver import Driver
from skymath_jax.server.text import TextStream
from skymath_jax.tokenizer import Tokenizer

orchestrator = compat.load("core.orchestrator")
jetstream_pb2 = compat.load("core.proto.jetstream_pb2")
Sample = jetstream_pb2.DecodeResponse.StreamContent.Sample
MOST_STOPS, LONGEST_STOP = 16, 256  # each is looked for after each call of the engine


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
    self._send(*(() if self.stream else (self.tokens,)), None)

  def on_error(self, error: Exception) -> None:
    self._send(error)

  def _send(self, *messages: Any) -> None:
    def put() -> None:
      for message in messages:
        self.messages.put_nowait(message)

    with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens any more
      self.loop.call_soon_threadsafe(put)

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
  """What gRPC and HTTP share: text or token ids to a queued job.

  Args:
    driver: takes the jobs.
    tokenizer: of the model; its chat template, or else the prompt frame `chat_frame`, turns messages into a prompt.
    core: the model, for its limits.
    model_id: name and weights hash.
    token: bearer token that callers must show; empty lets everybody in.
  """

  def __init__(
    self, driver: Driver, tokenizer: Tokenizer, core: Core, *, model_id: str, chat_frame: str, token: str = ""
  ):
    self.driver, self.tokenizer, self.core, self.model_id = driver, tokenizer, core, model_id
    self.chat_prompt = chat.renderer(tokenizer.chat_template, chat_frame)
    self._token = token

  @property
  def max_length(self) -> int:
    """Prompt and response tokens that a slot can hold."""
    return self.core.max_length

  def admits(self, authorization: str | None) -> bool:
    """Whether a call with this `Authorization` may be served."""
    return not self._token or hmac.compare_digest((authorization or "").encode(), f"Bearer {self._token}".encode())

  def submit(
    self, content: str | list[int], sampling: Sampling, *, stream: bool, stop_tokens: Sequence[int] = ()
  ) -> StreamedJob:
    """A queued job; must be called in an event loop, and `leave` when nobody waits for it any more.

    Raises:
      RequestRejected: the request is at fault.
      queue.Full: too many wait; try again later.
      UnavailableError: the server stops.
    """
    try:
      if sampling.max_tokens > self.max_length:
        raise RequestRejected(
          f"max_tokens is {sampling.max_tokens}, but prompt and response share {self.max_length}",
          where="max_tokens",
          remedy="ask for less, or serve with a larger max_length",
        )
      if len(sampling.stop) > MOST_STOPS or any(len(text) > LONGEST_STOP for text in sampling.stop):
        what = f"more than {MOST_STOPS} stop texts, or one longer than {LONGEST_STOP} characters"
        raise RequestRejected(what, where="stop", remedy="use fewer and shorter ones")
      tokens = self._encode(content) if isinstance(content, str) else content
      prompt = checked_prompt(tokens, sampling, max_length=self.max_length, vocab_size=self.core.config.vocab_size)
    except RequestRejected:
      self.driver.counters.add(rejected=1)
      raise
    job = StreamedJob(
      prompt=prompt,
      stop=sampling.stop,
      stop_tokens=frozenset(stop_tokens),
      decode=self.tokenizer.decode,
      stream=stream,
    )
    self.driver.submit(job)
    return job

  def _encode(self, text: str) -> list[int]:
    try:
      return self.tokenizer.encode(text, bos=True)
    except (ValueError, TypeError, UnicodeError) as error:  # such as half a surrogate pair
      raise RequestRejected(f"the text cannot be tokenized ({error})", where="prompt") from None

  def leave(self, job: StreamedJob) -> None:
    """Frees what an unfinished job holds: its place in the queue now, its slot at the next step."""
    if job.finish_reason is None:
      self.driver.cancel(job)


def sampling_from(metadata: dict[str, Any], max_tokens: int) -> Sampling:
  """The sampling that call metadata ask for.

  Raises:
    RequestRejected: a value cannot be read or is out of range.
  """
  readers = {"temperature": float, "top_p": float, "top_k": int, "seed": int}
  try:
    fields = {name: read(metadata[name]) for name, read in readers.items() if name in metadata}
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
  """JetStream's servicer over our front end."""

  def __init__(self, frontend: Frontend):
    super().__init__(frontend.driver)
    self._frontend = frontend

  async def HealthCheck(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
    """Live as long as new requests are taken."""
    return jetstream_pb2.HealthCheckResponse(is_live=self._frontend.driver.accepting)

  async def Decode(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
    """Streams token ids; texts too where the prompt came as text."""
    metadata = dict(context.invocation_metadata() or ())
    if not self._frontend.admits(metadata.get("authorization")):
      await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server wants a bearer token")
    job = await self._admit(request, metadata, context)
    context.add_done_callback(lambda _: self._frontend.leave(job))  # client gone, deadline passed, call cancelled
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
      sampling, stops = self._read(metadata, request.max_tokens)
      return self._frontend.submit(content, sampling, stream=metadata.get("stream") == "1", stop_tokens=stops)
    except RequestRejected as error:
      await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except queue.Full:
      await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests wait already; send it again later")
    except UnavailableError as error:
      await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

  def _read(self, metadata: dict[str, Any], max_tokens: int) -> tuple[Sampling, list[int]]:
    try:
      return sampling_from(metadata, max_tokens), _stop_tokens(metadata)
    except RequestRejected:
      self._frontend.driver.counters.add(rejected=1)
      raise


def _message(tokens: list[int], text: str) -> Any:
  content = jetstream_pb2.DecodeResponse.StreamContent(samples=[Sample(text=text, token_ids=tokens)])
  return jetstream_pb2.DecodeResponse(stream_content=content)
