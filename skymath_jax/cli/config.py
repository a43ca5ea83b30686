"""`skymath config`: every key of an experiment."""

from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import parse


def config(argv: Sequence[str]) -> int:
  """`skymath config`: every key, its value (in `--config=FILE`, else the default) and its meaning."""
  values = parse(argv, config="optional")
  experiment = values.config or config_lib.Experiment()
  for name, value in config_lib.flatten(experiment).items():
    key = config_lib.KEYS[name]
    choices = f" ({' | '.join(key.choices)})" if key.choices else ""
    print(f"config.{name} = {value!r}  # {key.meaning}{choices}")
  print(f"# config_hash {config_lib.config_hash(experiment)}")
  return 0
