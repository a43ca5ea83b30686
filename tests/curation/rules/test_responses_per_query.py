"""The first responses to a query stay."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story


def test_responses_per_query():
  items = [instance(story("horse"), response=f"Way {i}.\nThe answer is 7", parent="s") for i in range(5)]
  kept = curation.curate(items, test_sets={}, settings=settings()).kept
  assert len(kept) == 5
  assert curation.curate(items, test_sets={}, settings=settings(responses_per_query=2)).kept == kept[:2]
