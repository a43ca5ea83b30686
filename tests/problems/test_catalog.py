"""Names lead to problems; files put there by hand are checked; nothing is fetched in these tests."""

import errno
import gzip
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from skymath_jax.errors import UserError
from skymath_jax.problems import builder, catalog, sources

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_nearest_names():
  with pytest.raises(UserError, match="did you mean gsm8k"):
    catalog.load("gms8k")
  with pytest.raises(UserError, match=r"use one of agieval, aime24, .* gsm8k, "):
    catalog.load("!!")
  with pytest.raises(UserError, match="math has no split 'tset'"):
    catalog.load("math:tset")


def test_a_path_is_the_users_own_file(tmp_path):
  (tmp_path / "mine.jsonl").write_text('{"question": "2 + 3 = ?", "answer": 5}\n')
  (problem,) = catalog.load(str(tmp_path / "mine.jsonl"))
  assert (problem.question, problem.answer) == ("2 + 3 = ?", "5")


def test_a_file_of_another_kind_is_no_unknown_name(tmp_path):
  (tmp_path / "mine.xlsx").write_text("question,answer\n")
  with pytest.raises(UserError, match=r"this kind of file is not read.*\.jsonl, .*\.parquet"):
    catalog.load(str(tmp_path / "mine.xlsx"))


def test_the_micro_world_is_in_the_catalog():
  problems = catalog.load("micro_gsm:test")
  assert problems and problems == catalog.load("micro_gsm", split="test")
  assert all(problem.answer for problem in problems)


ROW = {"question": "Ann has 2 apples.", "answer": "<<500*2=1000>>\n#### 1,000"}


def point_at(monkeypatch, cls, split, name, data, url="http://localhost:9/none"):
  file = builder.RemoteFile(name, url, hashlib.sha256(data).hexdigest(), len(data))
  monkeypatch.setitem(cls.FILES, split, (file,))


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_put_there_by_hand_is_used(tmp_path, monkeypatch, packed):
  data = (json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n").encode()
  point_at(monkeypatch, sources.Gsm8k, "test", "test.jsonl", data)
  folder = tmp_path / "gsm8k"
  folder.mkdir()
  (folder / ("test.jsonl.gz" if packed else "test.jsonl")).write_bytes(gzip.compress(data) if packed else data)
  problems = catalog.load("gsm8k:test", data_dir=tmp_path)
  assert [(p.question, p.answer, p.license, p.level) for p in problems] == [(ROW["question"], "1000", "MIT", 1)] * 2
  assert problems[0].id != problems[1].id  # a repeated row stays a row of its own
  for path in folder.iterdir():
    path.unlink()
  assert catalog.load("gsm8k:test", data_dir=tmp_path) == problems  # prepared: the file is not needed again


def test_a_wrong_file_is_refused_with_both_hashes(tmp_path):
  (tmp_path / "gsm8k").mkdir()
  (tmp_path / "gsm8k" / "test.jsonl").write_bytes(b"{}\n")
  with pytest.raises(UserError) as caught:
    catalog.load("gsm8k:test", data_dir=tmp_path)
  assert hashlib.sha256(b"{}\n").hexdigest() in str(caught.value)
  assert sources.Gsm8k.FILES["test"][0].sha256 in str(caught.value)
  assert not list((tmp_path / "prepared").rglob("*.array_record*"))


@pytest.fixture
def server(tmp_path):
  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, **kwargs):
      super().__init__(*args, directory=str(tmp_path / "www"), **kwargs)

    def log_message(self, *_):
      pass

  (tmp_path / "www").mkdir()
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def test_download_is_checked_and_kept(tmp_path, monkeypatch, server):
  data = (json.dumps(ROW) + "\n").encode()
  (tmp_path / "www" / "a.jsonl").write_bytes(data)
  point_at(monkeypatch, sources.Gsm8k, "test", "test.jsonl", data, url=f"{server}/a.jsonl")
  assert len(catalog.load("gsm8k:test", data_dir=tmp_path / "d")) == 1
  assert (tmp_path / "d" / "gsm8k" / "test.jsonl").read_bytes() == data
  (tmp_path / "www" / "a.jsonl").write_bytes(b"other")
  with pytest.raises(UserError, match=r"not the expected test\.jsonl"):
    catalog.load("gsm8k:test", data_dir=tmp_path / "e")
  assert not (tmp_path / "e" / "gsm8k").exists()
  (tmp_path / "www" / "a.jsonl").unlink()
  with pytest.raises(UserError, match=r"put it at .*e/gsm8k/test\.jsonl"):
    catalog.load("gsm8k:test", data_dir=tmp_path / "e")


