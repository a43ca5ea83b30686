"""Instances and settings for tests of curation."""

from skymath_jax.config import Curation
from skymath_jax.curation import Settings
from skymath_jax.records import Instance, Problem, stable_id

TEST = Problem.create(
  "test", "How many legs do seven spiders and two cats have altogether?", solution="7 * 8 + 2 * 4 = 64"
)
ANIMALS = ["horse", "goose", "beetle", "otter", "lizard", "badger", "heron", "mole"]


def settings(**changes) -> Settings:
  """The defaults, with `changes`."""
  return Settings.from_config(Curation(), **changes)


def instance(query: str, *, number: int = 7, parent: str = "seed", **changes) -> Instance:
  response = f"We count step by step and find {number}.\nThe answer is {number}"
  fields = dict(query=query, response=response, answer=str(number), method="xwin", parents=(parent,), stage=1, level=2)
  fields |= changes
  return Instance(id=stable_id(*fields.values()), **fields)


def story(animal: str, number: int = 3) -> str:
  return (
    f"A {animal} eats {number} leaves every morning and twice as many every evening. How many leaves in one whole week?"
  )


def vote(answer: str, number: int, **changes) -> Instance:
  """One of several responses to a query."""
  response = f"Way {number}.\nThe answer is {answer}"
  return instance(story("horse"), response=response, answer=answer, parent="s", **changes)
