"""Seed problems in, query-response instances out: the augmentation methods, their runner and the response store."""

from skymath_jax.synthesis.methods import METHODS, Ask, Method, Origin, Rejected, Rejection, Reply, Settings
from skymath_jax.synthesis.plan import Lengths, plan, plan_judging, total_cost
from skymath_jax.synthesis.run import Result, check_runs, jobs, judge, synthesize
from skymath_jax.synthesis.seeds import as_problems, hard_seeds, require_answers
from skymath_jax.synthesis.session import Job
from skymath_jax.synthesis.store import ResponseStore, StoredResponse

__all__ = [
  "METHODS", "Ask", "Job", "Lengths", "Method", "Origin", "Rejected", "Rejection", "Reply", "ResponseStore", "Result",
  "Settings", "StoredResponse", "as_problems", "check_runs", "hard_seeds", "jobs", "judge", "plan", "plan_judging",
  "require_answers", "synthesize", "total_cost",
]  # fmt: skip
