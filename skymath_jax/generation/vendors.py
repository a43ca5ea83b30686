"""Batches in the formats of OpenAI, Anthropic and vLLM's `run-batch`: submitted, found again, and read.

Each takes the rows (id, body) of a batch under a name of ours, so that a batch whose acceptance nobody has written down
can be found, and gives its results as (id, answer in OpenAI's form) or (id, `Unanswered`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp

from skymath_jax import files
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation.redact import SHOWN, redacted

MARK = "skymath"  # field of a batch's metadata that holds our name for it
ANTHROPIC_VERSION = "2023-06-01"
MAX_ERROR_BYTES = 64 << 10  # of what a refusal says that are looked at
Rows = Sequence[tuple[str, dict[str, Any]]]


class Unanswered(NamedTuple):
  """Why a request of a batch got no answer, and whether another batch may answer it."""

  why: str
  may_pass: bool


Results = dict[str, "dict[str, Any] | Unanswered"]


class LostError(Exception):
  """Nobody knows whether what was sent has arrived."""


class Vendor(Protocol):
  """Where batches go."""

  where: str

  async def submit(self, name: str, rows: Rows) -> str:
    """The vendor's id of a new batch.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    ...

  async def find(self, name: str, ids: Sequence[str]) -> str | None:
    """The id of the batch that was submitted under this name, if it has arrived.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    ...

  async def results(self, batch: str, ids: Sequence[str]) -> Results | None:
    """What has become of each request; None while the batch is under way.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    ...

  async def close(self) -> None:
    """Gives back the connections."""
    ...


class _Http:
  """JSON over HTTP, with one header that holds the key, which is shown in no message."""

  def __init__(self, base_url: str, key: str, headers: Mapping[str, str]):
    self.where = base_url.rstrip("/")
    self._key = key
    self._headers = dict(headers)
    self._session: aiohttp.ClientSession | None = None

  async def _call(self, method: str, path: str, **options: Any) -> bytes:
    """The body of an answer with status 200.

    Raises:
      LostError: no answer, or a status that passes.
      UserError: refused.
    """
    if self._session is None:
      self._session = aiohttp.ClientSession(headers=self._headers, trust_env=True)
    url = path if "://" in path else f"{self.where}{path}"
    if not url.startswith(self.where.rsplit("/v1", 1)[0] + "/"):
      raise UserError(f"the results are said to be at another host ({url[:80]})", where=self.where)
    try:
      async with self._session.request(method, url, allow_redirects=False, **options) as answer:
        data = await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
      raise LostError(redacted(f"{type(error).__name__}: {error}", [self._key])) from None
    said = f"HTTP {answer.status}: {redacted(data[:MAX_ERROR_BYTES].decode(errors='replace'), [self._key])[:200]}"
    if answer.status == 429 or answer.status >= 500:
      raise LostError(said)
    if answer.status != 200:
      raise UserError(f"the endpoint refuses batches ({said})", where=self.where, remedy="check key and model")
    return data.replace(self._key.encode(), SHOWN.encode()) if self._key else data

  async def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
    data = await self._call(method, path, **options)
    try:
      found = json.loads(data)
    except ValueError:
      raise LostError("the answer is not JSON") from None
    return found if isinstance(found, dict) else {}

  async def close(self) -> None:
    """Closes the connections."""
    if self._session is not None:
      await self._session.close()
    self._session = None


