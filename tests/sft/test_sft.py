"""The SFT set survives a round trip, equals itself in any number of files, and needs no TensorFlow."""

import json
import pickle
import subprocess
import sys

import grain
import pytest

from skymath_jax import records, sft
from skymath_jax.errors import UserError
from skymath_jax.records import Instance


def make(count):
  return [
    Instance(
      id=f"{i:016x}",
      query=f"What is {i} + ½ of $\\frac{{{i}}}{{2}}$?",
      response=f"Line one\nThe answer is {i}",
      answer=str(i),
      method="metamath.fobar" if i % 2 else "xwin",
      parents=("a", "b")[: i % 3],
      stage=1 + i % 2,
      synthesis_pass=2 - i % 2,
      teacher="t@1",
      sampling={"temperature": 0.7, "seed": i, "stop": None},
      prompt={"name": "xwin/solve", "hash": "0" * 16},
      gold_match=(None, True, False)[i % 3],
      pseudo_gold=i % 5 == 0,
      level=None if i % 4 == 0 else i % 4,
      tokens=None if i % 7 == 0 else i,
    )
    for i in range(count)
  ]


@pytest.mark.parametrize("shards", [1, 3])
def test_round_trip(tmp_path, shards):
  instances = make(50)
  sft.write(tmp_path / "set", instances, name="a name", card="# card", shards=shards)
  data = sft.open(tmp_path / "set")
  assert len(data) == 50 and data.name == "a name" and (tmp_path / "set" / "card.md").read_text() == "# card"
  assert [records.from_json(Instance, data[i]) for i in range(50)] == instances
  assert data[-1] == data[49] and data.__getitems__([3, 3, 1]) == [data[3], data[3], data[1]]
  assert len(list((tmp_path / "set").glob("*.array_record-*"))) == shards
  with pytest.raises(IndexError):
    data[50]
  assert [row["id"] for row in data] == [i.id for i in instances]


def test_fingerprint_depends_on_rows_and_order_only(tmp_path):
  instances = make(20)
  prints = []
  for number, (rows, shards) in enumerate([(instances, 1), (instances, 4), (instances[::-1], 1), (instances[:19], 1)]):
    sft.write(tmp_path / str(number), rows, name=f"n{number}", card="", shards=shards)
    data = sft.open(tmp_path / str(number))
    assert data.compute_fingerprint() == data.fingerprint
    prints.append(data.fingerprint)
  assert prints[0] == prints[1] and len(set(prints)) == 3


def test_replaces_an_older_set_whole(tmp_path):
  sft.write(tmp_path / "set", make(30), name="old", card="", shards=5)
  sft.write(tmp_path / "set", make(3), name="new", card="")
  assert len(sft.open(tmp_path / "set")) == 3
  assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_failure_leaves_what_was_there(tmp_path):
  sft.write(tmp_path / "set", make(3), name="old", card="")
  with pytest.raises(TypeError):
    sft.write(tmp_path / "set", [*make(5), None], name="new", card="")
  assert sft.open(tmp_path / "set").name == "old" and [p.name for p in tmp_path.iterdir()] == ["set"]


def test_user_errors(tmp_path):
  with pytest.raises(UserError, match="not an SFT data set"):
    sft.open(tmp_path / "nothing")
  with pytest.raises(UserError, match="no instances"):
    sft.write(tmp_path / "set", [], name="n", card="")
  sft.write(tmp_path / "set", make(10), name="n", card="", shards=2)
  next((tmp_path / "set").glob("*00001-of-00002")).unlink()
  with pytest.raises(UserError, match="10 rows were written, 5 are there"):
    sft.open(tmp_path / "set")


def test_serves_grain_and_pickles(tmp_path):
  sft.write(tmp_path / "set", make(12), name="n", card="", shards=2)
  data = sft.open(tmp_path / "set")
  assert pickle.loads(pickle.dumps(data))[11] == data[11]
  rows = list(grain.MapDataset.source(data).shuffle(seed=0).map(lambda row: row["id"]))
  assert sorted(rows) == [row["id"] for row in data]


READ_BY_TFDS = """
import json, sys
import tensorflow_datasets as tfds
source = tfds.builder_from_directory(sys.argv[1]).as_data_source("train")
rows = [{k: v.decode() if isinstance(v, bytes) else int(v) for k, v in row.items()} for row in source]
print(json.dumps({"rows": rows, "tensorflow": "tensorflow" in sys.modules}))
"""


def test_tfds_reads_it_without_tensorflow(tmp_path):
  sft.write(tmp_path / "set", make(7), name="n", card="", shards=2)
  result = subprocess.run(
    [sys.executable, "-c", READ_BY_TFDS, str(tmp_path / "set")], capture_output=True, text=True, check=True
  )
  found = json.loads(result.stdout.splitlines()[-1])
  assert found["tensorflow"] is False
  for row, ours in zip(found["rows"], sft.open(tmp_path / "set"), strict=True):
    assert {key: row[key] for key in ("id", "query", "response", "stage", "pass")} == {
      key: ours[key] for key in ("id", "query", "response", "stage", "pass")
    }
    assert json.loads(row["parents"]) == ours["parents"] and json.loads(row["gold_match"]) == ours["gold_match"]
    assert (
      row["level"] == (-1 if ours["level"] is None else ours["level"]) and row["pseudo_gold"] == ours["pseudo_gold"]
    )


def test_importing_the_data_sets_loads_neither_tensorflow_nor_jax():
  code = "import sys, skymath_jax.sft, skymath_jax.curation; print({'tensorflow', 'jax'} & set(sys.modules))"
  assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
