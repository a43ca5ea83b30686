"""Where problems come from: the catalog of public sets, the micro world, a user's own files."""

from skymath_jax.problems.catalog import citation, load, names, oracle

__all__ = ["citation", "load", "names", "oracle"]
