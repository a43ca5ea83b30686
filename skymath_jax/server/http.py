"""The HTTP front: `/v1/completions`, `/v1/chat/completions`, `/v1/models` as in OpenAI's API; `/health`, `/metrics`.

A subset, in the pydantic models below. What is asked beyond it is refused by name, since leaving it out could change
the answer, unless it says nothing (null, false, 0, empty) or is known to be harmless. `/v1` wants the bearer token, if
any.
"""

import asyncio
import dataclasses
import json
import queue
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import prometheus_client
import pydantic
from aiohttp import web

from skymath_jax.chat import Messages
from skymath_jax.engine.batching import UnavailableError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.server.driver import Driver, StreamedJob
from skymath_jax.server.incoming import BODY_SECONDS, MAX_BODY, WRITE_SECONDS, Bodies, Handler, counted_as_busy
from skymath_jax.server.metrics import registry_of
from skymath_jax.server.settings import ServerSettings
from skymath_jax.server.text import TextStream

MAX_CHOICES = 128
MAX_MESSAGES = 10_000
HARMLESS = {
  *("model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
  *("parallel_tool_calls", "tool_choice", "function_call"),  # there is no tool that could be called
}

Body: TypeAlias = dict[str, Any]
Number = Annotated[float, pydantic.Field(ge=-1e3, le=1e3)]  # JSON has integers that no float can hold
FAIL_FAST = pydantic.Field(fail_fast=True)  # the first wrong entry of a list is enough to refuse it
Ids = Annotated[list[int], FAIL_FAST]


def reject(what: str, key: str) -> RequestRejected:
  """A refusal that names the field."""
  return RequestRejected(what, where=key, remedy="see the OpenAI API reference")


class StreamOptions(pydantic.BaseModel):
  """What a stream carries besides text."""

  include_usage: bool = False


class Options(pydantic.BaseModel):
  """What both endpoints take; a key that is null is as good as missing. `Sampling` and the driver check ranges, too."""

  model_config = pydantic.ConfigDict(strict=True, extra="allow")

  max_tokens: int | None = None
  max_completion_tokens: int | None = None
  temperature: Number = 1.0
  top_p: Number = 1.0
  top_k: int = 0
  n: int = 1
  seed: int | None = None
  stop: str | Annotated[list[str], FAIL_FAST] = pydantic.Field([], description="stop must be texts")
  stop_token_ids: Ids = pydantic.Field(
    [], max_length=MAX_CHOICES, description=f"it must be a list of at most {MAX_CHOICES} token ids"
  )
  stream: bool = False
  stream_options: StreamOptions = StreamOptions()
  response_format: dict[Literal["type"], Literal["text"]] = pydantic.Field(
    {"type": "text"}, description="only the type text is supported"
  )

  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """Texts or token ids."""
    raise NotImplementedError

  def sampling(self, seed: int, max_length: int) -> Sampling:
    """How to answer.

    Raises:
      RequestRejected: a value is out of range.
    """
    lengths = (self.max_completion_tokens, self.max_tokens, max_length)
    return Sampling(
      temperature=self.temperature,
      top_p=self.top_p,
      top_k=self.top_k,
      max_tokens=next(length for length in lengths if length is not None),
      stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
      seed=seed,
    )


class Completion(Options):
  """The body of `/v1/completions`."""

  prompt: str | Ids | Annotated[list[str | Ids], pydantic.Field(max_length=MAX_CHOICES, fail_fast=True)] = (
    pydantic.Field(description=f"prompt must be a text, at most {MAX_CHOICES} texts, or a list of token ids")
  )

  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """One, or those of a list of them."""
    if isinstance(self.prompt, str):
      return [self.prompt]
    several = [prompt for prompt in self.prompt if not isinstance(prompt, int)]
    return several or [[token for token in self.prompt if isinstance(token, int)]]


class Part(pydantic.BaseModel):
  """A piece of a message."""

  text: str


class Message(pydantic.BaseModel):
  """One message of a chat; its other fields make no difference."""

  role: str = "user"
  content: str | Annotated[list[Part], FAIL_FAST]

  def as_text(self) -> dict[str, str]:
    """Role and content, as chat templates take them."""
    content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
    return {"role": self.role, "content": content}


class ChatCompletion(Options):
  """The body of `/v1/chat/completions`."""

  messages: Annotated[list[Message], FAIL_FAST] = pydantic.Field(
    min_length=1,
    max_length=MAX_MESSAGES,
    description="messages must be a list of objects, each with a role and a text as content",
  )

  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """The messages as one prompt."""
    return [chat_prompt([message.as_text() for message in self.messages])]

  def characters(self) -> int:
    """Of all messages."""
    return sum(len(message.as_text()["content"]) for message in self.messages)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Front:
  """What the endpoints share: who answers, under which name, and how messages become a prompt."""

  driver: Driver
  model_id: str
  chat_prompt: Callable[[Messages], list[int]]


def app(front: Front, settings: ServerSettings) -> web.Application:
  """The application; `front.driver` does the work."""
  driver = front.driver
  registry = registry_of(driver)
  bodies = Bodies(driver.off_the_loop)

  async def models(_: web.Request) -> web.Response:
    model = {"id": front.model_id, "object": "model", "created": 0, "owned_by": "skymath"}
    return web.json_response({"object": "list", "data": [model]})

  async def health(_: web.Request) -> web.Response:
    live = driver.accepting
    return web.json_response({"status": "ok" if live else "stopping"}, status=200 if live else 503)

  async def metrics(_: web.Request) -> web.Response:
    headers = {"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    return web.Response(body=prometheus_client.generate_latest(registry), headers=headers)

  @web.middleware
  async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/v1/") and not settings.admits(request.headers.get("Authorization")):
      error = {
        "message": "this server wants a bearer token",
        "type": "invalid_request_error",
        "code": "invalid_api_key",
      }
      return web.json_response({"error": error}, status=401, headers={"WWW-Authenticate": "Bearer"})
    return await handler(request)

  routes = web.Application(client_max_size=MAX_BODY, middlewares=[counted_as_busy, _errors_as_json, guard])
  routes.add_routes(
    [
      web.get("/health", health),
      web.get("/metrics", metrics),
      web.get("/v1/models", models),
      web.post("/v1/completions", lambda request: _answer(request, front, bodies, Completion)),
      web.post("/v1/chat/completions", lambda request: _answer(request, front, bodies, ChatCompletion)),
    ]
  )
  return routes


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
  headers: dict[str, str] = {}
  try:
    return await handler(request)
  except web.HTTPException as error:
    status, message = error.status, error.reason
    headers = {name: error.headers[name] for name in ("Retry-After",) if name in error.headers}
  except RequestRejected as error:
    status, message = 400, str(error)
  except queue.Full:
    status, message, headers = 429, "too many requests wait already", {"Retry-After": "1"}
  except UnavailableError as error:
    status, message = 503, str(error)
  except TimeoutError:
    status, message = 408, f"the body took longer than {BODY_SECONDS:.0f} s"
  except (ConnectionResetError, asyncio.CancelledError):
    raise
  except Exception as error:
    status, message = 500, f"{type(error).__name__}: {error}"
  kind = "invalid_request_error" if status < 500 else "server_error"
  return web.json_response({"error": {"message": message, "type": kind}}, status=status, headers=headers)


async def _body(request: web.Request, bodies: Bodies, form: type[Options]) -> Options:
  """The body as a `form`.

  Raises:
    RequestRejected: it is none, or asks for more than `form` has.
  """
  try:
    body = await bodies.read(request)
  except (ValueError, RecursionError):  # no JSON, nested without end
    raise reject("the body is not JSON", "body") from None
  if not isinstance(body, dict):
    raise reject("the body is not a JSON object", "body")
  try:
    asked = form.model_validate({key: value for key, value in body.items() if value is not None})
  except pydantic.ValidationError as error:
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    wanted = form.model_fields[key].description or first["msg"]
    raise reject(f"{wanted}; this is {str(body.get(key, 'missing'))[:80]!r}", key) from None
  for key, value in (asked.model_extra or {}).items():
    if value and key not in HARMLESS:
      raise reject("this server does not support it", key)
  return asked


async def _answer(request: web.Request, front: Front, bodies: Bodies, form: type[Options]) -> web.StreamResponse:
  asked = await _body(request, bodies, form)
  seed = secrets.randbits(62) if asked.seed is None else asked.seed  # without a seed each call gets one at random
  if isinstance(asked, ChatCompletion):
    front.driver.require_room(asked.characters())
  prompts = await front.driver.off_the_loop(asked.prompts, front.chat_prompt)  # a template is somebody's program
  if not 1 <= asked.n * len(prompts) <= MAX_CHOICES:
    raise reject(f"n × prompts must be between 1 and {MAX_CHOICES}", "n")
  jobs: list[StreamedJob] = []
  owner = (request.remote or "", secrets.token_hex(8))
  try:
    for prompt in prompts:
      for choice in range(asked.n):  # the prefix cache makes one prefill of them
        sampling = asked.sampling(seed + choice, front.driver.engine.max_length)
        job = await front.driver.ask(
          prompt, sampling, stream=asked.stream, stop_tokens=asked.stop_token_ids, owner=owner
        )
        jobs.append(job)
    head = {"id": f"cmpl-{secrets.token_hex(8)}", "created": int(time.time()), "model": front.model_id}
    if asked.stream:
      usage = asked.stream_options.include_usage
      return await _stream(request, jobs, head, chat=form is ChatCompletion, with_usage=usage)
    return await _whole(jobs, head, chat=form is ChatCompletion)
  finally:
    for job in jobs:  # what is not finished by now nobody waits for
      front.driver.leave(job)


def _usage(jobs: list[StreamedJob]) -> Body:
  prompt, completion = sum(len(j.prompt.tokens) for j in jobs), sum(len(j.tokens) for j in jobs)
  return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _whole(jobs: list[StreamedJob], head: Body, *, chat: bool) -> web.Response:
  choices = []
  for index, job in enumerate(jobs):
    async for _ in job.chunks():
      pass
    await asyncio.sleep(0)  # others' turn: a hundred long texts are a tenth of a second
    text = {"message": {"role": "assistant", "content": job.text()}} if chat else {"text": job.text()}
    choices.append({"index": index, **text, "finish_reason": job.finish_reason})
  kind = "chat.completion" if chat else "text_completion"
  return web.json_response({**head, "object": kind, "choices": choices, "usage": _usage(jobs)})


async def _stream(
  request: web.Request, jobs: list[StreamedJob], head: Body, *, chat: bool, with_usage: bool
) -> web.StreamResponse:
  """Server-sent events, all choices interleaved, then usage if wanted, `[DONE]` last; a failure is an `error` event."""
  response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
  await response.prepare(request)
  head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}

  async def send(value: Body | str) -> None:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
      async with asyncio.timeout(WRITE_SECONDS):
        await response.write(f"data: {data}\n\n".encode())
    except TimeoutError:
      raise ConnectionResetError("the client does not read") from None

  async def one(index: int, job: StreamedJob) -> None:
    async for piece, reason in _pieces(job):
      text = {"delta": {"role": "assistant", "content": piece} if piece else {}} if chat else {"text": piece}
      await send({**head, "choices": [{"index": index, **text, "finish_reason": reason}]})

  try:
    await asyncio.gather(*(one(index, job) for index, job in enumerate(jobs)))
    if with_usage:
      await send({**head, "choices": [], "usage": _usage(jobs)})
  except (ConnectionResetError, asyncio.CancelledError):
    raise
  except Exception as error:
    await send({"error": {"message": str(error), "type": "server_error"}})
  await send("[DONE]")
  await response.write_eof()
  return response


async def _pieces(job: StreamedJob) -> AsyncIterator[tuple[str, str | None]]:
  """Pieces of text; the last comes with the finish reason."""
  text = TextStream(job.decode, job.stop)
  async for tokens in job.chunks():
    if piece := text.feed(tokens):
      yield piece, None
  yield text.end(), job.finish_reason
