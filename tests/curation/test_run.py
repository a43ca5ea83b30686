"""Curation as a whole: the funnel adds up, reasons and rows are on disk, reading names file and line."""

import dataclasses

import pytest

from skymath_jax import curation, records
from skymath_jax.curation import Settings
from skymath_jax.curation.funnel import Funnel
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem, stable_id

TEST = Problem.create(
  "test", "How many legs do seven spiders and two cats have altogether?", solution="7 * 8 + 2 * 4 = 64"
)
ANIMALS = ["horse", "goose", "beetle", "otter", "lizard", "badger", "heron", "mole"]


def instance(query, *, number=7, parent="seed", **changes):
  response = f"We count step by step and find {number}.\nThe answer is {number}"
  fields = dict(query=query, response=response, answer=str(number), method="xwin", parents=(parent,), stage=1, level=2)
  fields |= changes
  return Instance(id=stable_id(*fields.values()), **fields)


def story(animal, number=3):
  return (
    f"A {animal} eats {number} leaves every morning and twice as many every evening. How many leaves in one whole week?"
  )


@pytest.fixture
def mixed():
  good = [instance(story(animal, i), number=21 * i, parent=f"s{i}") for i, animal in enumerate(ANIMALS, start=2)]
  bad = [
    instance("", parent="a"),
    instance(story("cow"), response="no answer line", parent="b"),
    instance(TEST.question.lower(), parent="c"),
    instance("Start here. " + TEST.question.replace(" ", "\n") + " Then go.", parent="d"),
    instance(story("toad"), response=f"Remember: {TEST.question}\nThe answer is 7", parent="e"),
    instance(good[0].query.upper(), number=42, parent="f"),  # the same pair again
    instance(good[0].query.replace("every evening", "each evening"), number=42, parent="g"),  # nearly the same query
  ]
  return good, bad


def test_every_instance_is_kept_or_dropped_for_a_reason(mixed):
  good, bad = mixed
  curated = curation.curate(good + bad, test_sets={"spiders": [TEST]}, settings=Settings(near_duplicate=0.7))
  assert [i.id for i in curated.kept] == [i.id for i in good]
  expected = {"contamination": 3, "duplicate": 1, "empty_query": 1, "near_duplicate": 1, "no_answer_line": 1}
  assert curated.funnel.dropped == expected
  assert len(curated.kept) + len(curated.dropped) == len(good + bad) == curated.funnel.entered
  steps = curated.funnel.to_json()
  assert [a["out"] for a in steps[:-1]] == [b["in"] for b in steps[1:]]
  assert all(step["in"] - sum(step["dropped"].values()) == step["out"] for step in steps)
  leaks = [drop for drop in curated.dropped if drop.reason == "contamination"]
  assert [drop.detail["kind"] for drop in leaks] == ["exact", "embedded", "embedded"]
  assert {drop.detail["test_row"]["id"] for drop in leaks} == {TEST.id}
  assert curated.sensitivity["ngram_hits"] == {"10": 3, "13": 0, "30": 0}
  assert curated.sensitivity["hits_by_test_set"] == {"spiders": 3}


def test_near_duplicates_go_but_relatives_stay():
  base = story("horse")
  other = base.replace("one whole week", "a whole week")
  items = [instance(base, parent="s1"), instance(other, parent="s2"), instance(other + " Say it.", parent="s1")]
  curated = curation.curate(items, test_sets={}, settings=Settings(near_duplicate=0.6))
  assert [drop.reason for drop in curated.dropped] == ["near_duplicate"]
  assert curated.dropped[0].instance is items[1]
  assert curated.dropped[0].detail["near_duplicate_of"] == items[0].id and curated.dropped[0].detail["jaccard"] >= 0.6
  assert len(curation.curate(items, test_sets={}, settings=Settings(near_duplicate=0)).kept) == 3


def test_responses_per_query():
  items = [instance(story("horse"), response=f"Way {i}.\nThe answer is 7", parent="s") for i in range(5)]
  kept = curation.curate(items, test_sets={}, settings=Settings()).kept
  assert len(kept) == 5
  assert curation.curate(items, test_sets={}, settings=Settings(responses_per_query=2)).kept == kept[:2]


def test_tokens_are_counted_once_and_kept():
  kept = curation.curate([instance(story("horse"))], test_sets={}, settings=Settings(), tokenizer_count=len).kept
  assert kept[0].tokens == len(kept[0].query) + len(kept[0].response)


