"""The HTTP front: `/v1/completions`, `/v1/chat/completions`, `/v1/models` as in OpenAI's API; `/health`, `/metrics`.

A subset: model, prompt or messages, max_tokens, temperature, top_p, top_k, n, stop, seed, stream. Chat messages are
joined by blank lines, for a base or SFT model has no chat format of its own.
"""

import asyncio
import json
import queue
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.serving.loop import UnavailableError
from skymath_jax.serving.service import Frontend, StreamedJob
from skymath_jax.serving.text import TextStream

LARGEST_BODY = 4 << 20  # bytes
MOST_CHOICES = 128
TYPES = {
  "max_tokens": (int,),
  "temperature": (int, float),
  "top_p": (int, float),
  "top_k": (int,),
  "n": (int,),
  "seed": (int,),
  "stream": (bool,),
  "stop": (str, list),
}

Body = dict[str, Any]


def app(frontend: Frontend) -> web.Application:
  """The application; `frontend` does the work."""

  async def models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": frontend.model_id, "object": "model"}]})

  async def health(_: web.Request) -> web.Response:
    live = frontend.driver.live
    return web.json_response({"status": "ok" if live else "stopping"}, status=200 if live else 503)

  async def metrics(_: web.Request) -> web.Response:
    return web.Response(text=metrics_text(frontend), content_type="text/plain")

  routes = web.Application(client_max_size=LARGEST_BODY, middlewares=[_errors_as_json])
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


def metrics_text(frontend: Frontend) -> str:
  """Prometheus text: totals as counters, slots in use and jobs waiting as gauges."""
  lines = []
  for name, value in frontend.driver.counters.read().items():
    name = f"skymath_{name if name.endswith('tokens') else f'requests_{name}'}_total"
    lines += [f"# TYPE {name} counter", f"{name} {value}"]
  for name, value in {"slots_busy": frontend.driver.busy, "requests_waiting": frontend.driver.waiting}.items():
    lines += [f"# TYPE skymath_{name} gauge", f"skymath_{name} {value}"]
  return "\n".join(lines) + "\n"


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
    body = await request.json()
  except (json.JSONDecodeError, UnicodeDecodeError):
    raise _reject("the body is not JSON", "body") from None
  if not isinstance(body, dict):
    raise _reject("the body is not a JSON object", "body")
  body = {key: value for key, value in body.items() if value is not None}
  for key, types in TYPES.items():
    wrong = key in body and (not isinstance(body[key], types) or (isinstance(body[key], bool) and bool not in types))
    if wrong:
      raise _reject(f"{body[key]!r} is not a {' or '.join(t.__name__ for t in types)}", key)
  return body


def _prompts(body: Body, *, chat: bool) -> list[str | list[int]]:
  if chat:
    messages = body.get("messages")
    good = isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)
    if not good or not all(isinstance(m.get("content"), str) for m in messages):
      raise _reject("messages must be a list of objects with a text content", "messages")
    return ["\n\n".join(message["content"] for message in messages)]
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
  return Sampling(
    temperature=float(body.get("temperature", 1.0)),
    top_p=float(body.get("top_p", 1.0)),
    top_k=body.get("top_k", 0),
    max_tokens=body.get("max_tokens", body.get("max_completion_tokens", frontend.max_length)),
    stop=(stop,) if isinstance(stop, str) else tuple(stop),
    seed=body["seed"] + choice,
  )


async def _answer(request: web.Request, frontend: Frontend, *, chat: bool) -> web.StreamResponse:
  body = await _body(request)
  body.setdefault("seed", secrets.randbits(62))
  count = body.get("n", 1)
  prompts = _prompts(body, chat=chat)
  if not 1 <= count * len(prompts) <= MOST_CHOICES:
    raise _reject(f"n × prompts must be between 1 and {MOST_CHOICES}", "n")
  jobs: list[StreamedJob] = []
  try:
    for prompt in prompts:
      for choice in range(count):
        jobs.append(frontend.submit(prompt, _sampling(body, frontend, choice), stream=bool(body.get("stream", False))))
    head = {"id": f"cmpl-{secrets.token_hex(8)}", "created": int(time.time()), "model": frontend.model_id}
    if body.get("stream", False):
      return await _stream(request, frontend, jobs, head, chat=chat)
    return await _whole(jobs, head, chat=chat)
  finally:
    for job in jobs:  # what is not finished by now nobody waits for
      job.cancelled = job.cancelled or job.finish_reason is None


async def _whole(jobs: list[StreamedJob], head: Body, *, chat: bool) -> web.Response:
  choices = []
  for index, job in enumerate(jobs):
    async for _ in job.chunks():
      pass
    text = {"message": {"role": "assistant", "content": job.text()}} if chat else {"text": job.text()}
    choices.append({"index": index, **text, "finish_reason": job.finish_reason})
  prompt, completion = sum(len(j.prompt.tokens) for j in jobs), sum(len(j.tokens) for j in jobs)
  usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
  kind = "chat.completion" if chat else "text_completion"
  return web.json_response({**head, "object": kind, "choices": choices, "usage": usage})


async def _stream(
  request: web.Request, frontend: Frontend, jobs: list[StreamedJob], head: Body, *, chat: bool
) -> web.StreamResponse:
  """Server-sent events, all choices interleaved, `[DONE]` last; a failure is an `error` event."""
  response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
  await response.prepare(request)
  head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}

  async def send(value: Body | str) -> None:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    await response.write(f"data: {data}\n\n".encode())

  async def one(index: int, job: StreamedJob) -> None:
    async for piece, reason in _pieces(job, frontend):
      text = {"delta": {"content": piece} if piece else {}} if chat else {"text": piece}
      await send({**head, "choices": [{"index": index, **text, "finish_reason": reason}]})

  try:
    await asyncio.gather(*(one(index, job) for index, job in enumerate(jobs)))
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
