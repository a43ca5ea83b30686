"""Irrelevant sentences for word problems: facts and small counts about others, which leave the answer as it is.

Skywork section 4.3.5 injects one to five into each GSM8K problem, after CMATH; the sentences here are our own. They
name persons that the problem does not name, and things that it does not ask for. The last sentence, which asks, stays
last. Five contain the four of the same seed, so the robustness curve compares like with like.

  weave(problem, 2)  "Mia has 4 pens. The bakery next door opens at 7. She buys 3 more. Esi is 9 years old. How many?"
"""

import dataclasses
import random
import re

from skymath_jax.records import Problem

PERSONS = ("Anneke", "Bashir", "Chiara", "Dmitri", "Esi", "Farouk", "Greta", "Hiroto", "Ilse", "Jarek")
SENTENCES = (
  "{name} is {a} years old.",
  "The bakery next door opens at {a} in the morning.",
  "{name} lives {b} km from the station.",
  "It takes {name} {b} minutes to walk to the library.",
  "There are {b} trees along the road.",
  "The bus that {name} takes has {b} seats.",
  "{name}'s cat weighs {a} pounds.",
  "Last week it rained on {a} days.",
  "{name} has {a} cousins who live abroad.",
  "The town hall clock strikes every {b} minutes.",
  "On the wall hangs a calendar with {b} pictures of mountains.",
  "{name} went to bed at {a} o'clock yesterday.",
  "A neighbour's garden has {b} rose bushes, {a} of them yellow.",
  "{name}'s favourite number is {b}.",
  "The radio played {a} songs this morning.",
  "Room {b} is at the end of the corridor.",
  "{name} finished page {b} of a book about whales.",
  "The river is {a} meters deep near the bridge.",
)
_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。!?])\s*")
_ABBREVIATED = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|No)\.$")


def weave(problem: Problem, count: int, rng_seed: int = 0) -> Problem:
  """`problem` with `count` distractors at random places before its last sentence; same id, so that runs can be paired.

  Args:
    problem: with a question in sentences.
    count: how many.
    rng_seed: another seed, other sentences.
  """
  rng = random.Random(f"distractors {rng_seed} {problem.id}")
  names = [name for name in PERSONS if name not in problem.question]
  sentences = _sentences(problem.question)
  for template in rng.sample(SENTENCES, len(SENTENCES))[:count]:
    told = template.format(name=rng.choice(names), a=rng.randint(2, 9), b=rng.randint(11, 60))
    sentences.insert(rng.randint(0, len(sentences) - 1), told)
  return dataclasses.replace(problem, question=" ".join(sentences))


def _sentences(text: str) -> list[str]:
  """The sentences of a text; a full stop after `Mr` or the like ends none."""
  found: list[str] = []
  for piece in filter(None, _BREAK.split(text.strip())):
    if found and _ABBREVIATED.search(found[-1]):
      found[-1] += f" {piece}"
    else:
      found.append(piece)
  return found
