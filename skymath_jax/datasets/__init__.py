"""Where problems come from and where training pairs are kept: the catalog, the micro world, user files, the SFT set."""

from skymath_jax.datasets import sft
from skymath_jax.datasets.catalog import citation, load, names, oracle

__all__ = ["citation", "load", "names", "oracle", "sft"]
