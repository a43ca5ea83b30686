"""The HTTP front: `/v1/completions`, `/v1/chat/completions`, `/v1/models` as in OpenAI's API; `/health`, `/metrics`.

A subset: model, prompt or messages, max_tokens, temperature, top_p, top_k, n, stop, stop_token_ids, seed, stream. What
is asked beyond it is refused where leaving it out would change the answer. `/v1` wants the bearer token, if any.
"""

import asyncio
import json
import queue
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from skymath_jax.engine.batching import UnavailableError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.server.grpc import Frontend, StreamedJob
from skymath_jax.server.metrics import metrics_text
from skymath_jax.server.text import TextStream

LARGEST_BODY = 4 << 20  # bytes
BODY_SECONDS = 30.0  # in which a body must have come
MOST_CHOICES = 128
TYPES = {
  "max_tokens": (int,),
  "max_completion_tokens": (int,),
  "temperature": (int, float),
  "top_p": (int, float),
  "top_k": (int,),
  "n": (int,),
  "seed": (int,),
  "stream": (bool,),
  "stream_options": (dict,),
  "stop": (str, list),
  "stop_token_ids": (list,),
}
REFUSED = (  # unless they say nothing: false, 0, empty
  *("tools", "functions", "logprobs", "top_logprobs", "echo", "suffix", "logit_bias", "best_of"),
  *("presence_penalty", "frequency_penalty"),
)

Body = dict[str, Any]


