"""Curation as a whole: the funnel adds up, reasons and rows are on disk, reading names file and line."""

import dataclasses
import json

import pytest

from skymath_jax import curation, files, records
from skymath_jax.curation import Settings
from skymath_jax.curation.funnel import Funnel
from skymath_jax.datasets import sft
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
  assert curated.kept == good
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
  assert len(curation.curate(items, test_sets={}, settings=Settings()).kept) == 5
  assert curation.curate(items, test_sets={}, settings=Settings(responses_per_query=2)).kept == items[:2]


def test_tokens_are_counted_once_and_kept():
  kept = curation.curate([instance(story("horse"))], test_sets={}, settings=Settings(), tokenizer_count=len).kept
  assert kept[0].tokens == len(kept[0].query) + len(kept[0].response)


def test_what_write_leaves(tmp_path, mixed):
  good, bad = mixed
  curated = curation.curate(good + bad, test_sets={"spiders": [TEST]}, settings=Settings())
  folder = tmp_path / "sft" / "stage1"
  summary = curation.write(
    folder, curated, name="micro stage 1", facts={"teacher": "t@1", "none": ""}, write_set=sft.write
  )
  assert files.read_json(folder / "summary.json") == summary
  assert summary["steps"][1]["dropped"] == {"contamination": 3}
  assert records.read(Instance, folder / "kept.jsonl") == curated.kept
  dropped = [row for _, row in records.read_lines(folder / "dropped.jsonl")]
  assert [row["reason"] for row in dropped] == [drop.reason for drop in curated.dropped]
  leak = next(row for row in dropped if row["reason"] == "contamination")
  assert leak["test_row"] == {
    "test_set": "spiders", "index": 0, "id": TEST.id, "field": "question", "text": TEST.question
  }  # fmt: skip
  data = sft.open(folder)
  assert [row["query"] for row in data] == [i.query for i in curated.kept]
  card = (folder / "card.md").read_text()
  assert card.startswith("# micro stage 1\n") and "- teacher: t@1" in card and "contamination 3" in card
  assert "spiders (1 problems)" in card and "| xwin |" in card


def test_stand_alone_files(tmp_path):
  rows = [
    {"query": "What is 3 + 4?", "response": "It is 7.\nThe answer is 7", "extra": 1},
    {"question": "What is 3 + 5?", "solution": "It is \\boxed{8}."},
    records.to_json(instance(story("horse"))),
    {"query": TEST.question, "response": "64"},
  ]
  records.write_lines(tmp_path / "in.jsonl", rows)
  records.write_lines(tmp_path / "test.jsonl", [{"problem": TEST.question, "answer": 64}])
  inputs = curation.read_inputs((str(tmp_path / "in.jsonl"),))
  assert [i.answer for i in inputs] == ["7", "", "7", ""]
  test_sets = {"mine": curation.read_test_set(tmp_path / "test.jsonl")}
  curated = curation.curate(inputs, test_sets=test_sets, settings=Settings())
  summary = curation.write_files(tmp_path / "curation", curated)
  assert sorted(p.name for p in (tmp_path / "curation").iterdir()) == ["dropped.jsonl", "kept.jsonl", "summary.json"]
  assert (summary["in"], summary["kept"], summary["dropped"]) == (4, 3, {"contamination": 1})
  dropped = json.loads((tmp_path / "curation" / "dropped.jsonl").read_text())
  assert dropped["query"] == TEST.question and dropped["test_row"]["test_set"] == "mine"


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
  assert first.kept == second.kept and first.dropped == second.dropped and first.summary() == second.summary()
  assert [dataclasses.asdict(i) for i in good + bad] == before
