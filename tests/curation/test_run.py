"""Curation as a whole: the funnel adds up, reasons and rows are on disk, reading names file and line."""

import dataclasses

import pytest

from skymath_jax import curation, records
from skymath_jax.curation.funnel import Funnel
from skymath_jax.errors import UserError
from tests.support.curation import ANIMALS, TEST, instance, settings, story


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
  curated = curation.curate(good + bad, test_sets={"spiders": [TEST]}, settings=settings(near_duplicate=0.7))
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


@pytest.mark.parametrize(
  "row", [{"query": "q"}, {"response": "r"}, {"query": 3, "response": "r"}, {"id": "1", "method": "m", "parents": []}]
)
def test_bad_rows_name_file_and_line(tmp_path, row):
  records.write_lines(tmp_path / "in.jsonl", [{"query": "q", "response": "r"}, row])
  with pytest.raises(UserError, match=r"in\.jsonl:2: "):
    curation.read_inputs(str(tmp_path / "in.jsonl"))


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
  first, second = [curation.curate(good + bad, test_sets={"s": [TEST]}, settings=settings()) for _ in range(2)]
  assert first.kept == second.kept and first.dropped == second.dropped and first.sensitivity == second.sensitivity
  assert [dataclasses.asdict(i) for i in good + bad] == before


def test_a_filter_that_there_is_not_is_refused_with_the_nearest():
  with pytest.raises(UserError, match=r"config\.curation\.quality: no such filter: 'golden'.*'gold'"):
    curation.curate([], test_sets={}, settings=settings(quality=("golden",)))
