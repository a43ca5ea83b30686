"""The HTTP front: `/v1/completions`, `/v1/chat/completions`, `/v1/models` as in OpenAI's API; `/health`, `/metrics`.

A subset, which is in `forms.py`. `/v1` wants the bearer token, if any.
"""

import asyncio
import dataclasses
import json
import queue
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import prometheus_client
from aiohttp import web

from skymath_jax.chat import Messages
from skymath_jax.engine.batching import UnavailableError
from skymath_jax.generation import RequestRejected
from skymath_jax.server import logprobs
from skymath_jax.server.driver import Driver
from skymath_jax.server.fair import client_of
from skymath_jax.server.forms import MAX_CHOICES, ChatCompletion, Completion, Options, read, reject
from skymath_jax.server.incoming import BODY_SECONDS, MAX_BODY, WRITE_SECONDS, Bodies, Handler, counted_as_busy
from skymath_jax.server.jobs import StreamedJob
from skymath_jax.server.metrics import registry_of
from skymath_jax.server.settings import ServerSettings
from skymath_jax.server.text import TextStream

Body: TypeAlias = dict[str, Any]


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

  model = {"id": front.model_id, "object": "model", "created": 0, "owned_by": "skymath"}

  async def models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [model]})

  async def one_model(request: web.Request) -> web.Response:
    if request.match_info["model"] != front.model_id:
      raise web.HTTPNotFound(reason=f"this server has no such model, only {front.model_id}")
    return web.json_response(model)

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
      web.get("/v1/models/{model:.+}", one_model),
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
  return read(body, form)


async def _answer(request: web.Request, front: Front, bodies: Bodies, form: type[Options]) -> web.StreamResponse:
  asked = await _body(request, bodies, form)
  seed = secrets.randbits(62) if asked.seed in (None, -1) else asked.seed  # without a seed each call gets one at random
  if isinstance(asked, ChatCompletion):
    front.driver.require_room(asked.characters())
  prompts = await front.driver.off_the_loop(asked.prompts, front.chat_prompt)  # a template is somebody's program
  if not 1 <= asked.n * len(prompts) <= MAX_CHOICES:
    raise reject(f"n × prompts must be between 1 and {MAX_CHOICES}", "n")
  jobs: list[StreamedJob] = []
  owner = (client_of(request.remote or ""), secrets.token_hex(8))
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
    return await _whole(front.driver, asked, jobs, head)
  finally:
    for job in jobs:  # what is not finished by now nobody waits for
      front.driver.leave(job)


def _usage(jobs: list[StreamedJob]) -> Body:
  prompt, completion = sum(len(j.prompt.tokens) for j in jobs), sum(len(j.tokens) for j in jobs)
  return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _whole(driver: Driver, asked: Options, jobs: list[StreamedJob], head: Body) -> web.Response:
  choices = []
  for index, job in enumerate(jobs):
    async for _ in job.chunks():
      pass
    await asyncio.sleep(0)  # others' turn: a hundred long texts are a tenth of a second
    choices.append({"index": index, **await _said(driver, asked, job), "finish_reason": job.finish_reason})
  kind = "text_completion" if isinstance(asked, Completion) else "chat.completion"
  return web.json_response({**head, "object": kind, "choices": choices, "usage": _usage(jobs)})


async def _said(driver: Driver, asked: Options, job: StreamedJob) -> Body:
  """Text or message of a choice, and the probabilities of its tokens where they are wanted."""
  prompt, top = job.prompt.tokens, asked.top()
  scores = None if top is None else await driver.score(job)
  if not isinstance(asked, Completion):
    known = scores and logprobs.of_chat(prompt, job.tokens, scores, job.decode, top=top or 0)
    return {"message": {"role": "assistant", "content": job.text()}, "logprobs": known}
  silent = asked.echo and asked.max_tokens == 0
  text = (job.decode(prompt) if asked.echo else "") + ("" if silent else job.text())
  known = scores and logprobs.of_completion(
    prompt, job.tokens, scores, job.decode, top=top or 0, echo=asked.echo, silent=silent
  )
  return {"text": text, "logprobs": known}


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
  """Pieces of text; the last comes with the finish reason. An empty one says that the server works."""
  text = TextStream(job.decode, job.stop)
  async for tokens in job.chunks():
    if (piece := text.feed(tokens)) or not tokens:
      yield piece, None
  yield text.end(), job.finish_reason