@pytest.mark.parametrize(
  "row", [{"query": "q"}, {"response": "r"}, {"query": 3, "response": "r"}, {"id": "1", "method": "m", "parents": []}]
)
def test_bad_rows_name_file_and_line(tmp_path, row):
  records.write_lines(tmp_path / "in.jsonl", [{"query": "q", "response": "r"}, row])
  with pytest.raises(UserError, match=r"in\.jsonl:2: "):
    curation.read_inputs(str(tmp_path / "in.jsonl"))
  records.write_lines(tmp_path / "test.jsonl", [{"answer": "5"}])
  with pytest.raises(UserError, match=r"test\.jsonl:1: "):
    curation.read_test_set(tmp_path / "test.jsonl")


def vote(answer, number, **changes):
  response = f"Way {number}.\nThe answer is {answer}"
  return instance(story("horse"), response=response, answer=answer, parent="s", **changes)


def test_a_majority_of_the_responses_decides_and_leaves_the_solve_rate():
  items = [vote("7", 1), vote("8", 2), vote("$7$", 3), vote("9", 4), instance(story("otter", 5), parent="t")]
  all_kept = curation.curate(items, test_sets={}, settings=Settings()).kept
  assert [i.quality for i in all_kept] == [{"samples": 4, "solve_rate": 0.5}] * 4 + [{}]
  curated = curation.curate(items, test_sets={}, settings=Settings(quality=("majority",)))
  assert [i.answer for i in curated.kept] == ["7", "$7$", "7"]
  assert [drop.reason for drop in curated.dropped] == ["minority_answer"] * 2
  said_twice = [vote("7", 1), vote("8", 2, quality={"said": 2})]
  kept = curation.curate(said_twice, test_sets={}, settings=Settings(quality=("majority",))).kept
  assert [(i.answer, i.quality) for i in kept] == [("8", {"said": 2, "samples": 3, "solve_rate": 0.6667})]
  tie = curation.curate([vote("8", 1), vote("7", 2)], test_sets={}, settings=Settings(quality=("majority",)))
  assert [i.answer for i in tie.kept] == ["8"]  # the first of equals


def test_gold_and_verdict_drop_what_is_known_to_be_wrong_and_nothing_else():
  items = [
    instance(story(animal, number), parent=animal, gold_match=gold, quality=quality)
    for number, (animal, gold, quality) in enumerate(
      [("horse", None, {}), ("goose", True, {"verdict": False}), ("otter", False, {"verdict": True})], start=3
    )
  ]

  def reasons(*quality):
    dropped = curation.curate(items, test_sets={}, settings=Settings(quality=quality)).dropped
    return [(drop.instance.gold_match, drop.reason) for drop in dropped]

  assert reasons() == []
  assert reasons("gold") == [(False, "gold_mismatch")]
  assert reasons("verdict") == [(True, "verifier_says_wrong")]
  assert reasons("gold", "verdict") == [(True, "verifier_says_wrong"), (False, "gold_mismatch")]


def test_where_gold_is_known_the_solve_rate_is_the_share_that_is_right():
  items = [vote("8", 1, gold_match=False), vote("8", 2, gold_match=False), vote("7", 3, gold_match=True)]
  kept = curation.curate(items, test_sets={}, settings=Settings()).kept
  assert {i.quality["solve_rate"] for i in kept} == {0.3333}


def test_the_hardest_share_of_the_queries_stays():
  rated = [
    instance(story(animal, number), parent=animal, level=level, quality=quality)
    for number, (animal, level, quality) in enumerate(
      [("horse", 5, {"difficulty": 2}), ("goose", 1, {"difficulty": 5}), ("otter", 3, {}), ("mole", 4, {})], start=3
    )
  ]

  def kept(share):
    return [i.query.split()[1] for i in curation.curate(rated, test_sets={}, settings=Settings(hard=share)).kept]

  assert [kept(share) for share in (0.25, 0.5, 0.75)] == [["goose"], ["horse", "goose"], ["horse", "goose", "mole"]]
  voted = [vote("7", 1), vote("8", 2), instance(story("goose", 3), parent="t", level=5)]
  assert len(curation.curate(voted, test_sets={}, settings=Settings(hard=0.5)).kept) == 2  # half are right: the harder


def test_a_funnel_cannot_lose_more_than_it_has():
  funnel = Funnel(2)
  funnel.add("first", ["a"])
  assert (funnel.left, funnel.dropped) == (1, {"a": 1})
  assert funnel.markdown().splitlines()[-1] == "| first | 2 | a 1 | 1 |"
  with pytest.raises(ValueError):
    funnel.add("second", ["b", "b"])


def test_curation_is_pure(mixed):
  good, bad = mixed
  before = [dataclasses.asdict(i) for i in good + bad]
  first, second = [curation.curate(good + bad, test_sets={"s": [TEST]}, settings=Settings()) for _ in range(2)]
  assert first.kept == second.kept and first.dropped == second.dropped and first.sensitivity == second.sensitivity
  assert [dataclasses.asdict(i) for i in good + bad] == before
