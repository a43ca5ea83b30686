"""Measures what a model of the micro world can do, per prompt and level, on problems that no training text holds.

    skymath bench micro_skill asset:micro_teacher            every prompt of the pipeline
    skymath bench micro_skill asset:micro_base sft/alpaca    zero-shot solving in the SFT frame

Greedy; the oracle of the world is the judge. The rows are those of the table in the model card.
"""

import argparse
import collections
import random
from collections.abc import Iterator
from typing import Any

from skymath_jax import grading, models, prompts
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.generation import Request, Sampling
from skymath_jax.problems.micro_gsm import oracle, targets

EACH = 200  # examples a prompt


def right(name: str, fields: dict, target: str, text: str) -> bool:
  """Whether `text` does what the prompt `name` asks for."""
  if name == "metamath/declare":
    return text.strip() == target
  if name == "xwin/solve":
    return text.partition("FINAL ANSWER:\n")[2].strip() == target.partition("FINAL ANSWER:\n")[2].strip()
  if name in ("metamath/solve", "metamath/solve_backward", "sft/alpaca"):
    return grading.extract(text) == grading.extract(target)
  question = text.rpartition("FINAL CREATED QUESTION:\n")[2].strip() if name == "xwin/create" else text.strip()
  found, given = oracle.solve(question), oracle.solve(fields["question"])
  if name == "metamath/rephrase":
    return found is not None and found.answer == given.answer and question != fields["question"]
  return found is not None and question != fields["question"]


def examples(name: str, rng: random.Random):
  """`EACH` unseen examples of one prompt: (level, fields, target)."""
  source = "metamath/solve" if name == "sft/alpaca" else name
  for _ in range(EACH):
    _, fields, target = targets.example(source, rng, "test")
    solved = oracle.solve(fields["question"])
    level = solved.level if solved is not None else 0
    yield level, {**fields, "query": fields["question"]}, target


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a prompt."""
  parser = argparse.ArgumentParser("skymath bench micro_skill")
  parser.add_argument("model")
  parser.add_argument("prompts", nargs="*", default=list(targets.SHARES))
  chosen = parser.parse_args(words)
  decoder, tokenizer = models.load_any(chosen.model, dtype="float32")
  local = LocalGenerator(decoder, tokenizer, chosen.model, EngineSettings(slots=128, max_length=512, steps_per_call=16))
  for name in chosen.prompts:
    rows = list(examples(name, random.Random(f"skill {name}")))
    requests = [
      Request(id=str(i), prompt=prompts.load(name).render(**fields), sampling=Sampling(max_tokens=300))
      for i, (_, fields, _) in enumerate(rows)
    ]
    texts = {response.id: response.text for response in local.generate_all(requests)}
    by_level = collections.defaultdict(list)
    for i, (level, fields, target) in enumerate(rows):
      by_level[level].append(right(name, fields, target, texts[str(i)]))
    facts = {"prompt": name, "by_level": {k: round(sum(by_level[k]) / len(by_level[k]), 3) for k in sorted(by_level)}}
    yield {"name": "micro_skill", "value": sum(map(sum, by_level.values())) / EACH, "unit": "share", "settings": facts}
