"""A scripted teacher: what it says depends on the prompt and the sampling seed only."""

import asyncio
import functools
import random

from skymath_jax import prompts
from skymath_jax.generation.types import Request, Response, Sampling
from skymath_jax.records import Problem

SAMPLING = Sampling(temperature=0.7, max_tokens=256)


def problems(count: int = 6, **fields) -> list[Problem]:
  return [
    Problem.create(
      "toy",
      f"Mia has {n + 2} apples. She buys {2 * n + 3} more. How many apples does Mia have now?",
      **{"answer": str(3 * n + 5), "level": n % 5 + 1, **fields},
    )
    for n in range(count)
  ]


@functools.cache
def heads() -> dict[str, str]:
  names = [name for name in prompts.names() if "/" in name and not name.endswith("_question")]
  return {name: prompts.load(name).literals[0].partition("\n\n")[0] for name in names}


def template_of(prompt: str) -> str:
  """The name of the template that `prompt` was made from."""
  return next(name for name, head in heads().items() if prompt.startswith(head))


def reply(prompt: str, seed: int) -> str:
  """A well-formed reply to any of the synthesis prompts."""
  name, dice = template_of(prompt), random.Random(f"{seed} {prompt}")
  number = dice.randrange(10, 99)
  if name in ("metamath/solve", "metamath/solve_backward"):
    return f"Work number {number} goes here.\nThe answer is {number}."
  if name == "metamath/declare":
    answer = prompt.rpartition("Answer:\n")[2].partition("\n")[0]
    return f"Mia has {answer} apples now."
  if name == "xwin/create":
    draft = f"Ann has {number} pens. How many pens is that?"
    return f"CREATED QUESTION: {draft}\nVERIFICATION AND MODIFICATION:\nFine.\nFINAL CREATED QUESTION:\n{draft}"
  if name == "xwin/solve":
    return f"SOLUTION:\nIt is {number}.\nFINAL ANSWER: {number}"
  return f"Bob has {number} books and {dice.randrange(1000)} pens. How many things has Bob?"


class Teacher:
  """Keeps the requests it got, and the most that were open at one time."""

  model_id = "toy-teacher@0"

  def __init__(self, answer=reply, *, delay: random.Random | None = None, finish_reason: str = "stop"):
    self.answer, self.delay, self.finish_reason = answer, delay, finish_reason
    self.requests: list[Request] = []
    self.open = self.most_open = 0

  async def complete(self, request: Request) -> Response:
    self.requests.append(request)
    self.open += 1
    self.most_open = max(self.most_open, self.open)
    try:
      await asyncio.sleep(self.delay.random() * 0.01 if self.delay else 0)
      text = self.answer(request.prompt, request.sampling.seed)
    finally:
      self.open -= 1
    return Response(
      id=request.id,
      text=text,
      finish_reason=self.finish_reason,
      prompt_tokens=len(request.prompt.split()),
      completion_tokens=len(text.split()),
    )

  async def close(self) -> None:
    """Nothing is open."""
