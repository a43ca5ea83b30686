"""A user's rows under the names people use; what is wrong is named with file and line."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skymath_jax.errors import UserError
from skymath_jax.problems import catalog, user_files


def load(tmp_path, *rows):
  path = tmp_path / "mine.jsonl"
  path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
  return user_files.load(path)


@pytest.mark.parametrize(
  "row, expected",
  [
    ({"question": "q", "answer": "5"}, {"question": "q", "answer": "5", "source": "mine"}),
    ({"problem": "q", "solution": "so \\boxed{\\frac{1}{2}}"}, {"question": "q", "answer": "\\frac{1}{2}"}),
    ({"query": "q", "response": "so\n#### 1,000"}, {"answer": "1,000", "solution": "so\n#### 1,000"}),
    ({"question": "q", "answer": "2 + 3\n#### 5"}, {"answer": "5", "solution": "2 + 3\n#### 5"}),
    ({"question": "q", "answer": 5}, {"answer": "5"}),
    ({"question": "q", "answer": 5.0}, {"answer": "5"}),
    ({"question": "q", "answer": 0.25}, {"answer": "0.25"}),
    ({"question": "q", "answer": "7", "solution": "\\boxed{8}"}, {"answer": "7"}),
    ({"question": "q", "solution": "no mark"}, {"answer": None, "solution": "no mark"}),
    ({"question": "q", "level": 3, "subject": "Algebra"}, {"level": 3, "subject": "Algebra"}),
    ({"question": "q", "level": "Level 5", "type": "Geometry"}, {"level": 5, "subject": "Geometry"}),
    ({"question": "q", "level": "Level ?"}, {"level": None}),
    ({"question": "q", "level": 3.0}, {"level": 3}),
    ({"Question": "q", "Answer": "5"}, {"question": "q", "answer": "5"}),
    ({"question": "q", "difficulty": 6.5, "final_answer": "5"}, {"level": None, "answer": "5"}),
    ({"question": "q", "difficulty": 4.0}, {"level": 4}),
    ({"query": "q", "response": "so\nThe answer is: 7"}, {"answer": "7"}),
    ({"problem": "q", "generated_solution": "so \\boxed{7}", "expected_answer": "8"}, {"answer": "8"}),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "\\boxed{7}"}]}, {"answer": "7"}),
    ({"input": "q", "target": 7}, {"question": "q", "answer": "7"}),
    ({"problem_statement": "q", "correct_answer": "7"}, {"question": "q", "answer": "7"}),
    ({"question": "q", "solution": "So 2 + 5.\n**Answer:** 7"}, {"answer": "7"}),
    ({"question": "q", "solution": "Therefore the answer is $7$."}, {"answer": "7"}),
    ({"question": "q", "solution": "Final Answer: The final answer is $7$. I hope it is correct."}, {"answer": "7"}),
    ({"question": "q", "level": None, "language": "zh"}, {"level": None, "language": "zh"}),
    ({"question": "q", "id": 12, "source": "s", "more": [1]}, {"id": "12", "source": "s"}),
  ],
)  # fmt: skip
def test_names_that_people_use(tmp_path, row, expected):
  (problem,) = load(tmp_path, row)
  assert {key: getattr(problem, key) for key in expected} == expected


@pytest.mark.parametrize(
  "row, what",
  [
    ({"answer": "5"}, "no question"),
    ({"question": "  "}, "no question"),
    ({"question": ["q"]}, "'question' is a list"),
    ({"question": "q", "answer": True}, "'answer' is a bool"),
    ({"question": "q", "answer": ["5"]}, "'answer' is a list"),
    ({"question": "q", "level": "hard"}, "'level' is 'hard'"),
    ({"question": "q", "level": 9}, "'level' is 9"),
    ({"question": "q", "level": True}, "'level' is True"),
    ("{broken", "not JSON"),
    ("[1]", "not an object"),
    ({"question": "q", "id": "first"}, "used before"),
  ],
)
def test_errors_name_file_and_line(tmp_path, row, what):
  with pytest.raises(UserError, match=r"mine\.jsonl:3: ") as caught:
    load(tmp_path, {"question": "fine", "id": "first"}, "", row)
  assert what in str(caught.value)


def test_difficulties_on_another_scale_are_no_levels_in_all_of_the_file(tmp_path, capfd):
  problems = load(tmp_path, *({"question": str(n), "difficulty": value} for n, value in enumerate((3, 6.5, 9))))
  assert [problem.level for problem in problems] == [None] * 3
  assert "difficulty (6.5, …) is another scale" in capfd.readouterr().err


def test_a_missing_file(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    user_files.load(tmp_path / "nope.jsonl")


def test_a_repeated_question_keeps_its_rows_and_ids_are_stable(tmp_path):
  problems = load(tmp_path, {"question": "q"}, {"question": "r"}, {"question": "q"})
  assert [p.question for p in problems] == ["q", "r", "q"] and len({p.id for p in problems}) == 3
  assert [p.id for p in problems] == [
    p.id for p in load(tmp_path, {"question": "q"}, {"question": "r"}, {"question": "q"})
  ]


ROWS = [
  {"problem": "Find $x$.", "solution": "\\boxed{7}", "level": "Level 3", "unused": [1, 2]},
  {"problem": "Find $y$.", "solution": "\\boxed{8}", "level": None, "unused": None},
]


def write_arrow(path, rows):
  table = pa.Table.from_pylist(rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
    writer.write_table(table)  # as `Dataset.save_to_disk` does


def test_parquet_arrow_and_folders_hold_the_same_problems_as_lines(tmp_path):
  lines = load(tmp_path, *ROWS)
  pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "mine.parquet")
  write_arrow(tmp_path / "mine" / "data-00000-of-00002.arrow", ROWS[:1])
  write_arrow(tmp_path / "mine" / "data-00001-of-00002.arrow", ROWS[1:])
  (tmp_path / "mine" / "dataset_info.json").write_text("{}")
  write_arrow(tmp_path / "dict" / "mine" / "train" / "data-00000-of-00001.arrow", ROWS)
  (tmp_path / "mine" / "state.json").write_text(
    json.dumps({"_data_files": [{"filename": f"data-0000{n}-of-00002.arrow"} for n in (0, 1)]})
  )
  write_arrow(tmp_path / "mine" / "cache-0123456789abcdef.arrow", ROWS)  # what a later `map` leaves there
  assert [(p.answer, p.level) for p in lines] == [("7", 3), ("8", None)]
  for name in ("mine.parquet", "mine", "dict/mine"):
    assert catalog.load(str(tmp_path / name)) == lines


def test_what_is_wrong_with_a_table_is_told(tmp_path):
  pq.write_table(pa.Table.from_pylist([ROWS[0], {"problem": " "}]), tmp_path / "mine.parquet")
  with pytest.raises(UserError, match=r"mine\.parquet:2: no question"):
    catalog.load(str(tmp_path / "mine.parquet"))
  (tmp_path / "bad.parquet").write_text("not parquet")
  with pytest.raises(UserError, match=r"bad\.parquet: this file cannot be read"):
    catalog.load(str(tmp_path / "bad.parquet"))
  with pytest.raises(UserError, match="no such file"):
    catalog.load(str(tmp_path / "none.parquet"))
  (tmp_path / "empty").mkdir()
  with pytest.raises(UserError, match="no file of rows in this folder"):
    catalog.load(str(tmp_path / "empty"))