class OpenAIBatches(_Http):
  """`/files` and `/batches`."""

  def __init__(self, base_url: str, key: str, *, chat: bool):
    super().__init__(base_url, key, {"Authorization": f"Bearer {key}"} if key else {})
    self._endpoint = "/v1/chat/completions" if chat else "/v1/completions"

  async def submit(self, name: str, rows: Rows) -> str:
    """A file, and a batch of it that carries our name.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", _lines(rows, self._endpoint), filename=f"{name}.jsonl", content_type="application/jsonl")
    file = await self._json("POST", "/files", data=form)
    body = {"input_file_id": file.get("id"), "endpoint": self._endpoint, "completion_window": "24h"}
    return str((await self._json("POST", "/batches", json={**body, "metadata": {MARK: name}})).get("id"))

  async def find(self, name: str, ids: Sequence[str]) -> str | None:
    """By the name in its metadata.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    after = ""
    while True:
      page = await self._json("GET", f"/batches?limit=100{after}")
      found = page.get("data") or []
      for batch in found:
        if (batch.get("metadata") or {}).get(MARK) == name:
          return str(batch["id"])
      if not page.get("has_more") or not found:
        return None
      after = f"&after={found[-1]['id']}"

  async def results(self, batch: str, ids: Sequence[str]) -> Results | None:
    """Output and error file, when it has ended; what stands in neither has expired.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    state = await self._json("GET", f"/batches/{batch}")
    status = state.get("status")
    if status in ("failed", "cancelled"):
      raise _ended(self.where, batch, f"{status}: {json.dumps(state.get('errors'))[:300]}")
    if status not in ("completed", "expired"):
      return None
    found: Results = {}
    for file in filter(None, (state.get("output_file_id"), state.get("error_file_id"))):
      found |= _read(await self._call("GET", f"/files/{file}/content"))
    return {id_: found.get(id_, Unanswered(f"the batch is {status} without it", may_pass=True)) for id_ in ids}


class AnthropicBatches(_Http):
  """`/messages/batches`."""

  def __init__(self, base_url: str, key: str):
    super().__init__(base_url, key, {"x-api-key": key, "anthropic-version": ANTHROPIC_VERSION})

  async def submit(self, name: str, rows: Rows) -> str:
    """All requests in one body.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    requests = [{"custom_id": id_, "params": _for_anthropic(body)} for id_, body in rows]
    return str((await self._json("POST", "/messages/batches", json={"requests": requests})).get("id"))

  async def find(self, name: str, ids: Sequence[str]) -> str | None:
    """There is no name to find it by: the ended batch that has results of these requests.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    for batch in (await self._json("GET", "/messages/batches?limit=100")).get("data") or []:
      if sum((batch.get("request_counts") or {}).values()) != len(ids):
        continue
      if (found := await self._rows(str(batch["id"]))) is None:
        raise LostError("a batch is under way that may be the one whose acceptance was not written down")
      if set(ids) <= found.keys():
        return str(batch["id"])
    return None

  async def results(self, batch: str, ids: Sequence[str]) -> Results | None:
    """Its results, when it has ended.

    Raises:
      LostError: nobody knows whether it arrived, or no answer came.
      UserError: the vendor refuses.
    """
    found = await self._rows(batch)
    lost = Unanswered("the batch has ended without it", may_pass=True)
    return None if found is None else {id_: found.get(id_, lost) for id_ in ids}

  async def _rows(self, batch: str) -> Results | None:
    state = await self._json("GET", f"/messages/batches/{batch}")
    if state.get("processing_status") != "ended":
      return None
    return _read(await self._call("GET", str(state.get("results_url") or f"/messages/batches/{batch}/results")))


class BatchFiles:
  """Files for `vllm run-batch -i NAME.input.jsonl -o NAME.output.jsonl`, which somebody starts; nothing is sent."""

  def __init__(self, folder: str, *, chat: bool):
    self.where = folder
    self._folder = Path(folder)
    self._endpoint = "/v1/chat/completions" if chat else "/v1/completions"

  async def submit(self, name: str, rows: Rows) -> str:
    """Leaves the input file, and says what is to be done with it.

    Raises:
      UserError: the disk takes no more.
    """
    self._folder.mkdir(parents=True, exist_ok=True)
    path = self._folder / f"{name}.input.jsonl"
    files.write_text(path, _lines(rows, self._endpoint).decode())
    log(f"waiting for: vllm run-batch -i {path} -o {self._folder}/{name}.output.jsonl --model …")
    return name

  async def find(self, name: str, ids: Sequence[str]) -> str | None:
    """By the input file."""
    return name if (self._folder / f"{name}.input.jsonl").exists() else None

  async def results(self, batch: str, ids: Sequence[str]) -> Results | None:
    """Those of the output file, when it is whole."""
    path = self._folder / f"{batch}.output.jsonl"
    found = _read(path.read_bytes()) if path.exists() else {}
    return {id_: found[id_] for id_ in ids} if set(ids) <= found.keys() else None

  async def close(self) -> None:
    """There is nothing to close."""


def _lines(rows: Rows, endpoint: str) -> bytes:
  lines = ({"custom_id": id_, "method": "POST", "url": endpoint, "body": body} for id_, body in rows)
  return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _read(data: bytes) -> Results:
  """The results in JSON lines of any of the formats; a line that is cut off or none of ours is left out."""
  found: Results = {}
  for line in data.decode("utf-8", "replace").splitlines():
    try:
      row = json.loads(line)
      found[str(row["custom_id"])] = _result(row)
    except (ValueError, KeyError, TypeError, AttributeError):
      continue
  return found


def _result(row: Mapping[str, Any]) -> dict[str, Any] | Unanswered:
  if (result := row.get("result")) is not None:  # Anthropic's
    if result["type"] == "succeeded":
      message = result["message"]
      choice = {"message": {"content": message["content"]}, "finish_reason": message["stop_reason"]}
      return {"choices": [choice], "usage": message.get("usage")}
    kind = ((result.get("error") or {}).get("error") or {}).get("type")
    return Unanswered(json.dumps(result)[:300], may_pass=kind != "invalid_request_error")
  response = row.get("response") or {}
  status = response.get("status_code") or 0
  if status == 200 and isinstance(response.get("body"), dict):
    return dict(response["body"])
  why = json.dumps(row.get("error") or response.get("body"))[:300]
  return Unanswered(f"HTTP {status}: {why}", may_pass=not 400 <= status < 500 or status in (408, 409, 429))


def _for_anthropic(body: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters of a message; there are no seeds, and stop texts have another name."""
  names = {"stop": "stop_sequences"}
  return {names.get(name, name): value for name, value in body.items() if name != "seed"}


def _ended(where: str, batch: str, what: str) -> UserError:
  return UserError(f"batch {batch} has {what}", where=where, remedy="put right what it says, then run the same command")
