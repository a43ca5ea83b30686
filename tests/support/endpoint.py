"""An OpenAI-compatible endpoint that does what a test says, in the test's own process."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.generation.parameters import Parameters

KEY = "sk-very-secret-0a1b2c3d4e"  # no four digits in a row: a port could have them


@dataclasses.dataclass
class Call:
  """One request as the endpoint saw it; `number` counts from 0."""

  number: int
  path: str
  headers: dict[str, str]
  query: dict[str, str]
  body: dict[str, Any]
  time: float
  request: web.Request

  @property
  def prompt(self) -> str:
    return self.body["messages"][-1]["content"] if "messages" in self.body else self.body["prompt"]


def completion(text: Any = "4", reason: str | None = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
  """The body of a usual answer; `message` has further fields of the message."""
  usage = {"prompt_tokens": 3, "completion_tokens": 1} if usage is None else usage
  return {"choices": [{"message": {"content": text, **message}, "finish_reason": reason}], "usage": usage}


# What an endpoint answers: a JSON object, or (status, JSON or text or bytes, headers)
Answer = dict[str, Any] | tuple[int, Any, dict[str, str]] | web.StreamResponse


@contextlib.asynccontextmanager
async def serving(answer: Callable[[Call], Answer]) -> AsyncIterator[tuple[str, list[Call]]]:
  """(base URL, the calls so far) of a running endpoint."""
  calls: list[Call] = []

  async def handle(request: web.Request) -> web.StreamResponse:
    call = Call(
      len(calls),
      request.path,
      dict(request.headers),
      dict(request.query),
      await request.json(),
      time.monotonic(),
      request,
    )
    calls.append(call)
    found = answer(call)
    if asyncio.iscoroutine(found):
      found = await found
    if isinstance(found, web.StreamResponse):
      return found
    status, body, headers = found if isinstance(found, tuple) else (200, found, {})
    if isinstance(body, str | bytes):
      data = body.encode() if isinstance(body, str) else body
      return web.Response(body=data, status=status, headers={"Content-Type": "text/plain", **headers})
    return web.json_response(body, status=status, headers=headers)

  app = web.Application(client_max_size=1 << 26)
  app.router.add_post("/v1/{rest:.*}", handle)
  runner = web.AppRunner(app)
  await runner.setup()
  await web.TCPSite(runner, "127.0.0.1", 0).start()
  try:
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", calls
  finally:
    await runner.cleanup()


def ask(answer: Callable[[Call], Answer], prompts=("2+2",), *, sampling: Sampling | None = None, how=None, **options):
  """(responses or errors, statistics, calls) of one client; `options` are those of `OpenAIGenerator`.

  Args:
    how: asks the client; all at once if None.
  """

  async def run():
    async with serving(answer) as (url, calls):
      options_ = {"first_pause": 0.001, "concurrency": 32, "chat": True, "api_key_variable": "TEST_KEY", **options}
      if isinstance(options_.get("parameters"), dict):
        options_["parameters"] = Parameters(**options_["parameters"])
      client = OpenAIGenerator(url, "gpt", **options_)
      requests = [
        Request(id=str(n), prompt=prompt, sampling=sampling or Sampling()) for n, prompt in enumerate(prompts)
      ]
      try:
        if how is not None:
          return await how(client, requests), client.stats, calls
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True), client.stats, calls
      finally:
        await client.close()

  return asyncio.run(run())


def in_turn(*answers: Answer) -> Callable[[Call], Answer]:
  """An endpoint that gives these answers one after another, the last one ever after."""
  return lambda call: answers[min(call.number, len(answers) - 1)]
