"""The config: each key declared once, every bad value refused with the key and the remedy in the message."""

import subprocess
import sys
from pathlib import Path

import pytest

from skymath_jax import config
from skymath_jax.cli import flags
from skymath_jax.errors import UserError
from skymath_jax.keys import bound_fields, first_difference

EXPERIMENTS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def test_there_are_few_keys_and_each_says_what_it_means():
  assert len(config.KEYS) <= 102 and all(key.meaning for key in config.KEYS.values())
  assert config.KEYS.keys() == config.flatten(config.base()).keys() == config.flatten(config.Experiment()).keys()
  assert all(key.checked(key.default) == key.default for key in config.KEYS.values())


def test_the_defaults_are_those_of_the_fields():
  assert config.resolve(config.base()) == config.Experiment()
  key = config.KEYS["training.mu_dtype"]
  assert key.choices == ("float32", "bfloat16") and not key.free and key.default == config.Training().mu_dtype


def test_the_config_is_light():
  code = "import sys; from skymath_jax import config; print(*sys.modules)"
  loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
  assert not loaded & {"jax", "flax", "pydantic", "scipy"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_shipped_experiment_resolves(path):
  experiment = config.resolve(config.load(path))
  assert experiment.name == path.stem
  assert path.read_text().startswith('"""') and "skymath" in path.read_text()


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("rng_seed", True, "config.rng_seed: True is not of type int"),
    ("synthesis.temperature", "hot", "config.synthesis.temperature"),
    ("teacher.backend", "carrier pigeon", "jetstream, openai, batch, local"),
    (
      "synthesis.judge",
      ("verdict", "beauty"),
      "config.synthesis.judge: 'beauty' is not known. use one of: verdict, diff",
    ),
    ("training.rows", 0, "config.training.rows: 0 is too small. give 1 or more"),
    ("training.clip", -1.0, "config.training.clip: -1.0 is too small. give 0 or more"),
    ("training.epsilon", float("nan"), "config.training.epsilon: nan is too small"),
    ("training.betas", (0.9,), r"config.training.betas: (0.9,) is not of type tuple. e.g. (0.9, 0.999)"),
    ("synthesis.hard_levels", ("four",), "config.synthesis.hard_levels"),
    ("synthesis.pass1", {"xwin": -1.0}, "config.synthesis.pass1.xwin: -1.0 is too small"),
    ("model.scratch", {"embd": 4}, "config.model.scratch.embd: there is no such entry. use one of: embed, layers"),
    ("model.scratch", {"embed": 0}, "config.model.scratch.embed: 0 is too small"),
    ("training.micro_batches", 3, "8 rows do not split into 3 micro-batches"),
  ],
)
def test_bad_values_are_refused_by_name(key, value, message):
  c = config.base()
  group, _, leaf = key.rpartition(".")
  target = c if not group else c[group]
  with c.unlocked(), target.ignore_type():
    target[leaf] = value
  with pytest.raises(UserError) as refused:
    config.resolve(c)
  assert message in str(refused.value)


def test_unknown_key_names_the_nearest():
  c = config.base()
  with c.unlocked():
    c.training.epochz = 3
  with pytest.raises(
    UserError, match=r"config\.training\.epochz: no such key\. did you mean config\.training\.stage1\.epochs\?"
  ):
    config.resolve(c)
  c = config.base()
  with c.unlocked():
    del c.training.rows
  with pytest.raises(UserError, match=r"config\.training\.rows: the config lacks a key"):
    config.resolve(c)


def test_a_method_needs_no_key(tmp_path):
  recipe = tmp_path / "mine.py"
  lines = ("from skymath_jax.config import base", "def get_config():", "  c = base()", "  c.synthesis.hard.mine = 2.0")
  recipe.write_text("\n".join([*lines, "  return c"]))
  overrides = ("--config.synthesis.pass1.xwin=3", "--config.synthesis.pass2.brand_new=0.5", "--config.rng_seed=7")
  found = flags.parse(["run", f"--config={recipe}", *overrides], config="required").config
  assert found.synthesis.pass1["xwin"] == 3 and found.synthesis.pass2["brand_new"] == 0.5 and found.rng_seed == 7
  assert list(found.synthesis.hard) == sorted([*config.HARD, "mine"])


def test_hash_depends_on_every_value_and_on_nothing_else():
  one = config.Experiment()
  two = config.changed(one, {"training.stage2.epochs": 4})
  assert config.config_hash(one) == config.config_hash(config.resolve(config.base())) != config.config_hash(two)
  assert first_difference(config.as_json(one), config.as_json(two)) == ("training.stage2.epochs", 3, 4)
  assert first_difference(config.as_json(one), config.as_json(one)) is None


def test_another_machine_is_not_another_run():
  one = config.Experiment()
  machine = {"name": "other", "hardware": "h200", "model.remat": "full", "mesh.fsdp": 8, "training.micro_batches": 4}
  two = config.changed(one, machine)
  assert config.bound(one) == config.bound(two)
  assert bound_fields(one.training) == bound_fields(two.training)
  two = config.changed(two, {"training.stage2.epochs": 4, "training.schedule": "linear"})
  assert config.bound(two, "training.stage2") == {"training.stage2.learning_rate": 2e-6, "training.stage2.epochs": 4}
  assert config.bound(one, "training.stage1", "seeds") == config.bound(two, "training.stage1", "seeds")
  assert bound_fields(two.training)["schedule"] == "linear" and "rows" in bound_fields(two.training)
  assert not {"keep", "stage1", "micro_batches"} & bound_fields(two.training).keys()
  with pytest.raises(KeyError, match="trainig"):
    config.bound(one, "trainig")


def test_what_another_version_left_is_read_or_refused():
  kept = config.as_json(config.changed(config.Experiment(), {"training.rows": 4}))
  del kept["hardware"], kept["serving"]  # keys that came later have their defaults
  assert config.stored(kept, where="config.json").training.rows == 4
  for section, change, key in (
    ("training", {"optimizer": "adamw"}, "training.optimizer"),
    ("model", {"scratch": {"tokenizer": "asset:micro_teacher"}}, "model.scratch.tokenizer"),
    ("teacher", {"price_in": 2.0}, "teacher.price_in"),
  ):
    with pytest.raises(UserError, match=rf"another version of skymath, with the key config\.{key}"):
      config.stored(kept | {section: kept[section] | change}, where="config.json")
