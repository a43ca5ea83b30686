"""Training pairs from anywhere: mixed by weight, the same each time, told before they are used."""

import json

import pytest

from skymath_jax import sft
from skymath_jax.errors import UserError
from skymath_jax.sft import pairs
from tests.support.curation import instance, story

A = [{"query": f"a{n}", "response": "r"} for n in range(4)]
B = [{"question": f"b{n}", "answer": "s"} for n in range(4)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, made in {"a.jsonl": A, "b, c:2.jsonl": B}.items():
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in made))
  return tmp_path


def queries(text, columns=""):
  return [row["query"] for row in pairs.open(text, columns)]


def test_a_weight_says_how_often_each_row_comes_in_an_epoch(folder):
  (folder / "b.jsonl").write_text((folder / "b, c:2.jsonl").read_text())
  assert queries("a.jsonl:2,b.jsonl") == ["a0", "a0", "a1", "a1", "a2", "a2", "a3", "a3", "b0", "b1", "b2", "b3"]
  assert queries("a.jsonl:0.5,b.jsonl:.25") == ["a1", "a3", "b3"]
  assert queries("a.jsonl,a.jsonl") == queries("a.jsonl:2.0")
  assert len(pairs.open("a.jsonl:1.5")) == 6


def test_odd_names_are_read_as_they_stand_and_mixed_by_a_mapping(folder):
  assert queries("b, c:2.jsonl") == ["b0", "b1", "b2", "b3"]
  assert queries(json.dumps({"b, c:2.jsonl": 0.5, "a.jsonl": 1})) == ["b1", "b3", "a0", "a1", "a2", "a3"]


@pytest.mark.parametrize("text", ["a.jsonl:0", "a.jsonl:5000", '{"a.jsonl": "x"}', '{"a.jsonl": -1}', "{", ",", "{}"])
def test_what_is_no_mixture_is_refused(folder, text):
  with pytest.raises(UserError):
    pairs.open(text)


def test_the_fingerprint_changes_with_content_weight_and_columns(folder):
  found = {pairs.open(text, columns).fingerprint for text, columns in (("a.jsonl", ""), ("a.jsonl:2", ""))}
  found.add(pairs.open("a.jsonl", "response,query").fingerprint)
  assert pairs.open("a.jsonl").fingerprint in found and len(found) == 3
  with (folder / "a.jsonl").open("a") as file:
    file.write('{"query": "more", "response": "r"}\n')
  assert pairs.open("a.jsonl").fingerprint not in found


def test_rows_of_several_shapes_and_what_curation_made_are_read(folder):
  (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*A, *B[:1]]))
  assert queries("mixed.jsonl") == ["a0", "a1", "a2", "a3", "b0"]
  made = [instance(story("horse", n)) for n in range(3)]
  sft.write(folder / "set", made, name="a set", card="#")
  assert queries("set") == [i.query for i in made]


def test_what_is_read_is_told_with_examples(folder, capfd):
  pairs.open("a.jsonl:2").show()
  told = capfd.readouterr().err
  assert "a.jsonl is read as: query = query, response = response, 2 times an epoch; 3 examples follow" in told
  assert "query: a2" in told and "a3" not in told


def test_what_cannot_be_read_is_refused_before_anything_is_made(folder):
  (folder / "text.jsonl").write_text('{"text": "t"}\n')
  with pytest.raises(UserError, match=r"text\.jsonl:1: no query and response under usual names"):
    pairs.open("text.jsonl")
  (folder / "late.jsonl").write_text('{"query": "q", "response": "r"}\n{"query": "q"}\n')
  with pytest.raises(UserError, match=r"late\.jsonl:2: no column 'response'"):
    list(pairs.open("late.jsonl"))
  (folder / "empty.jsonl").touch()
  with pytest.raises(UserError, match="there are no rows"):
    pairs.open("empty.jsonl")
