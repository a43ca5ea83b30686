import asyncio
import time

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.limits import CHAT_OVERHEAD, CostCeilingReached, Limits, Meter


def request(prompt="x" * 84, max_tokens=100):
  return Request(id="1", prompt=prompt, sampling=Sampling(max_tokens=max_tokens))


WORST = 84 + CHAT_OVERHEAD + 100  # tokens of `request()` at most
PRICES = {"prices": (1e6, 1e6)}  # one unit of money a token


def test_the_ceiling_is_never_passed_and_requests_near_it_wait_for_one_another():
  meter, most = Meter(Limits(**PRICES, cost_ceiling=3 * WORST)), 0.0

  async def one():
    nonlocal most
    ticket = await meter.admit(request())
    most = max(most, meter.spent + meter.reserved)
    await asyncio.sleep(0.001)
    meter.settle(ticket, prompt_tokens=30, completion_tokens=20)

  async def run():
    return await asyncio.gather(*(one() for _ in range(30)), return_exceptions=True)

  results = asyncio.run(run())
  refused = [r for r in results if r is not None]
  # 50 a request: after 9 of them 150 is left, less than one more may cost
  assert len(results) - len(refused) == 9 and all(isinstance(r, CostCeilingReached) for r in refused)
  assert meter.spent == 9 * 50 and most <= 3 * WORST


def test_an_attempt_of_unknown_fate_counts_in_full_and_earlier_spending_counts_too():
  async def run():
    meter = Meter(Limits(**PRICES, cost_ceiling=2.5 * WORST), spent=WORST)
    meter.forfeit(await meter.admit(request()))
    assert meter.spent == 2 * WORST
    with pytest.raises(CostCeilingReached, match=r"(?s)400.*over the ceiling of 500.*raise it"):
      await meter.admit(request())

  asyncio.run(run())


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * WORST}])
def test_requests_are_paced(limits):
  async def run():
    meter, start = Meter(Limits(**limits)), time.monotonic()
    await asyncio.gather(*(meter.admit(request()) for _ in range(7)))
    return time.monotonic() - start

  assert 0.3 <= asyncio.run(run()) < 3  # the first at once, the others 50 ms apart


def test_unused_tokens_are_given_back_to_the_minute():
  async def run():
    meter, start = Meter(Limits(tokens_per_minute=60 * WORST)), time.monotonic()
    for _ in range(5):
      meter.settle(await meter.admit(request()), prompt_tokens=1, completion_tokens=1)
    return time.monotonic() - start

  assert asyncio.run(run()) < 1  # in full they would take 4 s


def test_bad_limits_are_refused():
  for bad in ({"prices": (-1.0, 0.0)}, {"requests_per_minute": float("nan")}, {"cost_ceiling": 5.0}):
    with pytest.raises(UserError, match="teacher"):
      Limits(**bad)
