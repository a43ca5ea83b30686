"""Client of any endpoint that speaks OpenAI's API: OpenAI itself (the paper's GPT-4), vLLM, SGLang, our own HTTP front.

The `openai` package sends and receives, over aiohttp. `traffic.py` says what is asked again, when, and how much at
once; `completion.py` what an answer holds. The key comes from an environment variable whose name the config holds; it
is sent in one header and is cut out of every message that a server returns.
"""

import asyncio
import contextlib
import dataclasses
import email.utils
import math
import os
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import tenacity

from skymath_jax.config import Teacher
from skymath_jax.errors import UserError
from skymath_jax.generation import completion
from skymath_jax.generation.limits import Limits, Meter
from skymath_jax.generation.parameters import Parameters, expanded
from skymath_jax.generation.redact import redacted
from skymath_jax.generation.traffic import Failure, Kind, Traffic, Trial
from skymath_jax.generation.types import Request, RequestRejected, Response, Stats, as_completed

if TYPE_CHECKING:
  import httpx2
  from openai import AsyncOpenAI

MAX_RESPONSE_BYTES = 8 << 20
MAX_ERROR_BYTES = 64 << 10
PROBE = "What is 2 + 3?"
PROBE_SECONDS = 2.0  # between two probes
SHOWN_CHARACTERS = 200  # of what a server said
# HTTP statuses of an endpoint, or of what stands before it, that does not reach the model; 520 to 530 are Cloudflare's
DOWN = {502, 503, 504, *range(520, 531)}
BROKEN = {*range(201, 300), 408, 409, 421, 423, 424, 425, 449, 460, 499}  # and every other 5xx
# At first: key, money, address or model are wrong; later it may pass.
NEVER = {*range(300, 400), 401, 402, 404, 405, 407}
_PARAMETER = re.compile(
  r"max_completion_tokens|unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|extra_forbidden|not permitted",
  re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context.?length|context.?window|too long|too many tokens|too large|exceed", re.IGNORECASE)
_NO_MONEY = re.compile(r"insufficient_quota|billing", re.IGNORECASE)


class _Refused(Exception):
  """The endpoint answered with a status that is not 200."""

  def __init__(self, status: int, headers: Mapping[str, str], data: bytes):
    super().__init__(f"HTTP {status}")
    self.status = status
    self.headers = headers
    self.data = data


class OpenAIGenerator:
  """A `Generator` over HTTP.

  Args:
    base_url: up to and including `/v1`.
    model: the endpoint's name for the model.
    api_key_variable: environment variable with the key; an unset one sends no key.
    concurrency: calls under way at most; fewer where the endpoint does not bear so many.
    chat: ask `/chat/completions` with one user message; False asks `/completions` with the bare prompt.
    first_pause: seconds before the second attempt where the server does not say.
    limits: requests and tokens a minute, prices, and the most money that may be spent.
    parameters: what this endpoint wants otherwise.

  Attributes:
    model_id: model and extra parameters, which decide what it says; no address.
    stats: what was sent, completed and retried, and what it cost.
    meter: where the limits are kept; set `meter.spent` to what earlier runs spent of the same money.

  Raises:
    UserError: the address or the key cannot be one.
  """

  def __init__(
    self,
    base_url: str,
    model: str,
    *,
    concurrency: int,
    api_key_variable: str = Teacher.api_key_variable,
    chat: bool,
    first_pause: float = 0.5,
    limits: Limits | None = None,
    parameters: Parameters | None = None,
  ):
    self._parameters = parameters or Parameters()
    self.model_id = self._parameters.model_id(model)
    self.stats = Stats()
    self.meter = Meter(limits or Limits())
    self._base_url = checked_address(base_url)
    self._model = model
    self._chat = chat
    self._key_variable = api_key_variable
    self._key = checked_key(api_key_variable)
    self._headers = expanded(self._parameters.headers)
    self._query = expanded(self._parameters.query)
    self._concurrency = concurrency
    self._traffic = Traffic(concurrency, first_pause=first_pause)
    self._client: AsyncOpenAI | None = None
    self._probed_at = 0.0

  async def complete(self, request: Request) -> Response:
    """The response to one request.

    Raises:
      RequestRejected: the endpoint says that this request can never be answered, or fails at it again and again while
        others get through.
      UserError: the endpoint refuses every request, no request gets through any more, or the cost ceiling is reached.
    """
    trial = Trial(self._traffic, self._parameters.attempts)
    retrying = tenacity.AsyncRetrying(
      retry=tenacity.retry_if_exception_type(Failure), stop=trial.over, wait=trial.pause, reraise=True
    )
    try:
      response: Response = await retrying(self._attempt, request, trial)
    except Failure as failure:
      self.stats.failed += 1
      raise trial.verdict(failure, request_id=request.id, where=self._base_url) from None
    except UserError:
      self.stats.failed += 1
      raise
    self.stats.count(response)
    return response

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=self._concurrency)

  async def close(self) -> None:
    """Closes the connections; a later request opens new ones."""
    client = self._client
    self._client = None
    self._traffic.close()
    if self.meter.ledger is not None:
      self.meter.ledger.close()
    if client is not None:
      await client.close()

  async def _attempt(self, request: Request, trial: Trial) -> Response:
    """One attempt, once traffic and limits let it through."""
    if trial.unproven:
      await self._probe(request, trial)
    trial.sent = await self._traffic.enter(again=trial.failures > 0)
    try:
      response = await self._paid(request, retried=trial.failures > 0)
    finally:
      self._traffic.leave()
    self._traffic.succeeded()
    if not trial.failures:
      self._traffic.tried_first(failed=False)
    return response

  async def _probe(self, request: Request, trial: Trial) -> None:
    """Asks something small, now and then: an answer says that the endpoint works, and that others get through."""
    await asyncio.sleep(self._probed_at + PROBE_SECONDS - time.monotonic())
    if not trial.unproven:  # another one has asked
      return
    self._probed_at = time.monotonic()
    with contextlib.suppress(Failure, RequestRejected):
      response = await self._paid(dataclasses.replace(request, prompt=PROBE), retried=False)
      self.meter.unkept(response.prompt_tokens, response.completion_tokens)
      self._traffic.succeeded()

  async def _paid(self, request: Request, *, retried: bool) -> Response:
    """One attempt and its cost."""
    ticket = await self.meter.admit(request)
    self.stats.sent += 1
    self.stats.retried += retried
    try:
      response = await self._ask(request)
    except UserError:  # refused: nothing was generated
      self.meter.settle(ticket, prompt_tokens=0, completion_tokens=0)
      raise
    except BaseException as failure:
      if isinstance(failure, Failure) and not failure.billed:
        self.meter.settle(ticket, prompt_tokens=0, completion_tokens=0)
      else:
        self.meter.forfeit(ticket)
      raise
    else:
      self.meter.settle(ticket, prompt_tokens=response.prompt_tokens, completion_tokens=response.completion_tokens)
      return response
    finally:
      self.stats.cost = self.meter.spent

  async def _ask(self, request: Request) -> Response:
    """Sends the request once and reads the answer."""
    body = self._parameters.body_of(request, self._model, chat=self._chat)
    try:
      async with asyncio.timeout(self._parameters.seconds):
        content_type, data = await self._post(body)
    except _Refused as refused:
      raise self._refusal(refused, request, body) from None
    except TimeoutError:
      raise Failure(
        f"no answer in the {self._parameters.seconds:g} s of teacher.parameters", Kind.LOST, billed=True
      ) from None
    said = self._shown(200, content_type, data)
    try:
      answer = completion.parse(data)
      if error := completion.error_in(answer):
        kind = Kind.BUSY if error[0] == 429 and self._traffic.answered else Kind.BROKEN
        raise Failure(f"an error as an answer ({said})", kind)
      return completion.response(request, answer, answer_field=self._parameters.answer)
    except completion.NotACompletion as error:
      raise Failure(f"{error} ({said})", Kind.BROKEN, billed=True) from None

  async def _post(self, body: dict[str, Any]) -> tuple[str, bytes]:
    """(content type, content) of what came with status 200."""
    import httpx2  # with openai: more than a second
    import openai

    client = self._client or self._connect()
    named = ("model", "messages") if self._chat else ("model", "prompt")
    create: Any = (client.chat.completions if self._chat else client.completions).with_streaming_response.create
    fields = {name: body.get(name) for name in named}
    rest = {name: value for name, value in body.items() if name not in named}
    keyless = {} if self._key else {"Authorization": openai.Omit()}
    try:
      async with create(**fields, extra_body=rest, extra_headers=keyless | self._headers) as answer:
        return answer.headers.get("content-type", ""), await _read(answer.iter_bytes(), MAX_RESPONSE_BYTES)
    except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
      if isinstance(error, TimeoutError):
        raise
      cause = error.__cause__ or error
      unsent = isinstance(cause, httpx2.ConnectError | httpx2.ProxyError)
      what = self._masked(f"{type(cause).__name__}: {cause}")
      raise Failure(what, Kind.LOST, billed=not unsent) from None

  def _connect(self) -> "AsyncOpenAI":
    """Opens the client, in the event loop that uses it; proxies come from the environment."""
    import openai

    self._client = openai.AsyncOpenAI(
      base_url=self._base_url,
      api_key=self._key or "none",
      max_retries=0,
      timeout=openai.Timeout(self._parameters.seconds, connect=30.0),
      default_query=self._query,
      http_client=openai.DefaultAioHttpClient(follow_redirects=False, event_hooks={"response": [_refuse]}),
    )
    return self._client

  def _refusal(self, refused: _Refused, request: Request, body: Mapping[str, Any]) -> Exception:
    """What a status other than 200 means."""
    status = refused.status
    said = self._shown(status, refused.headers.get("content-type", ""), refused.data)
    text = refused.data.decode(errors="replace")
    if status == 429 and not _NO_MONEY.search(text):
      return Failure(said, Kind.BUSY, retry_after=_retry_after(refused.headers))
    if status in DOWN:
      return Failure(said, Kind.DOWN, retry_after=_retry_after(refused.headers))
    if status >= 500 or status in BROKEN:
      return Failure(said, Kind.BROKEN, retry_after=_retry_after(refused.headers))
    first = not self._traffic.answered
    if status == 401 and first:  # what servers say here may show parts of the key
      valid = f"put a valid one into the environment variable {self._key_variable}"
      return UserError(f"the endpoint refuses the key (HTTP {status})", where=self._base_url, remedy=valid)
    if status in NEVER and not first:  # a gateway that is set up anew, or all is over: others will tell
      return Failure(said, Kind.REFUSED, retry_after=_retry_after(refused.headers))
    if status == 429 or status in NEVER:
      return UserError(
        f"the endpoint answered {said}", where=self._base_url, remedy="check base_url, model and account"
      )
    if first and (remedy := _parameter_remedy(text, body)):
      return UserError(f"the endpoint refuses a parameter ({said})", where=self._base_url, remedy=remedy)
    return RequestRejected(f"the endpoint refused request {request.id} ({said})", where=self._base_url)

  def _shown(self, status: int, content_type: str, data: bytes) -> str:
    """`HTTP 200, text/html: <html>…`: what the server said, in one line without the key."""
    text = " ".join(self._masked(data[:MAX_ERROR_BYTES].decode(errors="replace")).split())
    text = "".join(c if c.isprintable() else "�" for c in text[:SHOWN_CHARACTERS])
    return f"HTTP {status}, {content_type.partition(';')[0] or 'no content type'}: {text or 'nothing'}"

  def _masked(self, text: str) -> str:
    """The text without key, secret headers and query."""
    return redacted(text, (self._key, *self._headers.values(), *self._query.values()))


