"""The fuzzy pass: finds the original of a question told in other words, and leaves other questions below it."""

import json
from pathlib import Path

import numpy as np
import pytest

from skymath_jax.curation.fuzzy import FuzzyIndex

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"

TESTS = [
  "Mia has 12 red apples and gives 5 of them to Tom. How many red apples has Mia left?",
  "A train covers 240 miles in 4 hours. How many miles does it cover in 7 hours at the same speed?",
  "A baker fills 9 trays with 16 rolls each and sells 100 rolls. How many rolls remain?",
  "The sum of two numbers is 31 and their difference is 7. What is the larger number?",
]
RETOLD = [
  "After Mia, who has 12 red apples, gives Tom 5 of them, how many apples does Mia have left?",
  "In 4 hours a train covers 240 miles. If its speed stays the same, how far does it get in 7 hours?",
  "There are 9 trays with 16 rolls on each. The baker sells 100 of the rolls. What number of rolls is left?",
  "Two numbers differ by 7, and their sum is 31. Find the larger number.",
]
OTHERS = [
  "Lena reads 15 pages a day. When will she have finished a book of 180 pages?",
  "What is the area of a circle whose radius is 3 feet?",
  "A shop sold 40 shirts at 8 dollars. What did it take?",
]


def test_a_retold_question_finds_its_original_and_others_stay_below():
  index = FuzzyIndex(TESTS)
  cosines, numbers = index.nearest(RETOLD)
  assert numbers.tolist() == [0, 1, 2, 3]
  assert cosines.min() > index.nearest(OTHERS)[0].max()
  np.testing.assert_allclose(index.nearest(TESTS)[0], 1)


def _questions(name: str) -> list[str]:
  rows = [json.loads(line) for line in (GSM8K / name).read_text().splitlines()]
  # a paraphrase stands in a frame: "Question: … \nAnswer: \n#### 18"
  return [row.get("question") or row["text"].removeprefix("Question:").partition("\nAnswer:")[0] for row in rows]


@pytest.mark.skipif(not GSM8K.exists(), reason="needs ../shared/data/gsm8k beside the clone")
def test_paraphrases_of_gsm8k_test():
  index, retold = FuzzyIndex(_questions("test.jsonl")), _questions("test_paraphrased.jsonl")
  cosines, numbers = index.nearest(retold)
  threshold = np.quantile(index.nearest(_questions("train.jsonl"))[0], 0.99)  # 1 % false alarms
  assert (numbers == np.arange(len(retold))).mean() >= 0.99
  assert threshold == pytest.approx(0.331, abs=0.005)
  assert (cosines >= threshold).mean() == pytest.approx(0.68, abs=0.01)
