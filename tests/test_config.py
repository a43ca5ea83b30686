"""The config: every key documented, every bad value refused with the key and the remedy in the message."""

from pathlib import Path

import pytest
from ml_collections import config_flags

from skymath_jax import config
from skymath_jax.errors import UserError

EXPERIMENTS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def load(path):
  spec = config_flags.config_flags._LoadConfigModule("experiment", str(path))
  return spec.get_config()


def test_every_key_has_one_line_of_documentation():
  assert config.documentation().keys() == config.flatten(config.base()).keys()
  assert len(config.documentation()) <= 120


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_shipped_experiment_resolves(path):
  experiment = load(path)
  config.check(experiment)
  assert experiment.name == path.stem
  assert path.read_text().startswith('"""') and "skymath" in path.read_text()


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("rng_seed", True, "config.rng_seed: True is not of type int"),
    ("synthesis.temperature", "hot", "config.synthesis.temperature"),
    ("teacher.backend", "carrier pigeon", "jetstream, openai, local"),
    ("training.rows", 0, "config.training.rows: zero makes no sense"),
    ("training.clip", -1.0, "config.training.clip: -1.0 is negative"),
    ("synthesis.hard_levels", ("four",), "config.synthesis.hard_levels"),
    ("training.micro_batches", 3, "8 rows do not split into 3 micro-batches"),
  ],
)
def test_bad_values_are_refused_by_name(key, value, message):
  c = config.base()
  group, _, leaf = key.rpartition(".")
  target = c if not group else c[group]
  with c.unlocked(), target.ignore_type():
    target[leaf] = value
  with pytest.raises(UserError, match=message.replace("(", r"\(")):
    config.check(c)


def test_unknown_key_names_the_nearest():
  c = config.base()
  with c.unlocked():
    c.training.epochz = 3
  with pytest.raises(
    UserError, match=r"config\.training\.epochz: no such key\. did you mean config\.training\.stage1\.epochs\?"
  ):
    config.check(c)


def test_hash_depends_on_every_value_and_on_nothing_else():
  one, two = config.base(), config.base()
  assert config.config_hash(one) == config.config_hash(two)
  two.training.stage2.epochs = 4
  assert config.config_hash(one) != config.config_hash(two)
  assert config.first_difference(config.as_json(one), config.as_json(two)) == ("training.stage2.epochs", 3, 4)
  assert config.first_difference(config.as_json(one), config.as_json(one)) is None


def test_another_machine_is_not_another_run():
  one, two = config.base(), config.base()
  two.name, two.model.remat, two.mesh.fsdp, two.mesh.tensor, two.training.micro_batches = "other", "full", 8, 2, 4
  assert config.binding(config.as_json(one)) == config.binding(config.as_json(two))
  assert config.FREE <= config.flatten(one).keys()
  two.training.stage2.epochs = 4
  found = config.first_difference(config.binding(config.as_json(one)), config.binding(config.as_json(two)))
  assert found == ("training.stage2.epochs", 3, 4)