async def _refuse(response: "httpx2.Response") -> None:
  """Ends a call whose status is not 200, with the beginning of what was said: the client would read all of it."""
  if response.status_code != 200:
    data = await _read(response.aiter_bytes(), MAX_ERROR_BYTES, cut=True)
    raise _Refused(response.status_code, response.headers, data)


async def _read(chunks: AsyncIterator[bytes], most: int, *, cut: bool = False) -> bytes:
  """All of a body, or its beginning.

  Raises:
    Failure: it has more than `most` bytes and may not be cut.
  """
  data = bytearray()
  async for chunk in chunks:
    data += chunk
    if len(data) > most:
      if cut:
        break
      raise Failure(f"the answer is larger than {most} bytes", Kind.BROKEN, billed=True)
  return bytes(data[:most])


def checked_address(base_url: str) -> str:
  """The address without a slash at its end.

  Raises:
    UserError: it is none, or holds what would be shown in messages.
  """
  parts = urllib.parse.urlsplit(base_url.strip())
  if parts.scheme not in ("http", "https") or not parts.hostname:
    raise UserError(
      f"{base_url!r} is no web address", where="teacher.base_url", remedy="e.g. https://api.openai.com/v1"
    )
  if parts.username is not None or parts.query or parts.fragment:
    raise UserError(
      "a password or a query in the address would be shown in messages",
      where=f"teacher.base_url ({parts.hostname})",
      remedy="put a key into the environment variable of teacher.api_key_variable, a query into teacher.parameters",
    )
  return parts.geturl().rstrip("/")


