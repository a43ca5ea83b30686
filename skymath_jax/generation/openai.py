"""Client of any endpoint that speaks OpenAI's API: OpenAI itself (the paper's GPT-4), vLLM, SGLang, our own HTTP front.

The key comes from an environment variable whose name the config holds; it is sent in one header and is cut out of every
message that a server returns.
"""

import asyncio
import email.utils
import json
import os
import random
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp

from skymath_jax.errors import UserError
from skymath_jax.generation.limits import Limits, Meter
from skymath_jax.generation.types import Request, RequestRejected, Response, Stats, as_completed, cut_at_stop

PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
AT_FAULT = {400, 413, 422}  # the request's own doing
LONGEST_PAUSE = 60.0  # seconds, also for Retry-After
LARGEST_RESPONSE = 8 << 20  # bytes


class _RetryError(Exception):
  """An attempt failed in a way that may pass.

  `pause` is what the server asked for, in seconds; `billed` says that the endpoint may charge for it all the same.
  """

  def __init__(self, what: str, pause: float | None = None, *, billed: bool = False):
    super().__init__(what)
    self.pause, self.billed = pause, billed


class OpenAIGenerator:
  """A `Generator` over HTTP.

  Args:
    base_url: up to and including `/v1`.
    model: the endpoint's name for the model.
    api_key_variable: environment variable with the key; an unset one sends no key.
    concurrency: calls under way at most.
    chat: ask `/chat/completions` with one user message; False asks `/completions` with the bare prompt.
    deadline: seconds that one attempt may take.
    attempts: how often a request is sent at most.
    first_pause: seconds before the second attempt where the server does not say.
    limits: requests and tokens a minute, prices, and the most money that may be spent.

  Attributes:
    stats: what was sent, completed and retried, and what it cost.
    meter: where the limits are kept; set `meter.spent` to what earlier runs spent of the same money.
  """

  def __init__(
    self,
    base_url: str,
    model: str,
    *,
    api_key_variable: str = "OPENAI_API_KEY",
    concurrency: int = 32,
    chat: bool = True,
    deadline: float = 600.0,
    attempts: int = 8,
    first_pause: float = 0.5,
    limits: Limits | None = None,
  ):
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
      raise UserError(
        f"{base_url!r} is no web address", where="teacher.base_url", remedy="e.g. https://api.openai.com/v1"
      )
    self.model_id, self.stats = f"{model}@{parts.hostname}", Stats()
    self._url = base_url.rstrip("/") + ("/chat/completions" if chat else "/completions")
    self._model, self._chat, self._key = model, chat, os.environ.get(api_key_variable, "")
    self._api_key_variable, self._concurrency, self._deadline = api_key_variable, concurrency, deadline
    self._attempts, self._first_pause = attempts, first_pause
    self.meter = Meter(limits or Limits())
    self._session: aiohttp.ClientSession | None = None
    self._turns: asyncio.Semaphore | None = None

  async def complete(self, request: Request) -> Response:
    """The response to one request.

    Raises:
      RequestRejected: the endpoint says that this request can never be answered.
      UserError: the key is refused, the endpoint did not answer in `attempts` attempts, or the cost ceiling is reached.
    """
    if self._session is None:
      connector = aiohttp.TCPConnector(limit=self._concurrency)
      timeout = aiohttp.ClientTimeout(total=self._deadline)
      headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
      self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
      self._turns = asyncio.Semaphore(self._concurrency)
    async with self._turns:
      for attempt in range(1, self._attempts + 1):
        try:
          response = await self._paid(request)
        except _RetryError as failure:
          if attempt == self._attempts:
            self.stats.failed += 1
            raise UserError(
              f"the endpoint failed after {attempt} attempts ({failure})",
              where=self._url,
              remedy="check that it is up, or ask it less at once (teacher.concurrency)",
            ) from None
          self.stats.retried += 1
          pause = self._first_pause * 2 ** (attempt - 1) if failure.pause is None else failure.pause
          await asyncio.sleep(min(LONGEST_PAUSE, pause) * random.uniform(1.0, 1.5))
        except UserError:
          self.stats.failed += 1
          raise
        else:
          self.stats.count(response)
          return response
    raise AssertionError("the last attempt returns or raises")

  async def _paid(self, request: Request) -> Response:
    """One attempt, once the limits let it through, and its cost."""
    ticket = await self.meter.admit(request)
    self.stats.sent += 1
    try:
      response = self._parsed(request, await self._post(self._body(request), request))
    except UserError:  # refused: nothing was generated
      self.meter.settle(ticket, prompt_tokens=0, completion_tokens=0)
      raise
    except BaseException as failure:
      if isinstance(failure, _RetryError) and not failure.billed:
        self.meter.settle(ticket, prompt_tokens=0, completion_tokens=0)
      else:
        self.meter.forfeit(ticket)
      raise
    else:
      tokens = (response.prompt_tokens, response.completion_tokens)
      known = tokens if any(tokens) else (ticket.prompt_tokens, ticket.completion_tokens)
      self.meter.settle(ticket, prompt_tokens=known[0], completion_tokens=known[1])
      return response
    finally:
      self.stats.cost = self.meter.spent

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=self._concurrency)

  async def close(self) -> None:
    """Closes the connections; a later request opens new ones."""
    session, self._session = self._session, None
    if session is not None:
      await session.close()

  def _body(self, request: Request) -> dict[str, Any]:
    s = request.sampling
    body: dict[str, Any] = {"model": self._model, "temperature": s.temperature, "max_tokens": s.max_tokens}
    body |= {"messages": [{"role": "user", "content": request.prompt}]} if self._chat else {"prompt": request.prompt}
    optional = {"top_p": (s.top_p, 1.0), "top_k": (s.top_k, 0), "stop": (list(s.stop), [])}
    body |= {name: value for name, (value, default) in optional.items() if value != default}
    return body | ({"seed": s.seed} if s.temperature > 0 else {})

  async def _post(self, body: dict[str, Any], request: Request) -> Any:
    """The JSON answer of one attempt."""
    try:
      async with self._session.post(self._url, json=body, allow_redirects=False) as answer:
        data = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
          data += chunk
          if len(data) > LARGEST_RESPONSE:
            raise RequestRejected(
              f"the answer to request {request.id} is larger than {LARGEST_RESPONSE} bytes",
              where=self._url,
              remedy="ask for fewer tokens",
            )
        status, wait = answer.status, answer.headers.get("Retry-After")
    except (aiohttp.ClientError, TimeoutError) as error:
      sent = not isinstance(error, aiohttp.ClientConnectorError)
      raise _RetryError(self._redacted(f"{type(error).__name__}: {error}"), billed=sent) from None
    if status != 200:
      raise self._failure(status, data, wait, request)
    try:
      return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
      raise _RetryError("the answer is not JSON", billed=True) from None

  def _failure(self, status: int, data: bytes, wait: str | None, request: Request) -> Exception:
    said = self._redacted(bytes(data[:500]).decode(errors="replace"))
    if status in PASSING:
      return _RetryError(f"HTTP {status}: {said}", _seconds(wait))
    if status in AT_FAULT:
      return RequestRejected(f"the endpoint refused request {request.id} (HTTP {status}: {said})", where=self._url)
    if status in (401, 403):  # what servers say here may show parts of the key
      return UserError(
        f"the endpoint refuses the key (HTTP {status})",
        where=self._url,
        remedy=f"put a valid one into the environment variable {self._api_key_variable}",
      )
    return UserError(f"the endpoint answered HTTP {status}: {said}", where=self._url, remedy="check base_url and model")

  def _parsed(self, request: Request, answer: Any) -> Response:
    try:
      choice = answer["choices"][0]
      text = choice["message"]["content"] if self._chat else choice["text"]
      usage = answer.get("usage") or {}
      text, stopped = cut_at_stop(text or "", request.sampling.stop)
      return Response(
        id=request.id,
        text=text,
        finish_reason="length" if choice.get("finish_reason") == "length" and not stopped else "stop",
        prompt_tokens=int(usage.get("prompt_tokens", 0)),
        completion_tokens=int(usage.get("completion_tokens", 0)),
      )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
      raise _RetryError("the answer has no choices", billed=True) from None

  def _redacted(self, text: str) -> str:
    return text.replace(self._key, "[key]") if self._key else text


def _seconds(wait: str | None) -> float | None:
  """`Retry-After`: seconds or a date; None where there is none that can be read."""
  if wait is None:
    return None
  try:
    return max(0.0, float(wait))
  except ValueError:
    pass
  try:
    return max(0.0, email.utils.parsedate_to_datetime(wait).timestamp() - time.time())
  except (TypeError, ValueError):
    return None
