import asyncio
import subprocess
import sys

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.generation.types import as_completed, cut_at_stop
from skymath_jax.testing.tokenizers import ByteTokenizer


def test_clients_load_neither_jax_nor_tensorflow():
  code = (
    "import sys, skymath_jax.generation.jetstream, skymath_jax.generation.openai;"
    "bad = [m for m in ('jax', 'flax', 'tensorflow', 'seqio') if m in sys.modules]; assert not bad, bad"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_text_ends_at_the_first_stop():
  assert cut_at_stop("a STOP b END", ("END", "STOP")) == ("a ", True)
  assert cut_at_stop("a", ("END",)) == ("a", False)
  assert cut_at_stop("a", ()) == ("a", False)


@pytest.mark.parametrize(
  "bad", [{"stop": ("",)}, {"seed": 2**63}, {"seed": -1}, {"top_p": 1.1}, {"temperature": float("inf")}]
)
def test_sampling_refuses_what_cannot_be(bad):
  with pytest.raises(RequestRejected, match=f"{next(iter(bad))}.*out of range"):
    Sampling(**bad)


def test_requests_are_drawn_no_faster_than_answered_and_an_error_cancels_the_rest():
  drawn, running, most, cancelled = [], 0, 0, []

  def source():
    for i in range(20):
      drawn.append(i)
      yield Request(id=str(i), prompt="", sampling=Sampling())

  async def complete(request):
    nonlocal running, most
    running += 1
    most = max(most, running)
    try:
      await asyncio.sleep(0.001 if int(request.id) < 8 else 10)
      if request.id == "7":
        raise RequestRejected("no", where=request.id)
      return request.id
    except asyncio.CancelledError:
      cancelled.append(request.id)
      raise
    finally:
      running -= 1

  async def run():
    seen = []
    with pytest.raises(RequestRejected):
      async for id in as_completed(complete, source(), window=3):
        seen.append(id)
    return seen

  seen = asyncio.run(run())
  assert set(seen) <= set(map(str, range(7))) and len(seen) >= 4
  assert most == 3 and running == 0 and cancelled
  assert len(drawn) <= 8 + 3


@pytest.mark.parametrize(
  "generator",
  [
    JetStreamGenerator(["127.0.0.1:1"], ByteTokenizer(), "m", concurrency=4),
    OpenAIGenerator("http://h/v1", "m", concurrency=4, chat=True),
  ],
)
def test_two_requests_with_one_id_are_refused(generator):
  """Their responses could not be told apart; `LocalGenerator` has the same test of its own."""
  drawn = []

  def source():
    for id in "abcbd":
      drawn.append(id)
      yield Request(id=id, prompt="")

  async def complete(request):
    await asyncio.sleep(10 if request.id == "c" else 0)
    return request.id

  async def run():
    generator.complete = complete
    return [id async for id in generator.generate(source())]

  with pytest.raises(UserError, match="two requests have the id 'b'"):
    asyncio.run(run())
  assert drawn == list("abcb")
