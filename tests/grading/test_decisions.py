"""docs/grading.md says what was decided where sources contradict each other; here the grader is held to it."""

import re
from pathlib import Path

from skymath_jax.grading import equivalent, extract

PAGE = Path(__file__).parents[2] / "docs" / "grading.md"


def rows(columns):
  """The cells of the table with this heading, without the marks of code."""
  table = PAGE.read_text(encoding="utf-8").split(f"| {' | '.join(columns)} |\n")[1].split("\n\n")[0]
  cells = [re.split(r"\s*(?<!\\)\|\s*", line.strip("| ")) for line in table.splitlines()[1:]]
  return [[cell.strip("`").replace("\\|", "|") for cell in line] for line in cells]


def test_decided_pairs_both_ways_round():
  decided = rows(["gold", "answer", "same", "why"])
  pairs = [(gold, answer, same == "yes") for gold, answer, same, _ in decided]
  wrong = [pair for pair in pairs for a, b in (pair[:2], pair[1::-1]) if equivalent(a, b, "symbolic") is not pair[2]]
  assert wrong == []
  assert len(pairs) > 30 and {same for *_, same in decided if same} and all(why for *_, why in decided)


def test_decided_extractions():
  decided = rows(["response", "answer", "why"])
  wrong = [(r, extract(r)) for r, answer, _ in decided if extract(r) != (None if answer == "nothing" else answer)]
  assert wrong == []
