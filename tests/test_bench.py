"""The benchmark verb: every entry exists, rows have one form, a wrong name is told."""

import json

import pytest

from skymath_jax import cli
from skymath_jax.verbs import bench


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_entry_names_a_function(name):
  assert callable(bench.function_of(name))


def test_a_row_gets_all_keys_and_its_ratio():
  assert list(bench.line({"name": "x", "value": 3.0, "unit": "s", "peer": 2.0})) == list(bench.KEYS)
  assert bench.line({"name": "x", "value": 3.0, "unit": "s", "peer": 2.0})["ratio"] == 1.5
  assert bench.line({"name": "x", "value": 3.0, "unit": "s"})["ratio"] is None
  with pytest.raises(ValueError, match="'cores'"):
    bench.line({"name": "x", "value": 1, "unit": "s", "cores": 2})


def test_an_unknown_name_is_wrong_usage(capsys):
  assert cli.call(["bench", "speed"]) == 2
  assert "there is no benchmark 'speed'" in capsys.readouterr().err


def test_input_prints_one_json_line_a_measurement(capsys):
  assert cli.call(["bench", "input", "--examples=3000", "--seconds=0.2"]) == 0
  rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
  assert rows["input.fill"]["value"] >= 0.98
  assert rows["input.batches"]["ratio"] > 0
