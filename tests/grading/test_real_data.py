"""Against real model outputs with labels and real golds, where the shared data folder is at hand."""

import json
from pathlib import Path

import pytest

from skymath_jax.grading import equivalent, extract, gold_answer

DATA = next((p for up in Path(__file__).resolve().parents if (p := up / "shared" / "data").is_dir()), Path("shared"))
SOLUTIONS, MATH = DATA / "gsm8k" / "example_model_solutions.jsonl", DATA / "math" / "test.jsonl"


@pytest.mark.skipif(not SOLUTIONS.exists(), reason="the shared GSM8K outputs are not here")
@pytest.mark.parametrize("mode", ["strict", "symbolic"])
def test_labels_of_gsm8k_outputs(mode):
  rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
  agree = total = 0
  for row in rows:
    gold = extract(row["ground_truth"])
    for output in (value for value in row.values() if isinstance(value, dict)):
      total += 1
      agree += equivalent(gold, extract(output["solution"]), mode) == output["is_correct"]
  assert total == 5276
  assert agree / total >= 0.995


@pytest.mark.skipif(not MATH.exists(), reason="the shared MATH test set is not here")
def test_every_math_gold_equals_itself_and_its_neighbour_rarely():
  golds = [gold_answer(json.loads(line)["solution"]) for line in MATH.read_text().splitlines()]
  assert all(equivalent(gold, gold, mode) for gold in golds for mode in ("strict", "symbolic"))
  respelled = [gold.replace("frac", "dfrac").replace("dd", "d").replace("tdfrac", "frac") for gold in golds[::10]]
  different = [(a, b) for a, b in zip(golds[::10], respelled, strict=True) if not equivalent(a, b + " ", "symbolic")]
  assert not different
