"""Files in, files out: the same as in memory, whatever the chunks and the workers; every format holds the same rows."""

import dataclasses
import gzip
import json
import random
import sys

import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from skymath_jax import curation, files, records, sft
from skymath_jax.curation import Output, stream
from skymath_jax.errors import UserError
from skymath_jax.problems import catalog
from skymath_jax.records import Instance, Problem
from tests.support.curation import ANIMALS, TEST, instance, settings, story

SETTINGS = settings(near_duplicate=0.7, quality=("majority",), responses_per_query=2)
TESTS = {"spiders": [TEST]}


def rows(count=400, leaves=60):
  """Instances with every kind of fault, duplicates and near-duplicates far apart, votes, chains of parents."""
  rng = random.Random(0)
  made = []
  for number in range(count):
    animal, answer = rng.choice(ANIMALS), rng.choice("778")
    query = story(animal, rng.randrange(2, leaves))
    fault = rng.random()
    if fault < 0.05:
      query = rng.choice(["", TEST.question.upper(), f"Now: {TEST.question} Go."])
    elif fault < 0.15:
      query = query.replace("every evening", "each evening")
    parent = rng.choice(made).id if made and rng.random() < 0.5 else f"s{number}"
    text = f"Way {rng.randrange(12)}.\nThe answer is {answer}"
    made.append(instance(query, response=text, answer=answer, parent=parent, level=rng.choice([None, 1, 5]), tokens=9))
  return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp("source") / "in.jsonl"
  records.write_lines(path, rows())
  return path


def run(source, folder, **options):
  options = {"test_sets": TESTS, "settings": SETTINGS, "output": Output(name="a set", tfds=True), **options}
  return curation.curate_files(str(source), folder, **options)


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
  folder = tmp_path_factory.mktemp("reference") / "set"
  return folder, run(source, folder)


def test_files_give_what_memory_gives(reference):
  folder, summary = reference
  curated = curation.curate(rows(), test_sets=TESTS, settings=SETTINGS)
  assert records.read(Instance, folder / "kept.jsonl") == curated.kept
  assert [row for _, row in records.read_lines(folder / "dropped.jsonl")] == [
    drop.to_json() for drop in curated.dropped
  ]
  assert summary["steps"] == curated.funnel.to_json() and summary["decontamination"] == curated.sensitivity
  assert set(summary["dropped"]) == {
    "contamination", "duplicate", "empty_query", "minority_answer", "near_duplicate", "responses_per_query"
  }  # fmt: skip
  assert summary["kept"] == len(curated.kept) > 50 and summary["in"] == 400


