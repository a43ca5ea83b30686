"""A test question in other words is a leak where the user asks for the check."""

from skymath_jax import curation
from skymath_jax.records import Problem
from tests.support.curation import instance, settings


def test_a_fuzzy_hit_shows_both_texts_and_the_likeness():
  problem = Problem.create("t", "Mia has 12 red apples and gives 5 of them to Tom. How many red apples has Mia left?")
  query = "After Mia, who has 12 red apples, gives Tom 5 of them, how many apples does Mia have left?"
  item = instance(query)
  assert len(curation.curate([item], test_sets={"t": [problem]}, settings=settings()).kept) == 1
  [drop] = curation.curate([item], test_sets={"t": [problem]}, settings=settings(fuzzy=0.3)).dropped
  assert drop.reason == "contamination" and drop.detail["kind"] == "fuzzy" and 0.3 < drop.detail["likeness"] < 1
  assert drop.detail["test_row"]["text"] == problem.question and drop.detail["shared"] == query
