"""Is this answer right? No JAX, no network, and nothing that a model wrote is ever executed.

`extract` finds the answer in a response, `equivalent` compares two answers: `strict` by the paper's string rules (the
headline number), `symbolic` by exact arithmetic (for cross-checks, pseudo-golds and the `grade` verb).
"""

from skymath_jax.grading.extract import announced_answer, extract, gold_answer, marked_answer
from skymath_jax.grading.response import answer_of, bare_gold, grade_response
from skymath_jax.grading.rows import grade_file, grade_rows
from skymath_jax.grading.verdict import MODES, equivalent

__all__ = [
  "MODES",
  "announced_answer",
  "answer_of",
  "bare_gold",
  "equivalent",
  "extract",
  "gold_answer",
  "grade_file",
  "grade_response",
  "grade_rows",
  "marked_answer",
]
