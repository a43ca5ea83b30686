"""A query that nearly repeats another goes, unless both come from one seed."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story


def test_near_duplicates_go_but_relatives_stay():
  base = story("horse")
  other = base.replace("one whole week", "a whole week")
  items = [instance(base, parent="s1"), instance(other, parent="s2"), instance(other + " Say it.", parent="s1")]
  curated = curation.curate(items, test_sets={}, settings=settings(near_duplicate=0.6))
  assert [drop.reason for drop in curated.dropped] == ["near_duplicate"]
  assert curated.dropped[0].instance is items[1]
  assert curated.dropped[0].detail["near_duplicate_of"] == items[0].id and curated.dropped[0].detail["jaccard"] >= 0.6
  assert len(curation.curate(items, test_sets={}, settings=settings(near_duplicate=0)).kept) == 3
