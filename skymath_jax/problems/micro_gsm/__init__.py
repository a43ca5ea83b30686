"""micro_gsm: a procedural world of grade-school word problems, its oracle, and the text for the micro models."""

from skymath_jax.problems.micro_gsm.builder import MicroGsm, prepare, problems
from skymath_jax.problems.micro_gsm.oracle import Solved, check, solve
from skymath_jax.problems.micro_gsm.targets import base_examples, sentences, teacher_examples

__all__ = [
  "MicroGsm",
  "Solved",
  "base_examples",
  "check",
  "prepare",
  "problems",
  "sentences",
  "solve",
  "teacher_examples",
]
