"""Problem and Instance: stable ids, exact round trips, errors that name file and line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skymath_jax import records
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem

INSTANCE = Instance(
  id="i", query="q", response="r\nThe answer is 1", answer="1", method="xwin", parents=("p",), stage=1, synthesis_pass=2
)


@given(st.text(), st.text())
def test_round_trip_keeps_every_character(tmp_path_factory, question, answer):
  path = tmp_path_factory.mktemp("r") / "p.jsonl"
  problem = Problem.create("s", question, answer=answer, level=3)
  records.write_lines(path, [problem, problem])
  assert records.read(Problem, path) == [problem, problem]


def test_instance_is_written_with_the_contract_key(tmp_path):
  assert records.to_json(INSTANCE)["pass"] == 2 and "synthesis_pass" not in records.to_json(INSTANCE)
  records.write_lines(tmp_path / "i.jsonl", [INSTANCE])
  assert records.read(Instance, tmp_path / "i.jsonl") == [INSTANCE]


def test_ids_depend_on_content_and_its_split():
  assert Problem.create("s", "q").id == Problem.create("s", "q", level=2).id
  assert records.stable_id("ab", "c") != records.stable_id("a", "bc")


@pytest.mark.parametrize(
  "text, message",
  [
    ('{"id": "a", "source": "s", "question": "q"}\n{oops\n', r"p\.jsonl:2: this line is not JSON"),
    ("[1]\n", r"p\.jsonl:1: this line is a JSON list"),
    ('\n{"id": "a", "colour": 1}\n', r"p\.jsonl:2: not a Problem"),
    (b'{"id": "\xff"}\n', r"p\.jsonl:1: this line is not JSON"),
  ],
)
def test_bad_lines_are_named(tmp_path, text, message):
  path = tmp_path / "p.jsonl"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=message):
    records.read(Problem, path)
