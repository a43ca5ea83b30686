"""Hard by the teacher's word, then by the votes, then by the level."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story, vote


def test_the_hardest_share_of_the_queries_stays():
  rated = [
    instance(story(animal, number), parent=animal, level=level, quality=quality)
    for number, (animal, level, quality) in enumerate(
      [("horse", 5, {"difficulty": 2}), ("goose", 1, {"difficulty": 5}), ("otter", 3, {}), ("mole", 4, {})], start=3
    )
  ]

  def kept(share):
    return [i.query.split()[1] for i in curation.curate(rated, test_sets={}, settings=settings(hard=share)).kept]

  assert [kept(share) for share in (0.25, 0.5, 0.75)] == [["goose"], ["horse", "goose"], ["horse", "goose", "mole"]]
  voted = [vote("7", 1), vote("8", 2), instance(story("goose", 3), parent="t", level=5)]
  assert len(curation.curate(voted, test_sets={}, settings=settings(hard=0.5)).kept) == 2  # half are right: the harder
