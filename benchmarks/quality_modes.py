"""What each quality mode does, measured by the micro world's oracle: validity of questions and right answers.

    skymath bench quality_modes FOLDER [SEEDS] [SAMPLES]        default 60 seeds, 4 samples

The micro teacher answers each query SAMPLES times. Each row is one mode and method: pairs kept, share of them whose
question is sound, share whose answer is right. `verdict` takes the oracle's word with one in ten turned round, a
verifier that is right nine times in ten: the micro teacher was never taught to judge. Then, for each method, the share
of near-duplicates (Jaccard 0.8, same numbers, other seeds) and the diversity gain: the mean squared distance of a new
query to the nearest seed question, on hashed unit vectors (MetaMath section 4.1 uses an embedding of 2022's ada-002).
"""

import argparse
import asyncio
import dataclasses
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from skymath_jax import coreset, curation, models
from skymath_jax.config import Curation
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.generation import Sampling
from skymath_jax.problems import catalog
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis import METHODS, ResponseStore, synthesize
from skymath_jax.synthesis import Settings as SynthesisSettings

RUNS = {name: 1.0 for name in METHODS} | {"evol": 0.5}
MODES: dict[str, dict[str, Any]] = {
  "keep all": {},
  "gold": {"quality": ("gold",)},
  "majority": {"quality": ("majority",)},
  "verdict": {"quality": ("verdict",)},
  "gold + majority + verdict": {"quality": ("gold", "majority", "verdict")},
  "hardest half": {"hard": 0.5},
}


def settings(**changes: Any) -> curation.Settings:
  return curation.Settings.from_config(Curation(), **changes)


def curated(instances: list[Instance], mode: str) -> list[Instance]:
  return curation.curate(instances, test_sets={}, settings=settings(near_duplicate=0, **MODES[mode])).kept


def make(folder: pathlib.Path, seeds: list[Problem], samples: int) -> list[Instance]:
  """All methods once on each seed, every query answered `samples` times."""

  async def main(store: ResponseStore):
    decoder, tokenizer = models.load_any("asset:micro_teacher")
    settings = EngineSettings(slots=128, max_length=384, steps_per_call=8)
    teacher = LocalGenerator(decoder, tokenizer, models.model_id("asset:micro_teacher"), settings)
    try:
      return await synthesize(
        seeds, RUNS, teacher, store, stage=1, sampling=Sampling(temperature=0.7, max_tokens=256), rng_seed=0,
        settings=SynthesisSettings(evol_steps=5, evol_elimination=True, samples=samples, prompts="plain", rounds=0),
        concurrency=256, max_rejected=1.0,
      )  # fmt: skip
    finally:
      await teacher.close()

  folder.mkdir(parents=True, exist_ok=True)
  with ResponseStore(folder / "responses.sqlite") as store:
    return asyncio.run(main(store)).instances


def with_verdicts(instances: list[Instance], check) -> list[Instance]:
  rng = random.Random(0)
  return [
    dataclasses.replace(i, quality=i.quality | {"verdict": all(check(i.query, i.answer)) != (rng.random() < 0.1)})
    for i in instances
  ]


def family(instance: Instance) -> str:
  return "evol" if instance.method.startswith("evol.") else instance.method


def shares(instances: list[Instance], check) -> dict[str, dict[str, float]]:
  """Method → number, share of sound questions, share of right answers, mean level of the seed."""
  found: dict[str, list] = {}
  for i in instances:
    for name in (family(i), "all"):
      found.setdefault(name, []).append((*check(i.query, i.answer), i.level))
  return {
    name: {
      "n": len(rows), "valid": round(float(np.mean([r[0] for r in rows])), 3),
      "right": round(float(np.mean([r[1] for r in rows])), 3), "level": round(float(np.mean([r[2] for r in rows])), 2),
    }
    for name, rows in sorted(found.items())
  }  # fmt: skip


def variety(instances: list[Instance], seeds: list[Problem]) -> dict[str, dict[str, float]]:
  base = coreset.embed([p.question for p in seeds], "hashed")
  near = curation.curate(instances, test_sets={}, settings=settings())
  dropped = [family(d.instance) for d in near.dropped if d.reason == "near_duplicate"]
  found = {}
  for name in sorted({family(i) for i in instances}):
    queries = list(dict.fromkeys(i.query for i in instances if family(i) == name))
    nearest = (2 - 2 * coreset.embed(queries, "hashed") @ base.T).min(axis=1)
    share = dropped.count(name) / sum(family(i) == name for i in instances)
    found[name] = {
      "queries": len(queries), "near_duplicates": round(share, 4),
      "diversity_gain": round(float(np.maximum(nearest, 0).mean()), 3),
    }  # fmt: skip
  return found


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: one a mode and method, one a solve rate, one a method of its variety."""
  parser = argparse.ArgumentParser("skymath bench quality_modes")
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("seeds", nargs="?", type=int, default=60)
  parser.add_argument("samples", nargs="?", type=int, default=4)
  chosen = parser.parse_args(words)
  seeds, check = catalog.load("micro_gsm")[: chosen.seeds], catalog.oracle(["micro_gsm"])
  instances = with_verdicts(make(chosen.folder, seeds, chosen.samples), check)
  asked = {"seeds": chosen.seeds, "samples": chosen.samples}
  for mode in MODES:
    for method, row in shares(curated(instances, mode), check).items():
      facts = {"mode": mode, "method": method, **asked, **row}
      yield {"name": "quality_modes", "value": row["right"], "unit": "share", "settings": facts}
  rates: dict[float, list[bool]] = {}
  for i in curated(instances, "keep all"):
    rates.setdefault(i.quality.get("solve_rate", 1.0), []).append(check(i.query, i.answer)[1])
  for rate, right in sorted(rates.items()):
    facts = {"solve_rate": rate, "n": len(right)}
    yield {"name": "solve_rate", "value": round(float(np.mean(right)), 3), "unit": "right", "settings": facts}
  for method, row in variety(instances, seeds).items():
    yield {"name": "diversity", "value": row["diversity_gain"], "unit": "gain", "settings": {"method": method, **row}}
