"""Is this math answer right? Nothing that a model wrote is executed, and every comparison is bounded in time.

`grade_response(gold, response, "symbolic")` finds the answer in a response and compares it, `extract` and `equivalent`
do the one and the other; `skymath_grading.rewards` has the signatures of trainers.
"""

from skymath_grading.extract import extract, gold_answer, marked_answer
from skymath_grading.response import answer_of, bare_gold, grade_response
from skymath_grading.rewards import (
  lm_eval_metric,
  lm_eval_results,
  maxtext_reward,
  trl_reward,
  tunix_reward,
  verl_score,
)
from skymath_grading.verdict import MODES, equivalent

__all__ = [
  "MODES",
  "answer_of",
  "bare_gold",
  "equivalent",
  "extract",
  "gold_answer",
  "grade_response",
  "lm_eval_metric",
  "lm_eval_results",
  "marked_answer",
  "maxtext_reward",
  "trl_reward",
  "tunix_reward",
  "verl_score",
]
