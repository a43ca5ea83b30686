"""The answer that most responses give wins, and the votes stay with the instance."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story, vote


def test_a_majority_of_the_responses_decides_and_leaves_the_solve_rate():
  items = [vote("7", 1), vote("8", 2), vote("$7$", 3), vote("9", 4), instance(story("otter", 5), parent="t")]
  all_kept = curation.curate(items, test_sets={}, settings=settings()).kept
  assert [i.quality for i in all_kept] == [{"samples": 4, "solve_rate": 0.5}] * 4 + [{}]
  curated = curation.curate(items, test_sets={}, settings=settings(quality=("majority",)))
  assert [i.answer for i in curated.kept] == ["7", "$7$", "7"]
  assert [drop.reason for drop in curated.dropped] == ["minority_answer"] * 2
  said_twice = [vote("7", 1), vote("8", 2, quality={"said": 2})]
  kept = curation.curate(said_twice, test_sets={}, settings=settings(quality=("majority",))).kept
  assert [(i.answer, i.quality) for i in kept] == [("8", {"said": 2, "samples": 3, "solve_rate": 0.6667})]
  tie = curation.curate([vote("8", 1), vote("7", 2)], test_sets={}, settings=settings(quality=("majority",)))
  assert [i.answer for i in tie.kept] == ["8"]  # the first of equals


def test_where_gold_is_known_the_solve_rate_is_the_share_that_is_right():
  items = [vote("8", 1, gold_match=False), vote("8", 2, gold_match=False), vote("7", 3, gold_match=True)]
  kept = curation.curate(items, test_sets={}, settings=settings()).kept
  assert {i.quality["solve_rate"] for i in kept} == {0.3333}