@pytest.mark.parametrize(("workers", "chunk_bytes"), [(1, 3000), (2, 10_000)])
def test_neither_workers_nor_chunks_change_the_outcome(source, reference, tmp_path, monkeypatch, workers, chunk_bytes):
  folder, summary = reference
  assert run(source, tmp_path / "set", workers=workers, chunk_bytes=chunk_bytes) == summary
  names = [
    "kept.jsonl",
    "dropped.jsonl",
    "summary.json",
    "card.md",
    "sft.json",
    "funnel.svg",
    "lengths.svg",
    "methods.svg",
  ]
  for name in names:
    assert (tmp_path / "set" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_a_ray_cluster_keeps_row_by_row_what_one_machine_keeps(tmp_path):
  pytest.importorskip("ray")
  records.write_lines(tmp_path / "in.jsonl", rows(20_000, leaves=2000))
  one = run(tmp_path / "in.jsonl", tmp_path / "one", workers=1)
  many = run(tmp_path / "in.jsonl", tmp_path / "many", workers=2, runner="ray", chunk_bytes=100_000)
  assert one == many and one["kept"] > 1000 and one["dropped"]["near_duplicate"] > 100
  for name in ("kept.jsonl", "dropped.jsonl", "summary.json", "card.md", "sft.json"):
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name
  (tmp_path / "bad.jsonl").write_text('{"query": "a", "response": "b"}\n{"query": 1}\n')
  with pytest.raises(UserError, match=r"bad.jsonl:2"):
    run(tmp_path / "bad.jsonl", tmp_path / "out", workers=1, runner="ray")


def test_a_runner_that_is_not_installed_is_told(source, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with pytest.raises(UserError, match=r"skymath-jax\[ray\]"):
    run(source, tmp_path / "set", runner="ray")


def test_nor_do_they_with_the_fuzzy_pass(source, tmp_path):
  retold = "Each morning a heron eats 13 leaves, and twice that each evening. How many does it eat in one week?"
  choices, tests = dataclasses.replace(SETTINGS, fuzzy=0.5), {**TESTS, "herons": [Problem.create("h", retold)]}
  options = {"workers": 2, "chunk_bytes": 10_000, "settings": choices, "test_sets": tests}
  options["output"] = Output(name="a set", yardstick=[Problem.create("s", retold[5:]), Problem.create("s", "2 + 2?")])
  found = run(source, tmp_path / "set", **options)
  curated = curation.curate(rows(), test_sets=tests, settings=choices)
  assert found["decontamination"] == curated.sensitivity and 0 < curated.sensitivity["hits"]["fuzzy"] < 200
  card = (tmp_path / "set" / "card.md").read_text()
  assert "likeness to a test question is 0.5 or more" in card and "of the seed problems it flags 1 of 2" in card
  dropped = [row for _, row in records.read_lines(tmp_path / "set" / "dropped.jsonl")]
  assert dropped == [drop.to_json() for drop in curated.dropped]


def test_several_shards_are_one_set(source, reference, tmp_path, monkeypatch):
  monkeypatch.setattr(stream, "ROWS_PER_SHARD", 40)
  summary = run(source, tmp_path / "set", chunk_bytes=4000, output=Output(name="a set", parquet=True, tfds=True))
  shards = sorted((tmp_path / "set").glob("*.array_record-*"))
  assert len(shards) > 1 and shards[0].name.endswith(f"-00000-of-{len(shards):05d}")
  data, kept = sft.open(tmp_path / "set"), records.read(Instance, tmp_path / "set" / "kept.jsonl")
  assert len(data) == summary["kept"] == len(kept)
  assert data.fingerprint == data.compute_fingerprint() == sft.open(reference[0]).fingerprint
  assert [records.from_json(Instance, row) for row in data] == kept
  builder = tfds.builder_from_directory(tmp_path / "set")
  assert [row["query"].decode() for row in builder.as_data_source("train")] == [i.query for i in kept]
  table = pyarrow.parquet.read_table(tmp_path / "set" / "parquet").to_pylist()
  assert [row["query"] for row in table] == [i.query for i in kept]
  assert json.loads(table[0]["quality"]) == kept[0].quality and table[0]["parents"] == list(kept[0].parents)
  assert {row["level"] for row in table} == {None, 1, 5}


def test_what_is_left_on_disk(reference):
  folder, summary = reference
  assert files.read_json(folder / "summary.json") == json.loads(json.dumps(summary))
  leak = next(row for _, row in records.read_lines(folder / "dropped.jsonl") if row["reason"] == "contamination")
  assert leak["test_row"] == {
    "test_set": "spiders", "index": 0, "id": TEST.id, "field": "question", "text": TEST.question
  }  # fmt: skip
  assert not list(folder.glob("*.part")) and not list(folder.glob("*.shard"))
  assert sum(summary["by_language"].values()) == sum(summary["by_level"].values()) == summary["kept"]
  assert summary["tokens"] == 9 * summary["kept"] and summary["lengths"]["tokens"]["p50"] == 9


def test_the_card_tells_origin_funnel_lengths_and_leaks(source, tmp_path):
  facts = {"teacher": "t@1", "none": "", "seed problems": ["math: 3 problems, licence MIT"]}
  yardstick = [Problem.create("s", TEST.question), Problem.create("s", "Another one?")]
  run(source, tmp_path / "set", output=Output(name="micro stage 1", facts=facts, yardstick=yardstick, tfds=True))
  card = (tmp_path / "set" / "card.md").read_text()
  assert card.startswith("# micro stage 1\n") and "- teacher: t@1" in card and "none" not in card.partition("##")[0]
  assert "- seed problems:\n  - math: 3 problems, licence MIT" in card
  assert "spiders (1 problems)" in card and "| xwin |" in card and "contamination" in card
  assert "- choices: ngram 30, fuzzy off, near_duplicate 0.7, quality majority, hard off, responses_per_query 2" in card
  assert "in other words were not looked for" in card
  assert "| 10 or more |" in card and "the seed problems (2)" in card and "1 (50.00%)" in card
  for name in ("funnel.svg", "methods.svg", "lengths.svg"):
    assert f"({name})" in card and (tmp_path / "set" / name).read_text().startswith("<svg")


def test_plain_pairs_need_no_set(tmp_path):
  items = [
    {"query": "What is 3 + 4?", "response": "It is 7.\nThe answer is 7", "extra": 1},
    {"question": "What is 3 + 5?", "solution": "It is \\boxed{8}."},
    records.to_json(instance(story("horse"))),
    {"query": TEST.question, "response": "64 \ud800"},
  ]
  (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in items))
  records.write_lines(tmp_path / "test.jsonl", [{"problem": TEST.question, "answer": 64}])
  assert [i.answer for i in curation.read_inputs((str(tmp_path / "in.jsonl"),))] == ["7", "", "7", ""]
  test_sets = {"mine": catalog.load(str(tmp_path / "test.jsonl"))}
  folder = tmp_path / "curation"
  summary = run(tmp_path / "in.jsonl", folder, test_sets=test_sets, settings=settings(), output=Output(name="mine"))
  pictures = {"funnel.svg", "lengths.svg", "methods.svg"}
  left = {path.name for path in folder.iterdir()} - {files.MARK}
  assert left == {"kept.jsonl", "dropped.jsonl", "summary.json", "card.md", *pictures}
  assert (summary["in"], summary["kept"], summary["dropped"]) == (4, 3, {"contamination": 1})
  dropped = json.loads((folder / "dropped.jsonl").read_text())
  assert dropped["query"] == TEST.question and dropped["test_row"]["test_set"] == "mine"


@pytest.mark.parametrize(
  "line", ['{"query": "q"}', '{"id": "1", "method": "m", "parents": []}', "[1]", "{", '{"query": 3, "response": ""}']
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_row_is_named_and_leaves_nothing(tmp_path, line, workers):
  (tmp_path / "in.jsonl").write_text('{"query": "q", "response": "r"}\n' * 40 + f"\n{line}\n")
  with pytest.raises(UserError, match=r"in\.jsonl:42: "):
    run(tmp_path / "in.jsonl", tmp_path / "out", workers=workers, chunk_bytes=300)
  assert not (tmp_path / "out").exists()


def test_rows_of_other_tools_are_read_or_named(tmp_path):
  own = records.to_json(instance(story("horse")))
  odd = {
    **own,
    "level": "5",
    "tokens": 12.0,
    "quality": None,
    "sampling": '{"top_p": 1, "x": "\\ud835"}',
    "gold_match": None,
  }
  records.write_lines(tmp_path / "in.jsonl", [odd])
  (found,) = curation.read_inputs(str(tmp_path / "in.jsonl"))
  assert (found.level, found.tokens, found.quality, found.sampling) == (5, 12, {}, {"top_p": 1, "x": "\ufffd"})
  for change in (
    {"query": 5},
    {"level": "hard"},
    {"quality": [1]},
    {"parents": "p"},
    {"gold_match": "yes"},
    {"x": 1},
    {"level": 1e400},
  ):
    records.write_lines(tmp_path / "in.jsonl", [own, {**own, **change}])
    with pytest.raises(UserError, match=r"in\.jsonl:2: not an Instance"):
      run(tmp_path / "in.jsonl", tmp_path / "out")


def test_what_curation_wrote_can_be_curated_again_in_any_form(source, tmp_path):
  run(source, tmp_path / "set", output=Output(name="a set", parquet=True, tfds=True))
  kept = records.read(Instance, tmp_path / "set" / "kept.jsonl")
  (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "set" / "kept.jsonl").read_bytes()))
  for name in ("set", "set/parquet", "packed.jsonl.gz"):
    assert curation.read_inputs(str(tmp_path / name)) == kept, name
    summary = run(tmp_path / name, tmp_path / "again")
    assert summary["in"] == len(kept) and summary["kept"] == len(kept)


