"""For synthesis: toy problems, one pass over them, a teacher that fails for some of them."""

import asyncio

from skymath_jax.generation.types import Request, Response, Sampling
from skymath_jax.records import Problem
from skymath_jax.synthesis import METHODS, Result, Settings, synthesize
from skymath_jax.testing.teacher import ScriptedTeacher

SAMPLING = Sampling(temperature=0.7, max_tokens=256)
SETTINGS = Settings(evol_steps=3, evol_elimination=True, samples=1, prompts="plain", rounds=0)
EVERY_METHOD = {name: 1.0 for name in METHODS}


def toy_problems(count: int = 6, **fields) -> list[Problem]:
  """Stories that differ in their numbers."""
  return [
    Problem.create(
      "toy",
      f"Mia has {n + 2} apples. She buys {2 * n + 3} more. How many apples does Mia have now?",
      **{"answer": str(3 * n + 5), "level": n % 5 + 1, **fields},
    )
    for n in range(count)
  ]


def run_pass(store, teacher, problems=None, runs=EVERY_METHOD, **options) -> Result:
  """One pass over `problems` (the six toy problems); `options` as in `synthesize`."""
  options = {
    "stage": 1,
    "sampling": SAMPLING,
    "rng_seed": 7,
    "settings": SETTINGS,
    "concurrency": 8,
    "max_rejected": 1.0,
    **options,
  }
  return asyncio.run(synthesize(toy_problems() if problems is None else problems, runs, teacher, store, **options))


class Flaky(ScriptedTeacher):
  """Raises `error` for prompts that hold `word`."""

  def __init__(self, word: str, error: Exception, **options):
    super().__init__(**options)
    self.word = word
    self.error = error

  async def complete(self, request: Request) -> Response:
    if self.word in request.prompt:
      raise self.error
    return await super().complete(request)
