r"""A teacher without a model, for tests of methods, passes and stages: what it says is a function of what it is asked.

ScriptedTeacher()                                                # a well-formed reply to every shipped prompt
ScriptedTeacher(lambda prompt, seed: "So.\nThe answer is 1")     # a reply of your own
"""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Iterable

from skymath_jax import prompts
from skymath_jax.generation.types import Request, Response, as_completed


@functools.cache
def _beginnings() -> dict[str, str]:
  """Prompt name → its text up to the first blank line, by which a filled-in prompt is known."""
  names = [name for name in prompts.names() if "/" in name and not name.endswith("_question")]
  return {name: prompts.load(name).literals[0].partition("\n\n")[0] for name in names}


def template_of(prompt: str) -> str:
  """The name of the template that `prompt` was made from."""
  return next(name for name, beginning in _beginnings().items() if prompt.startswith(beginning))


def reply(prompt: str, seed: int) -> str:
  """A well-formed reply to any of the synthesis prompts; it depends on prompt and seed only."""
  name = template_of(prompt)
  dice = random.Random(f"{seed} {prompt}")
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


class ScriptedTeacher:
  """A `Generator` that keeps the requests it got.

  Args:
    answer: (prompt, sampling seed) → the text; it may raise what a teacher raises.
    delay: draws how long an answer takes, up to 10 ms; None answers at once.
    finish_reason: of every response.

  Attributes:
    requests: in the order in which they came.
    most_open: most requests that were open at one time.
  """

  def __init__(
    self,
    answer: Callable[[str, int], str] = reply,
    *,
    model_id: str = "toy-teacher@0",
    delay: random.Random | None = None,
    finish_reason: str = "stop",
  ):
    self.model_id = model_id
    self.requests: list[Request] = []
    self.most_open = 0
    self._answer = answer
    self._delay = delay
    self._finish_reason = finish_reason
    self._open = 0

  async def complete(self, request: Request) -> Response:
    """The response; tokens are counted as words."""
    self.requests.append(request)
    self._open += 1
    self.most_open = max(self.most_open, self._open)
    try:
      await asyncio.sleep(self._delay.random() * 0.01 if self._delay else 0)
      text = self._answer(request.prompt, request.sampling.seed)
    finally:
      self._open -= 1
    return Response(
      id=request.id,
      text=text,
      finish_reason=self._finish_reason,
      prompt_tokens=len(request.prompt.split()),
      completion_tokens=len(text.split()),
    )

  def generate(self, requests: Iterable[Request]) -> AsyncIterator[Response]:
    """Responses as they come."""
    return as_completed(self.complete, requests, window=64)

  async def close(self) -> None:
    """Nothing is open."""
