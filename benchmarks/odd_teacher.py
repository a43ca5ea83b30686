"""A teacher that misbehaves in one way at a time: what `teacher check` says of it, and what a run makes of it.

    skymath bench odd_teacher URL --workdir=DIR [--modes=think,null,…] [--seeds=40] [--no-check]

URL is the root of a server that answers `/MODE/v1/chat/completions` as MODE says, such as one written for the purpose.
A run is `synthesize` on seeds of the micro world, with the config lines that the check has found. One row a mode: its
instances; in `settings` what the check set, the rejections, the requests, the seconds, and the error that ended it.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import config as config_lib
from skymath_jax import files
from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.recipe import seeds, stages, synthesize, teacher_check

MODES = (
  *("good", "think", "null", "nocontent", "parts", "finish-content_filter", "finish-model_length", "tail", "raw"),
  *("boxed", "display", "once-524", "once-529", "rate-5", "odd-500", "odd-403", "err200", "usagenull", "nousage"),
  *("oseries", "noseed"),
)  # fmt: skip
NO_METHODS: dict[str, float] = {}


def experiment(url: str, mode: str, limit: int) -> Experiment:
  """A small run against one mode, with prices and a ceiling far away."""
  teacher = {"backend": "openai", "model": "m", "base_url": f"{url}/{mode}/v1", "prices": (1.0, 1.0)}
  methods = {"pass1": {"answer_augmentation": 1.0, "rephrase": 1.0}, "pass2": NO_METHODS, "hard": NO_METHODS}
  changes: dict[str, Any] = {"seeds.sources": ("micro_gsm",), "seeds.limit": limit}
  changes |= {f"teacher.{key}": value for key, value in teacher.items()} | {"teacher.cost_ceiling": 1000.0}
  changes |= {f"synthesis.{key}": value for key, value in methods.items()}
  changes |= {"synthesis.coreset_size": 0, "curation.test_sets": ("micro_gsm:test",)}
  return config_lib.changed(Experiment(), changes)


def checked(config: Experiment, found: dict[str, Any]) -> Experiment:
  """The config as the check would have it; what it says goes to `found`."""
  try:
    facts = teacher_check.check(config)
  except UserError as error:
    return found.update(check=str(error)) or config
  found["check"] = {key: facts[key] for key in ("parsed", "right", "rejected", "ends", "thoughts", "usage", "set")}
  for name, _, value in (line.partition("  #")[0].partition("=") for line in facts["set"]):
    text = value.strip("'")
    config = config_lib.changed(config, {name: int(text) if text.isdecimal() else text})
  return config


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a mode."""
  parser = argparse.ArgumentParser("skymath bench odd_teacher")
  parser.add_argument("url")
  parser.add_argument("--workdir", required=True, type=Path)
  parser.add_argument("--modes", type=lambda text: text.split(","), default=MODES)
  parser.add_argument("--check", default=True, action=argparse.BooleanOptionalAction, help="ask `teacher check` first")
  parser.add_argument("--seeds", type=int, default=40)
  chosen = parser.parse_args(words)
  for mode in chosen.modes:
    found: dict[str, Any] = {}
    folder, config = chosen.workdir / mode, experiment(chosen.url, mode, chosen.seeds)
    config = checked(config, found) if chosen.check else config
    began = time.perf_counter()
    try:
      stages.perform([seeds.STAGE, *synthesize.stages(config)], config, folder)
      summary = files.read_json(folder / "synthesis" / "stage1" / "summary.json")
      of_pass = summary["passes"][0]
      found |= {"rejected": of_pass["rejected"], "requests": of_pass["requests"]}
    except UserError as error:
      summary, found["error"] = {"instances": 0}, str(error)
    found |= {"seconds": round(time.perf_counter() - began, 1), "seeds": dataclasses.asdict(config.seeds)["limit"]}
    yield {"name": f"odd_teacher.{mode}", "value": summary["instances"], "unit": "instances", "settings": found}