def test_a_read_only_data_dir_is_the_users_to_mend(tmp_path, monkeypatch):
  def refuse(self):
    raise OSError(errno.EROFS, "Read-only file system", "/ro/prepared")

  monkeypatch.setattr(builder.Source, "download_and_prepare", refuse)
  with pytest.raises(UserError, match=r"/ro/prepared: .*seeds\.data_dir"):
    catalog.load("gsm8k:test", data_dir=tmp_path)


def write_math(folder, rows, layout):
  for number, row in enumerate(rows):
    place = folder / "train" / "number_theory" / f"{number}.json"
    if layout == "archive":
      place.parent.mkdir(parents=True, exist_ok=True)
      place.write_text(json.dumps(row))
  if layout == "lines":
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
  if layout == "lists":
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "algebra.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("layout", ["lines", "lists", "archive"])
def test_math_is_known_by_its_content(tmp_path, monkeypatch, layout):
  levels = ["Level 1", "Level ?", *(f"Level {i % 5 + 1}" for i in range(2, 12))]
  rows = [
    {"problem": f"Problem {i}", "level": level, "solution": f"\\boxed{{1}} or \\boxed {i}."}
    for i, level in enumerate(levels)
  ]
  content = "".join(f"{row['problem']}\0{row['solution']}\n" for row in sorted(rows, key=lambda r: r["problem"] + "\0"))
  monkeypatch.setitem(sources.MATH_CONTENT, "train", hashlib.sha256(content.encode()).hexdigest())
  write_math(tmp_path / "math", rows, layout)
  problems = {p.question: p for p in catalog.load("math", data_dir=tmp_path)}
  assert len(problems) == 12 and problems["Problem 1"].level is None and problems["Problem 4"].level == 5
  assert problems["Problem 7"].answer == "7"
  subject = {"lines": None, "lists": "Algebra", "archive": "Number Theory"}[layout]
  assert {p.subject for p in problems.values()} == {subject}


def test_math_of_another_content_is_refused(tmp_path):
  write_math(tmp_path / "math", [{"problem": "p", "solution": "s", "level": "Level 1"}], "lines")
  with pytest.raises(UserError, match="these 1 problems are not those of MATH train"):
    catalog.load("math", data_dir=tmp_path)


@pytest.mark.parametrize("name", sorted(catalog.SOURCES))
def test_sources_are_stated_in_full(name):
  cls = catalog.SOURCES[name]
  assert cls.name == name and cls.LICENSE and cls.CITATION and cls.HOMEPAGE and cls.__doc__
  assert cls.DEFAULT and set(cls.DEFAULT) <= cls.FILES.keys()
  for file in (file for files in cls.FILES.values() for file in files):
    assert (
      len(bytes.fromhex(file.sha256)) == 32
      and file.size > 0
      and file.url.startswith("https://raw.githubusercontent.com/")
    )
    assert "/" not in file.name


EXPECTED = {
  "gsm8k": (7473, "72"), "gsm8k:test": (1319, "18"), "math": (7500, "8"), "math:test": (5000, "2"),
  "agieval": (943, "D"), "agieval:math": (1000, "(3,4]"), "agieval:sat_math+aqua_rat": (474, "D"),
  "olympiadbench": (675, "2"), "scibench": (199, "0"), "jeebench": (236, "C"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(EXPECTED) if SHARED.exists() else [])
def test_real_files(tmp_path, name):
  folder = name.partition(":")[0]
  if not (SHARED / folder).exists():
    return
  (tmp_path / folder).symlink_to(SHARED / folder)
  problems = catalog.load(name, data_dir=tmp_path)
  assert (len(problems), problems[0].answer) == EXPECTED[name]
  assert len({p.id for p in problems}) == len(problems)
  assert all(p.answer and p.question == p.question.strip() and p.license for p in problems)
  if name == "math":
    assert [sum(p.level == level for p in problems) for level in (None, 1, 2, 3, 4, 5)] == [
      2,
      564,
      1348,
      1592,
      1690,
      2304,
    ]
    assert (
      sum(p.question.startswith("The graph of the line") for p in problems) >= 1
      and len({p.subject for p in problems}) == 7
    )
  if name == "agieval":
    assert sum(p.language == "zh" for p in problems) == 463


def test_loading_needs_no_tensorflow(tmp_path):
  (tmp_path / "x.jsonl").write_text('{"question": "q"}\n')
  code = "import sys; from skymath_jax import problems; problems.load(sys.argv[1]); print('tensorflow' in sys.modules)"
  command = [sys.executable, "-c", code, str(tmp_path / "x.jsonl")]
  assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
