"""skymath_jax: seed math problems in, a better math model out (Skywork-Math, arXiv 2407.08348, in JAX)."""

__version__ = "0.2.0"
