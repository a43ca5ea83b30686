"""One sum of money for a workdir: its passes, its stages and its resumed runs stay below the ceiling together."""

import asyncio

import pytest

from skymath_jax import config, files
from skymath_jax.errors import UserError
from skymath_jax.generation import CostCeilingReached, Request, Sampling
from skymath_jax.generation.ledger import Ledger
from skymath_jax.generation.limits import Limits, Meter
from skymath_jax.recipe.teacher import Teacher
from skymath_jax.synthesis import ResponseStore
from skymath_jax.synthesis.store import StoredResponse

TEACHER = "gpt-4"


def stored(folder, key, teacher, prompt, completion):
  texts = dict.fromkeys(("problem_id", "method", "prompt_name", "prompt_hash", "prompt", "sampling", "text"), "x")
  with ResponseStore(folder / "responses.sqlite") as store:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "finish_reason": "stop", "asked_at": 1.0}
    store.put(StoredResponse(key=key, teacher=teacher, **texts, **counts))


def teacher_of(folder):
  endpoint = {"backend": "openai", "model": "gpt-4", "base_url": "https://api.example/v1"}
  prices = {"prices": (1e6, 2e6), "cost_ceiling": 1000.0}  # 1 a prompt token, 2 a new one
  return Teacher(config.Teacher(**endpoint, **prices), config.Serving(), "float32", folder)


def test_the_ceiling_counts_what_the_workdir_has_cost(tmp_path):
  stored(tmp_path / "synthesis/stage1", "a", TEACHER, 100, 50)
  stored(tmp_path / "synthesis/stage1", "b", "another@host", 9000, 9000)
  stored(tmp_path / "synthesis/stage2", "c", TEACHER, 300, 100)
  teacher = teacher_of(tmp_path)
  client = teacher.client()
  assert client.meter.spent == 100 + 2 * 50 + 300 + 2 * 100
  client.meter.unkept(100, 50)  # an attempt that brought no answer but may be charged
  asyncio.run(client.close())
  assert teacher.client().meter.spent == 900  # the next pass of the same run

  async def ask():
    client = teacher.client()
    ticket = await client.meter.admit(Request(id="1", prompt="x" * 10, sampling=Sampling(max_tokens=30)))
    client.meter.settle(ticket, prompt_tokens=10, completion_tokens=30)  # 970
    await client.meter.admit(Request(id="2", prompt="x" * 10, sampling=Sampling(max_tokens=30)))

  with pytest.raises(CostCeilingReached, match="970"):
    asyncio.run(ask())
  assert teacher_of(tmp_path).client().meter.spent >= 900 + 10 + 2 * 30  # a resumed run, after a kill


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_what_was_lost_or_in_flight_counts_in_the_next_run(tmp_path, end):
  async def run():
    meter = Meter(Limits(prices=(1e6, 1e6)), ledger=Ledger(tmp_path / "a.json", "m"))
    Ledger(tmp_path / "a.json", "another").cover(7, 7)
    tickets = [await meter.admit(Request(id="", prompt="x" * n, sampling=Sampling(max_tokens=30))) for n in range(20)]
    for ticket in tickets[:5]:
      meter.settle(ticket, prompt_tokens=9, completion_tokens=9)
    for ticket in tickets[5:8]:
      meter.forfeit(ticket)  # and twelve are under way
    if end == "in order":
      meter.ledger.close()
    return meter.spent - 5 * 18, meter.spent - 5 * 18 + meter.reserved

  lost, most = asyncio.run(run())
  found = sum(Ledger(tmp_path / "a.json", "m").lost)
  assert found == lost if end == "in order" else most <= found <= 2.5 * most
  assert Ledger(tmp_path / "a.json", "another").lost >= (7, 7)


def test_the_ledger_is_written_seldom_and_refused_where_it_is_none(tmp_path, monkeypatch):
  writes = []
  monkeypatch.setattr(files, "write_json", lambda path, value: writes.append(value))
  ledger = Ledger(tmp_path / "a.json", "m")
  for n in range(1000):
    ledger.cover(min(n, 512), 2 * min(n, 512))
  assert len(writes) < 40
  (tmp_path / "a.json").write_text('{"m": "much"}')
  with pytest.raises(UserError, match="no counts"):
    Ledger(tmp_path / "a.json", "m")


def test_a_new_workdir_begins_at_nothing(tmp_path):
  assert teacher_of(tmp_path).client().meter.spent == 0
