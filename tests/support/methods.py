"""For augmentation methods: a problem, a teacher that says what the test says, and what a method makes of it."""

import asyncio
import dataclasses
import random

import pytest

from skymath_jax import prompts
from skymath_jax.records import Problem
from skymath_jax.synthesis import METHODS, Origin, Rejection, Reply, Settings
from tests.support.synthesis import SAMPLING, SETTINGS

MIA = Problem.create("toy", "Mia has 5 apples. She buys 3 more. How many apples has she now?", answer="8", level=2)
GOOD = "5 + 3 = 8\nThe answer is 8."
XWIN = "CREATED QUESTION: Ann has 2 pens. How many?\nVERIFICATION AND MODIFICATION:\nAsk for pens.\n"
FINAL = "FINAL CREATED QUESTION:\nAnn has 2 pens.\nHow many pens?\n"


def chosen(**changes) -> Settings:
  return dataclasses.replace(SETTINGS, **{"evol_steps": 1, **changes})


class Scripted:
  """Answers with the given texts in turn; `None` is a truncated reply, an exception is raised."""

  def __init__(self, *replies, settings=None, rng_seed=0):
    self.replies, self.asked = list(replies), []
    self.rng, self.settings = random.Random(rng_seed), settings or chosen()
    self.origin = Origin(teacher="t@0", stage=1, synthesis_pass=1)

  async def __call__(self, prompt_name, /, **fields):
    self.asked.append((prompt_name, fields))
    text = self.replies.pop(0)
    if isinstance(text, Exception):
      raise text
    return Reply(
      text="5 + 3 =" if text is None else text,
      finish_reason="length" if text is None else "stop",
      prompt=prompts.load(prompt_name),
      sampling=SAMPLING,
      tokens=7,
    )


def augment(method, *replies, problem=MIA, **options):
  ask = Scripted(*replies, **options)
  made = asyncio.run(METHODS[method].augment(problem, ask))
  assert not ask.replies, "the method asked less than the script has"
  return made, ask


def refused(method, *replies, problem=MIA, **options) -> str:
  with pytest.raises(Rejection) as rejection:
    augment(method, *replies, problem=problem, **options)
  return rejection.value.reason
