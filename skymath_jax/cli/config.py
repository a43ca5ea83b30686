"""`skymath config`: every key of an experiment."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import parse


def config(argv: Sequence[str]) -> int:
  """`skymath config`: every key, its value (in `--config=FILE`, else the default) and its meaning."""
  values = parse(argv, config="optional")
  experiment: ConfigDict = values.config if values.config is not None else config_lib.base()
  documentation = config_lib.documentation()
  for key, value in config_lib.flatten(experiment).items():
    print(f"config.{key} = {value!r}  # {documentation[key]}")
  print(f"# config_hash {config_lib.config_hash(experiment)}")
  return 0
