"""What is always solved is left out, where several answers say so and the gold answer is known."""

from skymath_jax import curation
from tests.support.curation import instance, settings, story, vote


def kept(*items, quality=("gold", "solved")):
  curated = curation.curate(items, test_sets={}, settings=settings(quality=quality))
  return [i.response for i in curated.kept], [drop.reason for drop in curated.dropped]


def test_a_query_that_is_always_solved_goes_and_one_that_is_not_stays():
  always = [vote("7", number, gold_match=True) for number in (1, 2)]
  once = instance(story("otter", 5), parent="t", gold_match=True)
  assert kept(*always, once) == ([once.response], ["always_solved"] * 2)
  missed = vote("8", 3, gold_match=False)
  assert kept(*always, missed) == ([i.response for i in always], ["gold_mismatch"])
  assert kept(*always, quality=("gold",)) == ([i.response for i in always], [])
  assert kept(vote("7", 1, gold_match=True, quality={"said": 2})) == ([], ["always_solved"])


def test_agreement_with_no_gold_or_a_teachers_own_answer_is_no_solution():
  for known in ({"gold_match": None}, {"gold_match": True, "pseudo_gold": True}):
    agreed = [vote("7", number, **known) for number in (1, 2)]
    assert kept(*agreed) == ([i.response for i in agreed], [])
