"""A `Generator` that asks in batches, at half the price and within a day: `teacher.backend=batch`.

Requests are collected while more come, then go out as one batch; an answer arrives with its batch. What is submitted is
written to a journal before and after, so that a run that was killed at any moment finds its batches again and submits
nothing twice: a batch whose acceptance was not written down is looked for at the vendor by the name it was given. A
request that expired or failed for a reason that may pass goes out again with the next batch.
"""

import asyncio
import collections
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation import completion
from skymath_jax.generation.limits import Limits, Meter, Ticket
from skymath_jax.generation.parameters import Parameters
from skymath_jax.generation.types import Request, RequestRejected, Response, Stats, as_completed
from skymath_jax.generation.vendors import LostError, Results, Unanswered, Vendor

BATCH_SIZE = 5_000  # requests; vendors take 50,000 and more
IDLE_SECONDS = 3.0  # without a new request, after which what is collected goes out
POLL_SECONDS = 30.0
PATIENCE = 20  # attempts in a row without an answer from the vendor


class Journal:
  """What was submitted, one JSON object a line: {"name", "ids"} before, {"name", "batch"} after.

  Args:
    path: of the file.
    written: called when a line is on disk.

  Attributes:
    ids: name → ids of its requests.
    batches: name → the vendor's id; a name without one may or may not have arrived.
    last: id of a request → name of the batch that it was last in.
    tries: id → batches that it was in.
  """

  def __init__(self, path: os.PathLike[str], written: Callable[[], None] = lambda: None):
    self._path, self._written = Path(path), written
    self.ids: dict[str, list[str]] = {}
    self.batches: dict[str, str] = {}
    self.last: dict[str, str] = {}
    self.tries: collections.Counter[str] = collections.Counter()
    for line in self._path.read_text().splitlines() if self._path.exists() else ():
      with contextlib.suppress(ValueError):  # a line that a kill has cut off
        self._take(json.loads(line))

  def _take(self, row: dict[str, object]) -> None:
    name = str(row["name"])
    if "batch" in row:
      self.batches[name] = str(row["batch"])
    elif row.get("void"):
      for id_ in self.ids.pop(name, []):
        self.tries[id_] -= 1
        if self.last.get(id_) == name:
          del self.last[id_]
    elif isinstance(ids := row["ids"], list):
      self.ids[name] = ids
      self.last |= dict.fromkeys(ids, name)
      self.tries.update(ids)

  def write(self, **row: object) -> None:
    """Adds a line, durably."""
    self._path.parent.mkdir(parents=True, exist_ok=True)
    torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n") and self._path.stat().st_size > 0
    with self._path.open("a") as file:
      file.write(("\n" if torn else "") + json.dumps(row) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self._written()
    self._take(row)


class BatchGenerator:
  """A `Generator` over a vendor's batches; ids of requests must be stable over runs.

  Args:
    vendor: takes the batches.
    model: the vendor's name for the model.
    journal: holds what was submitted.
    chat: one user message; False asks with the bare prompt.
    concurrency: requests that may wait for their batch at one time.
    batch_size, idle_seconds, poll_seconds: when a batch is full, when it goes out, how often it is looked after.
    limits: prices and the most money that may be spent.
    parameters: what the vendor wants otherwise.

  Attributes:
    model_id, stats, meter: as of `OpenAIGenerator`.
    worker: the task that submits and looks after batches, once there was a request.
  """

  def __init__(
    self,
    vendor: Vendor,
    model: str,
    journal: Journal,
    *,
    concurrency: int,
    chat: bool,
    batch_size: int = BATCH_SIZE,
    idle_seconds: float = IDLE_SECONDS,
    poll_seconds: float = POLL_SECONDS,
    limits: Limits | None = None,
    parameters: Parameters | None = None,
  ):
    self._parameters = parameters or Parameters()
    self.model_id = self._parameters.model_id(model)
    self.stats = Stats()
    self.meter = Meter(limits or Limits())
    self._vendor = vendor
    self._model = model
    self._chat = chat
    self._journal = journal
    self._concurrency = concurrency
    self._batch_size = batch_size
    self._idle = idle_seconds
    self._poll = poll_seconds
    self._queue: dict[str, Request] = {}
    self._waiting: dict[str, tuple[Request, asyncio.Future[Response]]] = {}
    self._results: Results = {}
    self._read: set[str] = set()  # names of batches that have been read
    self.worker: asyncio.Task[None] | None = None
    self._came = asyncio.Event()

  async def complete(self, request: Request) -> Response:
    """The response, when its batch is done.

    Raises:
      RequestRejected: the vendor refuses this request, or it failed in as many batches as `parameters.attempts`.
      UserError: the vendor refuses batches, or the cost ceiling is reached.
    """
    ticket: Ticket = await self.meter.admit(request)
    future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    self._waiting[request.id] = request, future
    if request.id not in self._journal.last:
      self._queue[request.id] = request
    self._came.set()
    if self.worker is None or self.worker.done():
      self.worker = asyncio.create_task(self._work())
    try:
      response = await future
    except BaseException as error:
      self.stats.failed += isinstance(error, UserError)
      self.meter.settle(ticket, prompt_tokens=0, completion_tokens=0)
      raise
    finally:
      self._waiting.pop(request.id, None)
      self._queue.pop(request.id, None)
    self.meter.settle(ticket, prompt_tokens=response.prompt_tokens, completion_tokens=response.completion_tokens)
    self.stats.count(response)
    self.stats.cost = self.meter.spent
    return response

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as their batches end."""
    return as_completed(self.complete, requests, window=self._concurrency)

  async def close(self) -> None:
    """Gives back the connections; batches under way go on at the vendor."""
    if self.worker is not None:
      self.worker.cancel()
      await asyncio.gather(self.worker, return_exceptions=True)
    await self._vendor.close()

  async def _work(self) -> None:
    """Collects, submits, looks after batches and hands out what they bring, while anybody waits."""
    lost = 0
    while self._waiting:
      try:
        await self._collect()
        await self._settle_intents()
        await self._submit()
        if not await self._look():
          with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._came.wait(), self._poll)
        lost = 0
      except LostError as error:
        lost += 1
        log(f"warning: no answer about batches ({error}), attempt {lost} of {PATIENCE}")
        if lost >= PATIENCE:
          self._fail(UserError(f"no answer about batches ({error})", where=self._vendor.where))
        await asyncio.sleep(self._poll)
      except UserError as error:
        self._fail(error)

  def _fail(self, error: UserError) -> None:
    for _, future in list(self._waiting.values()):
      if not future.done():
        future.set_exception(error)
    self._waiting.clear()
    self._queue.clear()

  async def _collect(self) -> None:
    """Waits while requests keep coming, up to a full batch."""
    while self._queue and len(self._queue) < self._batch_size:
      self._came.clear()
      try:
        await asyncio.wait_for(self._came.wait(), self._idle)
      except TimeoutError:
        return
    self._came.clear()

  async def _settle_intents(self) -> None:
    """Finds out whether batches arrived of which that was not written down."""
    for name in [name for name in self._journal.ids if name not in self._journal.batches]:
      batch = await self._vendor.find(name, self._journal.ids[name])
      if batch is not None:
        self._journal.write(name=name, batch=batch)
        continue
      ids = self._journal.ids[name]
      self._journal.write(name=name, void=True)
      self._queue |= {id_: self._waiting[id_][0] for id_ in ids if id_ in self._waiting}

  async def _submit(self) -> None:
    while self._queue:
      chosen = [self._queue[id_] for id_ in list(self._queue)[: self._batch_size]]
      rows = [(r.id, self._parameters.body_of(r, self._model, chat=self._chat)) for r in chosen]
      name = f"skymath-{secrets.token_hex(8)}"
      self._journal.write(name=name, ids=[request.id for request in chosen])
      for request in chosen:
        del self._queue[request.id]
      self._journal.write(name=name, batch=await self._vendor.submit(name, rows))
      self.stats.sent += len(chosen)
      log(f"batch of {len(chosen):,} requests: {self._journal.batches[name]}")

  async def _look(self) -> bool:
    """Reads the batches that somebody waits for; whether anything was handed out or queued again."""
    wanted = {self._journal.last[id_] for id_ in self._waiting if id_ in self._journal.last}
    for name in [name for name in wanted if name not in self._read]:
      try:
        found = await self._vendor.results(self._journal.batches[name], self._journal.ids[name])
      except UserError:  # it was refused or cancelled: the next run asks anew
        self._journal.write(name=name, void=True)
        raise
      if found is not None:
        self._read.add(name)
        self._results |= {id_: result for id_, result in found.items() if self._journal.last.get(id_) == name}
    ready = [id_ for id_ in self._waiting if id_ in self._results]
    for id_ in ready:
      self._hand_out(id_, self._results.pop(id_))
    return bool(ready)

  def _hand_out(self, id_: str, result: "dict[str, object] | Unanswered") -> None:
    request, future = self._waiting[id_]
    if not isinstance(result, Unanswered):
      try:
        response = completion.response(request, result, answer_field=self._parameters.answer)
        if not future.done():
          future.set_result(response)
        self._waiting.pop(id_)
        return
      except completion.NotACompletion as error:
        result = Unanswered(str(error), may_pass=True)
    if result.may_pass and self._journal.tries[id_] < self._parameters.attempts:
      self._queue[id_] = request
      self.stats.retried += 1
      return
    self._waiting.pop(id_)
    if not future.done():
      future.set_exception(
        RequestRejected(f"request {id_} got no answer in its batch ({result.why})", where=self._vendor.where)
      )
