"""The forms in which public projects test their graders: verdicts, both ways round, and how many of each kind."""

import collections

import pytest

from skymath_jax.grading import equivalent, grade_response
from tests.support.grading import EXTRACTIONS, FORMS, FRESH, found_rightly

SOURCES = sorted({form.source for form in FORMS})
AMBIGUOUS = "the answer is: 9!"  # nine, or its factorial


@pytest.mark.parametrize("source", SOURCES)
def test_verdicts(source):
  wrong = []
  for form in FORMS:
    if form.source != source:
      continue
    if form.response:
      found = [grade_response(form.gold, form.text, "symbolic")[1]]
    else:
      found = [equivalent(*pair, mode="symbolic") for pair in ((form.gold, form.text), (form.text, form.gold))]
    wrong += [form for verdict in found if verdict is not form.same]
  assert not wrong


def test_many_sources_and_both_verdicts():
  counts = collections.Counter(form.same for form in FORMS)
  assert len(SOURCES) >= 14 and counts[True] >= 140 and counts[False] >= 60


def test_fresh_pairs_both_ways_round():
  pairs = [(form.same, pair) for form in FRESH for pair in ((form.gold, form.text), (form.text, form.gold))]
  assert [pair for same, pair in pairs if equivalent(*pair, mode="symbolic") is not same] == []
  assert sum(same for same, _ in pairs) >= 200 and sum(not same for same, _ in pairs) >= 200


def test_extraction_in_every_form():
  counts = collections.Counter(extraction.form for extraction in EXTRACTIONS)
  assert len(EXTRACTIONS) >= 400 and len(counts) >= 10
  assert [e.response for e in EXTRACTIONS if not found_rightly(e)] == [AMBIGUOUS]
