"""Seed problems in, query-response instances out: the augmentation methods, their runner and the response store."""

from skymath_jax.synthesis.methods import METHODS, Ask, Method, Origin, Rejected, Rejection, Reply, Settings
from skymath_jax.synthesis.run import Job, Result, jobs, plan, synthesize
from skymath_jax.synthesis.seeds import as_problems, hard_seeds, require_answers
from skymath_jax.synthesis.store import ResponseStore, StoredResponse

__all__ = [
  "METHODS", "Ask", "Job", "Method", "Origin", "Rejected", "Rejection", "Reply", "ResponseStore", "Result", "Settings",
  "StoredResponse", "as_problems", "hard_seeds", "jobs", "plan", "require_answers", "synthesize",
]  # fmt: skip
