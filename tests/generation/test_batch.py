"""Batches: nothing asked twice, nothing lost, whatever expires, fails or is killed."""

import asyncio
import json

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.generation.batch import BatchGenerator, Journal
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.parameters import Parameters
from skymath_jax.generation.vendors import AnthropicBatches, BatchFiles, LostError, OpenAIBatches
from tests.support.batches import Vendor

FAST = {"idle_seconds": 0.05, "poll_seconds": 0.01, "concurrency": 10_000, "chat": True}


class Killed(BaseException):
  """What a kill is to the code that it meets."""


class Dies:
  """A vendor's client at which the process dies, at one of three points of its life; then it lives on."""

  def __init__(self, inner, point):
    self.inner, self.point, self.where = inner, point, inner.where

  def _die(self, point):
    if self.point == point:
      self.point = None
      raise Killed

  async def submit(self, name, rows):
    self._die("before it is sent")
    batch = await self.inner.submit(name, rows)
    self._die("before the acceptance is written down")
    return batch

  async def find(self, name, ids):
    return await self.inner.find(name, ids)

  async def results(self, batch, ids):
    found = await self.inner.results(batch, ids)
    if found is not None:
      self._die("before the answers are kept")
    return found

  async def close(self):
    await self.inner.close()


CLIENTS = {
  "openai": lambda url: OpenAIBatches(url, "key", chat=True),
  "anthropic": lambda url: AnthropicBatches(url, "key"),
}


async def answers(client, prompts, kept):
  """Asks for all prompts that are not kept yet; what comes is kept, as in the store."""

  async def one(prompt):
    kept[prompt] = await client.complete(Request(id=f"id-{prompt}", prompt=prompt, sampling=Sampling(max_tokens=4)))

  tasks = [asyncio.ensure_future(one(prompt)) for prompt in prompts if prompt not in kept]
  gathered = asyncio.gather(*tasks, return_exceptions=True)
  while not gathered.done():
    await asyncio.sleep(0.01)
    worker = client.worker
    if worker is not None and worker.done() and not worker.cancelled() and isinstance(worker.exception(), Killed):
      for task in tasks:
        task.cancel()
  return await gathered


@pytest.mark.parametrize("format_", CLIENTS)
@pytest.mark.parametrize(("count", "size"), [(500, 100), pytest.param(5000, 1000, marks=pytest.mark.slow)])
def test_batches_that_expire_fail_and_die_lose_nothing_and_pay_once(tmp_path, format_, count, size):
  vendor, kept, prompts = Vendor({1: "expired", 3: "partly"}), {}, [str(n) for n in range(count)]
  limits = Limits(prices=(1e6, 1e6))

  async def run():
    async with vendor.serving() as url:
      points = ["before it is sent", "before the acceptance is written down", "before the answers are kept", None]
      for point in points:
        client = BatchGenerator(
          Dies(CLIENTS[format_](url), point), "m", Journal(tmp_path / "b.jsonl"), batch_size=size, limits=limits, **FAST
        )
        client.meter.spent = 4.0 * len(kept)
        await answers(client, prompts, kept)
        await client.close()
      return client.meter.spent

  spent = asyncio.run(run())
  assert {prompt: response.text for prompt, response in kept.items()} == {p: f"{p}!" for p in prompts}
  assert set(vendor.answered) == set(prompts) and set(vendor.answered.values()) == {1}
  assert spent == 4 * count
  assert len(vendor.batches) in (6, 7)  # five, and what expired and failed


def test_a_refused_request_is_its_own_and_a_failure_that_stays_ends(tmp_path):
  vendor, kept = Vendor({0: "refuses", 1: "partly", 2: "partly"}), {}

  async def run():
    async with vendor.serving() as url:
      client = BatchGenerator(
        CLIENTS["openai"](url),
        "m",
        Journal(tmp_path / "b.jsonl"),
        batch_size=10,
        parameters=Parameters(attempts=1),
        **FAST,
      )
      found = await answers(client, [str(n) for n in range(20)], kept)
      await client.close()
      return found

  failed = [error for error in asyncio.run(run()) if error is not None]
  assert len(kept) == 18 and len(failed) == 2 and all(isinstance(error, RequestRejected) for error in failed)


def test_files_wait_for_somebody_elses_run(tmp_path):
  kept = {}

  async def run():
    client = BatchGenerator(BatchFiles(str(tmp_path / "f"), chat=True), "m", Journal(tmp_path / "b.jsonl"), **FAST)
    asking = asyncio.ensure_future(answers(client, ["1", "2"], kept))
    while not (found := list((tmp_path / "f").glob("*.input.jsonl"))):
      await asyncio.sleep(0.01)
    rows = [json.loads(line) for line in found[0].read_text().splitlines()]
    lines = [
      json.dumps({"custom_id": r["custom_id"], "error": None, "response": {"status_code": 200, "body": {
        "choices": [{"message": {"content": r["body"]["messages"][0]["content"] + "!"}, "finish_reason": "stop"}]
      }}}) + "\n" for r in rows
    ]  # fmt: skip
    output = found[0].with_name(found[0].name.replace("input", "output"))
    output.write_text(lines[0] + lines[1][:20])  # still being written
    await asyncio.sleep(0.1)
    assert not kept
    output.write_text("".join(lines))
    await asking
    await client.close()

  asyncio.run(run())
  assert sorted(response.text for response in kept.values()) == ["1!", "2!"]


def test_a_batch_that_the_vendor_refuses_ends_the_run_with_its_words(tmp_path):
  class Refuses(Dies):
    async def results(self, batch, ids):
      raise UserError("batch b has failed: token limit", where=self.where)

  async def run():
    async with Vendor().serving() as url:
      client = BatchGenerator(Refuses(CLIENTS["openai"](url), None), "m", Journal(tmp_path / "b.jsonl"), **FAST)
      found = await answers(client, ["1", "2"], {})
      await client.close()
      return found

  assert all("token limit" in str(error) for error in asyncio.run(run()))
  assert not Journal(tmp_path / "b.jsonl").last  # the next run asks anew


def test_a_vendor_that_cannot_be_reached_for_a_while_is_asked_again(tmp_path):
  class Flaky(Dies):
    times = 0

    async def results(self, batch, ids):
      self.times += 1
      if self.times < 4:
        raise LostError("HTTP 503")
      return await super().results(batch, ids)

  async def run(kept):
    async with Vendor().serving() as url:
      client = BatchGenerator(Flaky(CLIENTS["openai"](url), None), "m", Journal(tmp_path / "b.jsonl"), **FAST)
      await answers(client, ["1", "2"], kept)
      await client.close()
    return kept

  assert len(asyncio.run(run({}))) == 2