def test_a_reader_of_the_first_megabyte_knows_the_types_of_all_columns(tmp_path, monkeypatch):
  made = [instance(story("horse", n), parent="p") for n in range(30)]
  made[20] = dataclasses.replace(made[20], level=3, thought="so")
  made[25] = dataclasses.replace(made[25], gold_match=True)
  records.write_lines(tmp_path / "in.jsonl", made)
  monkeypatch.setattr(stream, "LOOKED_AT_BYTES", 500)
  monkeypatch.setattr(stream, "ROWS_PER_SHARD", 10)
  run(tmp_path / "in.jsonl", tmp_path / "set", chunk_bytes=2000, settings=settings(near_duplicate=0), test_sets={})
  kept = records.read(Instance, tmp_path / "set" / "kept.jsonl")
  assert kept == [made[20], made[25], *made[:20], *made[21:25], *made[26:]]


def test_nothing_to_keep_is_told_with_the_reasons(tmp_path):
  records.write_lines(tmp_path / "in.jsonl", [{"query": "", "response": "r"}])
  summary = run(tmp_path / "in.jsonl", tmp_path / "set", settings=settings())
  assert summary["kept"] == 0 and (tmp_path / "set" / "dropped.jsonl").read_text().count("empty_query") == 1
  (tmp_path / "empty.jsonl").touch()
  assert run(tmp_path / "empty.jsonl", tmp_path / "set")["in"] == 0
  with pytest.raises(UserError, match="no such file"):
    run(tmp_path / "none.jsonl", tmp_path / "set")
