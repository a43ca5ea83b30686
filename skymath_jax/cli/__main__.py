"""`python -m skymath_jax.cli VERB …`, the same as the console script."""

from skymath_jax.cli.main import main

if __name__ == "__main__":
  main()
