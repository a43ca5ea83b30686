"""What is known to be wrong goes where the filter is named."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story


def test_gold_and_verdict_drop_what_is_known_to_be_wrong_and_nothing_else():
  items = [
    instance(story(animal, number), parent=animal, gold_match=gold, quality=quality)
    for number, (animal, gold, quality) in enumerate(
      [("horse", None, {}), ("goose", True, {"verdict": False}), ("otter", False, {"verdict": True})], start=3
    )
  ]

  def reasons(*quality):
    dropped = curation.curate(items, test_sets={}, settings=settings(quality=quality)).dropped
    return [(drop.instance.gold_match, drop.reason) for drop in dropped]

  assert reasons() == []
  assert reasons("gold") == [(False, "gold_mismatch")]
  assert reasons("verdict") == [(True, "verifier_says_wrong")]
  assert reasons("gold", "verdict") == [(True, "verifier_says_wrong"), (False, "gold_mismatch")]
