"""How good a model is: zero-shot chain of thought on a benchmark, greedy unless asked, graded by `grading`."""

from skymath_jax import statistics
from skymath_jax.evaluation.benchmarks import folder_name
from skymath_jax.evaluation.benchmarks import load as load_benchmark
from skymath_jax.evaluation.compare import compare
from skymath_jax.evaluation.evaluate import PREDICTIONS, evaluate
from skymath_jax.evaluation.summary import summarize

__all__ = ["PREDICTIONS", "compare", "evaluate", "folder_name", "load_benchmark", "statistics", "summarize"]
