"""The fuzzy pass: finds the original of a question told in other words, and leaves other questions below it."""

import json
from pathlib import Path

import numpy as np
import pytest

from skymath_jax.curation.tfidf import NUMBERS, FuzzyIndex

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


def test_other_numbers_make_another_question_and_number_words_are_numbers():
  index = FuzzyIndex(["Mia has 12 apples and gives 5 to Tom. How many are left?"])
  same, words, other, none = index.nearest(
    [
      "Mia gives 5 of 12 apples to Tom. What is left?",
      "Mia gives five of twelve apples to Tom. What is left?",
      "Mia gives 6 of 13 apples to Tom. What is left?",
      "Mia gives some of her apples to Tom. What is left?",
    ]
  )[0]
  assert min(same, words) > max(other, none) + 0.15
  assert other < 1 - NUMBERS


def test_a_number_that_is_there_twice_counts_twice():
  index = FuzzyIndex(["5 and 5", "5 and 6"])
  assert index.nearest(["6 or 5", "5 or 5", "no number at all"])[1].tolist() == [1, 0, 0]


def test_the_likeness_does_not_depend_on_the_company():
  index = FuzzyIndex(TESTS)
  together = index.nearest(RETOLD + OTHERS)[0]
  alone = [index.nearest([text])[0][0] for text in RETOLD + OTHERS]
  assert together.tolist() == alone


def test_nothing_to_compare_with():
  assert [found.tolist() for found in FuzzyIndex([]).nearest(["2 + 3"])] == [[0.0], [0]]
  assert FuzzyIndex(TESTS).nearest([""])[0].tolist() == [0.0]


def _questions(name: str) -> list[str]:
  rows = [json.loads(line) for line in (GSM8K / name).read_text().splitlines()]
  # a paraphrase stands in a frame: "Question: … \nAnswer: \n#### 18"
  return [row.get("question") or row["text"].removeprefix("Question:").partition("\nAnswer:")[0] for row in rows]


@pytest.mark.skipif(not GSM8K.exists(), reason="needs ../shared/data/gsm8k beside the clone")
def test_paraphrases_of_gsm8k_test():
  index, retold = FuzzyIndex(_questions("test.jsonl")), _questions("test_paraphrased.jsonl")
  cosines, numbers = index.nearest(retold)
  threshold = np.quantile(index.nearest(_questions("train.jsonl"))[0], 0.99)  # 1 % false alarms
  assert (numbers == np.arange(len(retold))).mean() >= 0.995
  assert threshold == pytest.approx(0.333, abs=0.005)
  assert (cosines >= threshold).mean() >= 0.96  # 68 % without the numbers
