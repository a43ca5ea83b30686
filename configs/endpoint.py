"""A model behind an OpenAI-compatible server: what `skymath evaluate --endpoint=URL --model=NAME` starts from.

It is asked in its own chat template and graded symbolically. Prices, rate limits and the key's variable are those of
`teacher`.
"""

from skymath_jax.config import base
from skymath_jax.hardware import note


def get_config(machine=""):
  c = base()
  c.name = "endpoint"
  c.teacher.backend = "openai"
  c.evaluation.template = "chat"
  c.evaluation.mode = "symbolic"
  c.evaluation.benchmarks = ("paper",)
  return note(c, machine)
