"""How text is asked of a model, wherever the model runs: the `Generator` protocol and its remote clients.

The in-process generator is `skymath_jax.engine.generator`. Nothing here loads JAX.
"""

from skymath_jax.generation.limits import CostCeilingReached, Limits
from skymath_jax.generation.types import Generator, Request, RequestRejected, Response, Sampling, Stats

__all__ = ["CostCeilingReached", "Generator", "Limits", "Request", "RequestRejected", "Response", "Sampling", "Stats"]
