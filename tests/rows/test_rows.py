"""Every format gives the same rows; a folder's splits are never mixed, nor a test split taken by accident."""

import bz2
import csv
import gzip
import json
import lzma
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skymath_jax import rows
from skymath_jax.errors import UserError
from skymath_jax.rows import columns

ROWS = [{"question": "2 + 3 =\n?", "answer": "5"}, {"question": 'äöü, "x"', "answer": "6"}]
PACK = {"": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def zstd(data):
  sink = pa.BufferOutputStream()
  with pa.CompressedOutputStream(sink, "zstd") as stream:
    stream.write(data)
  return sink.getvalue().to_pybytes()


PACK[".zst"] = zstd


def lines(made):
  return "".join(json.dumps(row) + "\n" for row in made).encode()


def separated(made, delimiter, path):
  with path.open("w", newline="", encoding="utf-8-sig") as file:
    writer = csv.DictWriter(file, list(made[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(made)
  return path.read_bytes()


def arrow(made, *, stream=True):
  table, sink = pa.Table.from_pylist(made), pa.BufferOutputStream()
  with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
    writer.write_table(table)
  return sink.getvalue().to_pybytes()


def parquet(made):
  sink = pa.BufferOutputStream()
  pq.write_table(pa.Table.from_pylist(made), sink)
  return sink.getvalue().to_pybytes()


def put(path, made=ROWS):
  """`made` in the format that the end of the name says."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.name.endswith((".csv", ".tsv")):
    separated(made, "," if path.suffix == ".csv" else "\t", path)
  else:
    writers = {".parquet": parquet, ".arrow": arrow, ".jsonl": lines, ".json": lambda m: json.dumps(m).encode()}
    path.write_bytes(writers[path.suffix](made))
  return path


def read(path):
  return [row for _, row in rows.read(str(path))]


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather"])
def test_every_format_packed_or_not_gives_the_same_rows(tmp_path, kind, packed):
  if packed and kind in ("parquet", "arrow", "feather"):
    return  # these are packed inside
  data = {
    "jsonl": lines(ROWS),
    "ndjson": b"\n" + lines(ROWS),
    "json": json.dumps(ROWS, indent=1).encode(),
    "csv": separated(ROWS, ",", tmp_path / "c"),
    "tsv": separated(ROWS, "\t", tmp_path / "t"),
    "parquet": parquet(ROWS),
    "arrow": arrow(ROWS),
    "feather": arrow(ROWS, stream=False),
  }[kind]
  path = tmp_path / f"odd [1] *? ü {{x}}.{kind}{packed}"
  path.write_bytes(PACK[packed](data))
  assert read(path) == ROWS
  assert rows.find(str(path)).name == "odd [1] *? ü {x}"


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_what_is_packed_under_a_bare_name_is_unpacked(tmp_path, packed):
  (tmp_path / "a.jsonl").write_bytes(PACK[packed](lines(ROWS)))
  assert read(tmp_path / "a.jsonl") == ROWS
  (tmp_path / f"b.jsonl{packed}").write_bytes(lines(ROWS))  # and what was unpacked keeps its name
  assert read(tmp_path / f"b.jsonl{packed}") == ROWS


@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_of_a_csv_file_is_seen_in_its_first_line(tmp_path, separator):
  separated(ROWS, separator, tmp_path / "a.csv")
  assert read(tmp_path / "a.csv") == ROWS


def test_json_may_be_lines_an_object_around_a_list_or_one_row(tmp_path):
  for data in (lines(ROWS), json.dumps({"version": 1, "data": ROWS}).encode()):
    (tmp_path / "a.json").write_bytes(data)
    assert read(tmp_path / "a.json") == ROWS
  (tmp_path / "a.json").write_text(json.dumps(ROWS[0]))
  assert read(tmp_path / "a.json") == ROWS[:1]


@pytest.mark.parametrize(
  ("name", "data", "where"),
  [
    ("a.jsonl", b'{"a": 1}\n{"a": ', "a.jsonl:2: this line is not JSON"),
    ("a.jsonl", b'{"a": 1}\n\n[1]\n', "a.jsonl:3: this line is a JSON list"),
    ("a.jsonl", b"\xff\xfe\n", "a.jsonl:1: "),
    ("a.jsonl", b"[" * 100_000 + b"\n", "a.jsonl:1: "),
    ("a.json", b'[{"a": 1}, 2]', "a.json:2: this is a JSON int"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv:3: not as many fields"),
    ("a.csv", b"a,b\n1,2\n1\n", "a.csv:3: not as many fields"),
    ("a.csv", b"a,b\n1,\xff\n", "a.csv:"),
    ("a.jsonl.gz", b"not packed", "a.jsonl.gz: this file cannot be read"),
    ("a.jsonl.gz", gzip.compress(lines(ROWS * 100))[:-20], "a.jsonl.gz: this file cannot be read"),
    ("a.jsonl.xz", b"not packed", "a.jsonl.xz: this file cannot be read"),
    ("a.jsonl.zst", b"not packed", "a.jsonl.zst: this file cannot be read"),
    ("a.parquet", b"not parquet", "a.parquet: this file cannot be read"),
    ("a.arrow", b"not arrow at all", "a.arrow: this file cannot be read"),
    ("a.json", b"[" * 100_000, "a.json:1: this line is not JSON"),
    ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "write the file in UTF-8"),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), "a.csv:1: this is no CSV in UTF-8"),
    ("a.csv", b"a,b,a\n1,2,3\n", "a.csv:1: two columns are called 'a'"),
    *((name, b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull") for name in ("a.csv", "a.parquet")),
    ("a.docx", b"", "a.docx: this kind of file is not read"),
  ],
)
def test_what_is_damaged_is_one_paragraph_with_its_place(tmp_path, name, data, where):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(UserError) as caught:
    read(tmp_path / name)
  assert where in str(caught.value) and "\n" not in str(caught.value)


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
  (tmp_path / "a.jsonl").write_bytes(b'{"q": "x\\ud835", "a": ["\\uDE00 \\ud83d\\ude00"]}\n')
  assert read(tmp_path / "a.jsonl") == [{"q": "x\ufffd", "a": ["\ufffd 😀"]}]


def test_text_within_text_is_read_alike_and_a_null_response_is_an_empty_one():
  turns = '[{"role": "user", "content": "x\\ud835"}, {"role": "assistant", "content": "y"}]'
  assert columns.conversation(turns, None)["query"] == "x\ufffd"
  (row,) = columns.pairs({"query": "q", "response": None}, None)
  assert (row["query"], row["response"]) == ("q", "")


def saved(folder, made, **state):
  put(folder / "data-00000-of-00001.arrow", made)
  (folder / "dataset_info.json").write_text("{}")
  (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], **state}))


def test_save_to_disk_says_itself_which_files_and_rows_count(tmp_path):
  saved(tmp_path / "one", ROWS)
  put(tmp_path / "one" / "cache-aaaaaaaaaaaaaaaa.arrow", ROWS * 2)
  assert read(tmp_path / "one") == ROWS
  saved(tmp_path / "chosen", ROWS, _indices_data_files=[{"filename": "indices.arrow"}])
  put(tmp_path / "chosen" / "indices.arrow", [{"indices": 1}, {"indices": 0}, {"indices": 1}])
  assert read(tmp_path / "chosen") == [ROWS[1], ROWS[0], ROWS[1]]
  saved(tmp_path / "both" / "train", ROWS[:1])
  saved(tmp_path / "both" / "test", ROWS[1:])
  (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
  with pytest.raises(UserError, match=r"this holds 2 splits \(test, train\)\. say which.*both:train"):
    read(tmp_path / "both")
  assert read(f"{tmp_path}/both:train") == ROWS[:1] and read(f"{tmp_path}/both:test+train") == [ROWS[1], ROWS[0]]


@pytest.mark.parametrize(
  "names", [
    ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
    ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    ("train.jsonl", "test.jsonl"),
    ("gsm8k_train.csv", "gsm8k_test.csv"),
    ("train/0.parquet", "eval/0.parquet"),
    ("main/train-00000-of-00001.parquet", "main/test-00000-of-00001.parquet"),
    ("Train.jsonl", "TEST.jsonl"),
    ("trainset.jsonl", "test_set.jsonl"),
    ("data/train/a.jsonl", "data/held-out/a.jsonl"),
  ],
)  # fmt: skip
def test_several_splits_are_refused_with_their_names(tmp_path, names):
  for name, row in zip(names, ROWS, strict=True):
    put(tmp_path / name, [row])
  (tmp_path / "README.md").write_text("card")
  with pytest.raises(UserError, match=r"2 splits \(.*test, .*train\).*say which is meant"):
    read(tmp_path)
  train = "main:train" if names[0].startswith("main") else ":train"
  assert read(f"{tmp_path}{'/' if train.startswith('main') else ''}{train}") == ROWS[:1]
  with pytest.raises(UserError, match="no split 'valid' here"):
    read(f"{tmp_path}:valid")


def test_a_link_upwards_gives_no_row_twice(tmp_path):
  put(tmp_path / "a" / "x.jsonl")
  (tmp_path / "a" / "again").symlink_to(tmp_path)
  assert read(tmp_path) == ROWS


def test_what_never_ends_or_lies_elsewhere_is_not_read(tmp_path):
  put(tmp_path / "a" / "x.jsonl")
  os.mkfifo(tmp_path / "a" / "y.jsonl")
  (tmp_path / "a" / "z.jsonl").symlink_to("/dev/zero")
  assert read(tmp_path / "a") == ROWS
  for splits in (["../a"], "train", [""], None, {}):
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(UserError, match="splits is no list of folders here"):
      read(tmp_path)


def test_addresses_are_read_or_told(tmp_path):
  path = put(tmp_path / "a b.jsonl") or tmp_path / "a b.jsonl"
  assert read(path.as_uri()) == ROWS  # file:///…/a%20b.jsonl
  for address in ("https://example.org/x.jsonl", "ftp://x/y.csv"):
    with pytest.raises(UserError, match="an address of this kind is not read"):
      rows.find(address)
  with pytest.raises(UserError, match="the name of the data is empty"):
    rows.find("")


def test_a_test_split_alone_must_be_named(tmp_path):
  put(tmp_path / "test-00000-of-00001.parquet")
  with pytest.raises(UserError, match="only the split test"):
    read(tmp_path)
  assert read(f"{tmp_path}:test") == ROWS


def test_configurations_of_a_hub_set_are_not_mixed(tmp_path):
  put(tmp_path / "main" / "train-00000-of-00001.parquet")
  put(tmp_path / "socratic" / "train-00000-of-00001.parquet")
  with pytest.raises(UserError, match=r"main/train, socratic/train.*main:train"):
    read(tmp_path)
  assert read(tmp_path / "main") == ROWS


def test_shards_and_plain_files_of_a_folder_are_one_table(tmp_path):
  for number in (1, 0):
    put(tmp_path / "shards" / f"cot-0000{number}-of-00002.parquet", ROWS[number : number + 1])
    put(tmp_path / "years" / f"200{number}" / "x.jsonl", ROWS[number : number + 1])
  assert read(tmp_path / "shards") == read(tmp_path / "years") == ROWS
  put(tmp_path / "mixed" / "a.jsonl")
  put(tmp_path / "mixed" / "a.parquet")
  with pytest.raises(UserError, match=r"files of several kinds lie here \(a\.jsonl, a\.parquet\)"):
    read(tmp_path / "mixed")


@pytest.mark.parametrize(
  ("name", "what"),
  [("none.jsonl", "no such file"), ("no/such/folder/a.parquet", "no such file"), ("", "no file of rows")],
)
def test_what_is_not_there_is_told(tmp_path, name, what):
  with pytest.raises(UserError, match=what):
    read(tmp_path / name)
