"""How good a model is: zero-shot chain of thought on a benchmark, greedy unless asked, graded by `grading`."""

from skymath_jax.evaluation import statistics
from skymath_jax.evaluation.benchmarks import Benchmark
from skymath_jax.evaluation.benchmarks import load as load_benchmark
from skymath_jax.evaluation.run import PREDICTIONS, evaluate, summarize

__all__ = ["PREDICTIONS", "Benchmark", "evaluate", "load_benchmark", "statistics", "summarize"]
