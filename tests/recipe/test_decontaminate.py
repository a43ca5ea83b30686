"""Any data set beside any test sets: hits with both texts, the nearest of the rest, and a teacher's word on them."""

import asyncio
import json

import pytest

from skymath_jax import records
from skymath_jax.cli import main as cli
from skymath_jax.report import contamination
from tests.support import endpoint

TESTS = [
  {"question": "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts?", "answer": 3},
  {"question": "Nils has 14 goats, sells 5 of them and buys 3 sheep. How many animals has he then?", "answer": 12},
  {"question": "What is the product of 123457 and 76543 plus the square of 19?", "answer": "9449767512"},
]
QUERIES = [
  "A robe takes 2 bolts of blue fiber and half that much white fiber.  How many bolts?",
  f"For tonight: {TESTS[2]['question']} Thank you.",
  "Nils owned 14 goats. Of them he sells 5, and he buys 3 sheep. How many animals has he then?",
  "Nils has 14 goats, sells 6 of them and buys 2 sheep. How many more goats than sheep has he?",
  "Name a <b>river</b> of France.",
]


@pytest.fixture
def folder(tmp_path):
  records.write_lines(tmp_path / "tests.jsonl", TESTS)
  records.write_lines(tmp_path / "rows.jsonl", [{"query": query, "response": "So."} for query in QUERIES])
  return tmp_path


def words(folder, *more):
  data, tests = folder / "rows.jsonl", folder / "tests.jsonl"
  return ["decontaminate", str(data), f"--against={tests}", f"--out={folder / 'out'}", *more]


def found(folder):
  lines = [row for _, row in records.read_lines(folder / "out" / "hits.jsonl")]
  return [(int(row["where"].rpartition(":")[2]), row["kind"], row["test_row"]["index"]) for row in lines]


def test_hits_are_told_with_both_texts_and_marked(folder, capsys):
  assert cli.call(words(folder)) == 0
  assert found(folder) == [(1, "exact", 0), (2, "embedded", 2)]
  summary = json.loads(capsys.readouterr().out)
  assert summary == json.loads((folder / "out" / "summary.json").read_text())
  assert (summary["rows"], summary["leaks"], summary["by_kind"]) == (5, 2, {"exact": 1, "embedded": 1})
  assert summary["test_sets"][str(folder / "tests.jsonl")] == {"problems": 3, "hit": 2}
  page = (folder / "out" / "contamination.html").read_text()
  assert f"For tonight: <mark>{TESTS[2]['question']}</mark> Thank you." in page
  assert page.index("Nearest of the rest") < page.index("Nils owned 14 goats")
  assert "river" not in page  # like nothing


def test_a_likeness_makes_a_leak_where_it_is_asked_for(folder):
  assert cli.call(words(folder, "--config.curation.fuzzy=0.35")) == 0
  assert [kind for _, kind, _ in found(folder)] == ["exact", "embedded", "fuzzy", "fuzzy"]


def test_a_teacher_judges_the_nearest_once(folder):
  def judge(call):
    same = "Nils owned" in call.prompt
    return endpoint.completion(f"Goats and sheep.\nThe problems are {'the same' if same else 'different'}.")

  async def run():
    async with endpoint.serving(judge) as (url, calls):
      teacher = ("--config.teacher.backend=openai", f"--config.teacher.base_url={url}", "--config.teacher.model=judge")
      for _ in range(2):
        assert await asyncio.to_thread(cli.call, words(folder, "--judge=10", *teacher)) == 0
      return calls

  calls = asyncio.run(run())
  assert len(calls) == 2  # the two near ones; the second run finds their verdicts in its store
  assert found(folder) == [(1, "exact", 0), (2, "embedded", 2), (3, "judged", 1)]
  page = (folder / "out" / "contamination.html").read_text()
  assert "judged to be the same problem" in page and "judged different" in page


def test_a_folder_of_somebody_else_is_not_written_over(folder, capfd):
  (folder / "out").mkdir()
  (folder / "out" / "summary.json").write_text("mine")
  assert cli.call(words(folder)) == 1
  assert "summary.json in it is not of skymath decontaminate" in capfd.readouterr().err
  assert [path.name for path in (folder / "out").iterdir()] == ["summary.json"]
  data, tests = folder / "rows.jsonl", folder / "tests.jsonl"
  assert cli.call(["decontaminate", str(data), f"--against={tests}", f"--out={data}"]) == 1
  assert f"skymath decontaminate: {data}: File exists" in capfd.readouterr().err  # and no traceback


def test_problems_without_responses_can_be_compared(folder, capsys):
  command = ["decontaminate", "micro_gsm:test*20", "--against=micro_gsm:test*20", f"--out={folder / 'out'}"]
  assert cli.call(command) == 0
  assert json.loads(capsys.readouterr().out)["by_kind"] == {"exact": 20}


def test_what_is_missing_is_said(folder, capsys):
  assert cli.call(["decontaminate", str(folder / "rows.jsonl")]) == 2
  assert cli.call(words(folder, "--judge=3")) == 2
  assert "--judge needs a teacher" in capsys.readouterr().err
  assert cli.call([*words(folder)[:2], "--against=gms8k"]) == 1
  assert "did you mean gsm8k" in capsys.readouterr().err


def test_shared_text_is_marked_whatever_its_case_and_spacing():
  assert contamination.marked("So: How MANY\n<b>?", "how many <b>?") == "So: <mark>How MANY\n&lt;b&gt;?</mark>"
  assert contamination.marked("a b", "a b") == "a b"  # too short to be told from chance