def checked_key(variable: str) -> str:
  """The key in the environment variable; empty where it is not set.

  Raises:
    UserError: it cannot be one.
  """
  if not re.fullmatch(r"[A-Za-z_]\w*", variable):  # a key that was put here by mistake is not shown
    what, remedy = "this is no name of an environment variable", "put the key into one, and give its name here"
    raise UserError(what, where="teacher.api_key_variable", remedy=remedy)
  key = os.environ.get(variable, "").strip()
  if not (key.isascii() and key.isprintable()) or " " in key:
    raise UserError(
      "the key holds characters that no key has", where=f"environment variable {variable}", remedy="copy it again"
    )
  return key


def _parameter_remedy(text: str, body: Mapping[str, Any]) -> str | None:
  """How to leave out or rename the field that a refusal is about; None if it is about none."""
  if _TOO_LONG.search(text):
    return None
  if "max_completion_tokens" in text and "max_tokens" in body:
    return """set --config.teacher.parameters='{"rename": {"max_tokens": "max_completion_tokens"}}'"""
  named = [name for name in body if name not in ("model", "messages", "prompt") and re.search(rf"\b{name}\b", text)]
  if named:
    return f"""set --config.teacher.parameters='{{"omit": ["{named[0]}"]}}', or give it another name by "rename\""""
  return "see teacher.parameters for names, omissions and extra fields" if _PARAMETER.search(text) else None


def _moment(text: str) -> float:
  return email.utils.parsedate_to_datetime(text).timestamp()


def _retry_after(headers: Mapping[str, str]) -> float:
  """Seconds that the endpoint asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date; 0 if none."""
  for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
    text = headers.get(name, "")
    try:
      seconds = float(text) * unit
    except ValueError:
      try:
        seconds = _moment(text) - (_moment(headers["date"]) if "date" in headers else time.time())  # by its own clock
      except (TypeError, ValueError, OverflowError):
        continue
    if math.isfinite(seconds):
      return max(0.0, seconds)
  return 0.0
