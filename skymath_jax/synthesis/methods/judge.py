"""What the teacher says of an instance when it is asked to judge: is it right, and how hard is the question?

These are the trials of Skywork section 4.3.3 (a verifier that judges path and answer; hard questions picked by a model
that thinks aloud first). Their outcome is a label in `Instance.quality`; curation decides what to make of it.

  "… so 5 + 3 = 8, as proposed.\\nThe verdict is right"  → {"verdict": True}
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from skymath_jax.records import Instance
from skymath_jax.synthesis.methods import parse
from skymath_jax.synthesis.methods.base import Ask, Rejection

_VERDICT = re.compile(r"\W*The verdict is:?\W*(right|wrong)\W*", re.IGNORECASE)
_SAME = re.compile(r"\W*The problems are:?\W*(the same|same|different)\W*", re.IGNORECASE)
_DIFFICULTY = re.compile(r"\W*The difficulty is:?\W*([1-5])\W*", re.IGNORECASE)


async def verdict(instance: Instance, ask: Ask) -> dict[str, Any]:
  """Whether the question makes sense and the answer is right, as the teacher sees it."""
  reply = await ask("judge/verify", question=instance.query, solution=instance.response)
  return {"verdict": _last_line(parse.whole(reply), _VERDICT).lower() == "right"}


async def difficulty(instance: Instance, ask: Ask) -> dict[str, Any]:
  """How hard the question is, 1 to 5, as the teacher sees it."""
  reply = await ask("judge/difficulty", question=instance.query)
  return {"difficulty": int(_last_line(parse.whole(reply), _DIFFICULTY))}


async def same_problem(instance: Instance, ask: Ask) -> dict[str, Any]:
  """Whether query and response of the instance, two questions here, are one problem, as the teacher sees it."""
  reply = await ask("judge/same_problem", first=instance.query, second=instance.response)
  return {"same": _last_line(parse.whole(reply), _SAME).lower() != "different"}


def _last_line(text: str, pattern: re.Pattern[str]) -> str:
  found = pattern.fullmatch(text.rpartition("\n")[2])
  if found is None:
    raise Rejection("no_judgement", text)
  return found[1]


JUDGES: dict[str, Callable[[Instance, Ask], Awaitable[dict[str, Any]]]] = {
  "verdict": verdict,
  "difficulty": difficulty,
  "same_problem": same_problem,
}
