"""Planted leaks among many clean instances: every one of the claimed classes is found, and next to nothing else.

The small version runs in the fast suite, the large one (100,000 instances, 2,000 leaks) is slow.
"""

import random
import re
from collections import Counter

import pytest

from skymath_jax import curation
from skymath_jax.records import Instance, Problem
from tests.support.curation import settings

LATEX = (
  "$x^{#}$", "$\\frac{#}{#}$", "$y = #x + #$", "$\\left(#, #\\right)$", "$\\sqrt{#}$", "$#\\%$", "$x \\leq #$", "#", "#"
)  # fmt: skip


class World:
  """Sentences of a vocabulary by Zipf's law with formulas in them."""

  def __init__(self, rng: random.Random):
    self.rng = rng
    self.words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 8))) for _ in range(3000)]
    self.weights = [1 / (rank + 4) for rank in range(3000)]

  def sentence(self, words: int) -> str:
    chosen = self.rng.choices(self.words, self.weights, k=words)
    for place in self.rng.sample(range(words), max(1, words // 5)):
      chosen[place] = self.rng.choice(LATEX)
    text = re.sub("#", lambda _: str(self.rng.randrange(2, 500)), " ".join(chosen))
    return f"{text[:1].upper()}{text[1:]}."

  def text(self, shortest: int, longest: int) -> str:
    """So many words, in sentences of about ten."""
    words = self.rng.randint(shortest, longest)
    return " ".join(self.sentence(min(10, words - done)) for done in range(0, words, 10))


def respelled(text: str, rng: random.Random) -> str:
  """The same formulas as another author would write them."""
  for old, new in (
    ("\\frac", rng.choice(["\\dfrac", "\\tfrac"])), ("\\left", ""), ("\\right", ""), ("\\leq", "\\le"), ("{", "{ "),
    ("$", rng.choice(["$", "", "$$"])), ("\\%", "%"), (" + ", "+"),
  ):  # fmt: skip
    text = text.replace(old, new)
  return re.sub(r"\^\{ (\d)\}", r"^\1", text)


def respaced(text: str, rng: random.Random) -> str:
  return "".join(rng.choice([" ", "\n", "  "]) if c == " " else c for c in rng.choice([text.upper(), text.lower()]))


LEAKS = ("verbatim", "respelled", "respaced", "embedded", "embedded respelled", "answer only", "in the response")


def leak(kind: str, problem: Problem, world: World) -> tuple[str, str]:
  """(query, response) that gives the problem away."""
  rng, question = world.rng, problem.question
  response = f"{world.text(30, 90)}\nThe answer is 3"
  around = f"{world.text(8, 20)} {{}} {world.text(8, 20)}"
  made = {
    "verbatim": (question, response),
    "respelled": (respelled(question, rng), response),
    "respaced": (respaced(question, rng), response),
    "embedded": (around.replace("{}", question, 1), response),
    "embedded respelled": (around.replace("{}", respelled(respaced(question, rng), rng), 1), response),
    "answer only": (world.text(10, 60), f"{world.text(5, 9)} {problem.solution}\nThe answer is 3"),
    "in the response": (world.text(10, 60), f"{world.text(5, 9)} {question} {world.text(20, 60)}\nThe answer is 3"),
  }
  return made[kind]


@pytest.mark.parametrize(
  ("instances", "leaks"),
  [pytest.param(4200, 140, id="small"), pytest.param(100_000, 2000, id="large", marks=pytest.mark.slow)],
)
def test_every_planted_leak_is_found_and_next_to_nothing_else(instances, leaks, capsys):
  world = World(random.Random(7))
  # as in MATH test: six in ten questions have fewer than 30 words, and no n-gram of 30 can see those
  tests = [
    Problem.create(
      "t", world.text(6, 29) if world.rng.random() < 0.6 else world.text(30, 80), solution=world.text(30, 120)
    )
    for _ in range(leaks)
  ]
  planted, rows = {}, []
  for number in range(instances):
    query, response = world.text(10, 60), f"{world.text(30, 90)}\nThe answer is 3"
    if number % (instances // leaks) == 0:
      kind = LEAKS[len(planted) % len(LEAKS)]
      query, response = leak(kind, tests[len(planted)], world)
      planted[f"{number}"] = kind
    fields = {"answer": "3", "method": "xwin", "parents": (f"s{number}",), "stage": 1}
    rows.append(Instance(id=f"{number}", query=query, response=response, **fields))
  curated = curation.curate(rows, test_sets={"t": tests}, settings=settings(near_duplicate=0))
  caught = {drop.instance.id: drop for drop in curated.dropped if drop.reason == "contamination"}
  missed = Counter(kind for id, kind in planted.items() if id not in caught)
  precision = len(caught.keys() & planted.keys()) / len(caught)
  assert not missed
  assert precision >= 0.999
  order = list(planted)
  assert all(caught[id].detail["test_row"]["index"] == order.index(id) for id in planted)  # and the right row is named
  with capsys.disabled():
    found = Counter((planted[id], caught[id].detail["kind"]) for id in planted)
    print(f"\n{instances:,} instances, {leaks:,} leaks: recall 100 %, precision {precision:.2%}")
    print(dict(sorted(found.items())))