def app(frontend: Frontend) -> web.Application:
  """The application; `frontend` does the work."""

  async def models(_: web.Request) -> web.Response:
    model = {"id": frontend.model_id, "object": "model", "created": 0, "owned_by": "skymath"}
    return web.json_response({"object": "list", "data": [model]})

  async def health(_: web.Request) -> web.Response:
    live = frontend.driver.accepting
    return web.json_response({"status": "ok" if live else "stopping"}, status=200 if live else 503)

  async def metrics(_: web.Request) -> web.Response:
    return web.Response(text=metrics_text(frontend.driver, frontend.core), content_type="text/plain")

  @web.middleware
  async def guard(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    if request.path.startswith("/v1/") and not frontend.admits(request.headers.get("Authorization")):
      error = {
        "message": "this server wants a bearer token",
        "type": "invalid_request_error",
        "code": "invalid_api_key",
      }
      return web.json_response({"error": error}, status=401, headers={"WWW-Authenticate": "Bearer"})
    return await handler(request)

  routes = web.Application(client_max_size=LARGEST_BODY, middlewares=[_errors_as_json, guard])
  routes.add_routes(
    [
      web.get("/health", health),
      web.get("/metrics", metrics),
      web.get("/v1/models", models),
      web.post("/v1/completions", lambda request: _answer(request, frontend, chat=False)),
      web.post("/v1/chat/completions", lambda request: _answer(request, frontend, chat=True)),
    ]
  )
  return routes


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
  headers = {}
  try:
    return await handler(request)
  except web.HTTPException as error:
    status, message = error.status, error.reason
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


def _reject(what: str, key: str) -> RequestRejected:
  return RequestRejected(what, where=key, remedy="see the OpenAI API reference")


async def _body(request: web.Request) -> Body:
  try:
    async with asyncio.timeout(BODY_SECONDS):
      body = await request.json()
  except (ValueError, LookupError, RecursionError):  # no JSON, no such charset, nested without end
    raise _reject("the body is not JSON", "body") from None
  if not isinstance(body, dict):
    raise _reject("the body is not a JSON object", "body")
  body = {key: value for key, value in body.items() if value is not None}
  for key, types in TYPES.items():
    wrong = key in body and (not isinstance(body[key], types) or (isinstance(body[key], bool) and bool not in types))
    if wrong:
      raise _reject(f"{str(body[key])[:80]!r} is not a {' or '.join(t.__name__ for t in types)}", key)
  for key in REFUSED:
    if body.get(key):
      raise _reject("this server does not support it", key)
  if (form := body.get("response_format", {"type": "text"})) != {"type": "text"}:
    raise _reject(f"{str(form)[:80]} is not supported: the response is text", "response_format")
  return body


def _messages(body: Body) -> list[dict[str, str]]:
  """The messages, their contents as text."""
  messages = body.get("messages")
  if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
    raise _reject("messages must be a list of objects", "messages")
  found = []
  for message in messages:
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
      content = "".join(part["text"] for part in content)
    if not isinstance(content, str) or not isinstance(message.get("role", "user"), str):
      raise _reject("each message must have a role and a text as content", "messages")
    found.append({"role": message.get("role", "user"), "content": content})
  return found


def _prompts(body: Body, frontend: Frontend, *, chat: bool) -> list[str | list[int]]:
  if chat:
    return [frontend.chat_prompt(_messages(body))]
  prompt = body.get("prompt")
  if isinstance(prompt, str):
    return [prompt]
  if isinstance(prompt, list) and prompt and len(prompt) <= MOST_CHOICES:
    if all(type(token) is int for token in prompt):
      return [prompt]
    if all(isinstance(p, str) or (isinstance(p, list) and all(type(t) is int for t in p)) for p in prompt):
      return prompt
  raise _reject("prompt must be a text, a list of texts, or a list of token ids", "prompt")


def _sampling(body: Body, frontend: Frontend, choice: int) -> Sampling:
  """Choice `choice` of `n` gets the seed `seed + choice`; without a seed each call gets one at random."""
  stop = body.get("stop", [])
  for key, size in (("temperature", 1e3), ("top_p", 1e3)):  # JSON has integers that no float can hold
    if abs(body.get(key, 0)) > size:
      raise _reject("out of range", key)
  return Sampling(
    temperature=float(body.get("temperature", 1.0)),
    top_p=float(body.get("top_p", 1.0)),
    top_k=body.get("top_k", 0),
    max_tokens=body.get("max_completion_tokens", body.get("max_tokens", frontend.max_length)),
    stop=(stop,) if isinstance(stop, str) else tuple(stop),
    seed=body["seed"] + choice,
  )


async def _answer(request: web.Request, frontend: Frontend, *, chat: bool) -> web.StreamResponse:
  body = await _body(request)
  body.setdefault("seed", secrets.randbits(62))
  count = body.get("n", 1)
  prompts = _prompts(body, frontend, chat=chat)
  if not 1 <= count * len(prompts) <= MOST_CHOICES:
    raise _reject(f"n × prompts must be between 1 and {MOST_CHOICES}", "n")
  stops, streamed = _stop_tokens(body), body.get("stream", False)
  jobs: list[StreamedJob] = []
  try:
    for prompt in prompts:
      for choice in range(count):  # the prefix cache makes one prefill of them
        sampling = _sampling(body, frontend, choice)
        jobs.append(frontend.submit(prompt, sampling, stream=streamed, stop_tokens=stops))
    head = {"id": f"cmpl-{secrets.token_hex(8)}", "created": int(time.time()), "model": frontend.model_id}
    if streamed:
      with_usage = bool(body.get("stream_options", {}).get("include_usage", False))
      return await _stream(request, frontend, jobs, head, chat=chat, with_usage=with_usage)
    return await _whole(jobs, head, chat=chat)
  finally:
    for job in jobs:  # what is not finished by now nobody waits for
      frontend.leave(job)


def _stop_tokens(body: Body) -> list[int]:
  stops = body.get("stop_token_ids", [])
  if len(stops) > MOST_CHOICES or not all(type(token) is int for token in stops):
    raise _reject(f"it must be a list of at most {MOST_CHOICES} token ids", "stop_token_ids")
  return stops


def _usage(jobs: list[StreamedJob]) -> Body:
  prompt, completion = sum(len(j.prompt.tokens) for j in jobs), sum(len(j.tokens) for j in jobs)
  return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _whole(jobs: list[StreamedJob], head: Body, *, chat: bool) -> web.Response:
  choices = []
  for index, job in enumerate(jobs):
    async for _ in job.chunks():
      pass
    text = {"message": {"role": "assistant", "content": job.text()}} if chat else {"text": job.text()}
    choices.append({"index": index, **text, "finish_reason": job.finish_reason})
  kind = "chat.completion" if chat else "text_completion"
  return web.json_response({**head, "object": kind, "choices": choices, "usage": _usage(jobs)})


async def _stream(
  request: web.Request, frontend: Frontend, jobs: list[StreamedJob], head: Body, *, chat: bool, with_usage: bool
) -> web.StreamResponse:
  """Server-sent events, all choices interleaved, then usage if wanted, `[DONE]` last; a failure is an `error` event."""
  response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
  await response.prepare(request)
  head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}

  async def send(value: Body | str) -> None:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    await response.write(f"data: {data}\n\n".encode())

  async def one(index: int, job: StreamedJob) -> None:
    async for piece, reason in _pieces(job, frontend):
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


async def _pieces(job: StreamedJob, frontend: Frontend) -> AsyncIterator[tuple[str, str | None]]:
  """Pieces of text; the last comes with the finish reason."""
  text = TextStream(frontend.tokenizer.decode, job.stop)
  async for tokens in job.chunks():
    if piece := text.feed(tokens):
      yield piece, None
  yield text.end(), job.finish_reason
