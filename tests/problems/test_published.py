"""Published test sets, from files in their own format: questions, right answers, checksums, what is odd; and suites."""

import dataclasses
import hashlib

import pytest

from skymath_jax import grading, prompts
from skymath_jax.errors import UserError
from skymath_jax.evaluation import load_benchmark
from skymath_jax.problems import catalog, published, suites
from tests.support import published_sets


@pytest.fixture
def data(tmp_path, monkeypatch):
  """A folder with the sample of every set, whose checksums count for nothing."""
  for name, found in published.SETS.items():
    files = {
      split: tuple(dataclasses.replace(file, sha256="", blob="") for file in paths)
      for split, paths in found.files.items()
    }
    rows = dict.fromkeys(files, len(published_sets.ANSWERS[name]))
    monkeypatch.setitem(published.SETS, name, dataclasses.replace(found, files=files, rows=rows))
    published_sets.write(tmp_path, name, [file.name for paths in files.values() for file in paths])
  return tmp_path


@pytest.mark.parametrize("name", published.SETS)
def test_rows_of_the_published_format_become_questions_with_answers(data, name, capsys):
  problems = catalog.load(name, data_dir=data)
  assert [problem.answer for problem in problems] == published_sets.ANSWERS[name]
  assert len({problem.id for problem in problems}) == len(problems) and all(p.question for p in problems)
  assert {problem.source for problem in problems} == {name} and "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", published.SETS)
def test_every_right_answer_is_read_out_of_a_response_that_gives_it(data, name):
  for problem in catalog.load(name, data_dir=data):
    for response in (f"So it is.\nThe answer is {problem.answer}", f"So it is $\\boxed{{{problem.answer}}}$."):
      assert grading.grade_response(problem.answer, response, "symbolic")[1], response


def test_questions_hold_what_is_needed_to_answer_them(data):
  first, second = (problem.question for problem in catalog.load("tabmwp", data_dir=data))
  assert first == "Table “Cups sold”:\nDay | Cups\nMonday | 4\nTuesday | 9\nHow many cups were sold?"
  assert second.endswith("Which day was best?\nChoose one of: Monday, Tuesday")
  assert catalog.load("svamp", data_dir=data)[0].question == "Noa had 9 plums. She ate 4. How many are left?"
  assert {p.language for p in catalog.load("mgsm:de+zh", data_dir=data)} == {"de", "zh"}


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
  (tmp_path / "svamp").mkdir()
  (tmp_path / "svamp" / "test.jsonl").write_text("{}\n")
  with pytest.raises(
    UserError, match=r"not the expected test\.jsonl \(3 bytes with SHA-256 .* not 280,029 with d0826ff"
  ):
    catalog.load("svamp", data_dir=tmp_path)
  (tmp_path / "tabmwp").mkdir()
  (tmp_path / "tabmwp" / "test.jsonl").write_text("{}\n")
  blob = hashlib.sha1(b"blob 3\0{}\n").hexdigest()  # as `git hash-object` gives it
  with pytest.raises(UserError, match=f"git blob id {blob}, not with c686337"):
    catalog.load("tabmwp", data_dir=tmp_path)
  with pytest.raises(UserError, match=r"mgsm has no split 'xx'\. use one of en, bn"):
    catalog.load("mgsm:xx")


def test_sets_whose_bytes_nobody_could_check_are_told_apart():
  unverified = {name for name, found in published.SETS.items() if not found.verified}
  assert unverified == {"gsm8k_platinum", "aime26", "hmmt_feb25", "hmmt_nov25", "hmmt_feb26", "beyond_aime"}


def test_a_set_without_a_checksum_is_told(data, capsys):
  catalog.load("aime26", data_dir=data)
  assert "no checksum" in capsys.readouterr().err


def test_rows_of_another_format_and_missing_rows_are_told(data, capsys):
  path = data / "aime26" / "train-00000-of-00001.parquet"
  path.unlink()
  published_sets.write(data, "hmmt_feb25", [path.name])
  (data / "hmmt_feb25" / path.name).rename(path)
  assert catalog.load("aime26", data_dir=data)[0].answer == "\\frac{1}{3}"  # nothing but the columns is known of it
  (data / "svamp" / "test.jsonl").write_text('{"Body": "b"}\n')
  with pytest.raises(UserError, match=r"svamp/test\.jsonl:1: this row is not of the published format \(KeyError"):
    catalog.load("svamp", data_dir=data)
  (data / "cmath" / "test.jsonl").write_text('{"question": "q", "answer": 1, "grade": 1}\n')
  catalog.load("cmath", data_dir=data)
  assert "warning: cmath:test has 1 problems here, 2 as published" in capsys.readouterr().err


@pytest.mark.parametrize(
  "text, number", [("27.0", "27"), ("073", "73"), ("1,200", "1200"), ("-0.50", "-0.50"), ("0", "0"), ("1e3", "1000")]
)
def test_numbers_are_written_as_people_write_them(text, number):
  assert published.plain_number(text) == number
  with pytest.raises(ValueError):
    published.plain_number("nan")


def test_suites_stand_for_benchmarks_that_can_be_loaded(data):
  assert suites.expanded(["paper", "math:test", "mine.jsonl"]) == ("gsm8k:test", "math:test", "mine.jsonl")
  ours = {"gsm8k:test", "math:test", "math500", "olympiadbench"}
  for name in suites.expanded(suites.SUITES):
    assert prompts.load(suites.frame_of(name)) and suites.size_of(name)
    if name not in ours:
      assert load_benchmark(name, lambda text: catalog.load(text, data_dir=data)), name
  assert {name.partition(":")[0] for name in suites.expanded(suites.SUITES)} >= published.SETS.keys()


def test_an_evaluation_that_does_not_compare_says_why():
  asked = {"samples": 1, "temperature": 0.0, "max_tokens": 2048, "n": 30}
  assert suites.differences("aime24", asked) == [
    "1 of 16 samples", "temperature 0, not 0.6", "2,048 tokens at most, not 32,768"
  ]  # fmt: skip
  assert suites.differences("svamp:test", asked) == ["30 of 1,000 problems"]
  assert suites.differences("svamp", {"mode": "strict"}) == ["strict grader, not symbolic"]
  assert suites.differences("gsm8k:test@distractors2", asked | {"n": 1319}) == ["changed (distractors2)"]
  assert suites.differences("mine.jsonl", asked) == []
