"""What each method can do with real seed problems: backward questions and seeds reached, and prompts to read.

    skymath bench methods_on_seeds SOURCE [SOURCE …] [--data_dir=DIR] [--prompts=50]

SOURCE is a catalog name (math, gsm8k) or a file. With --prompts, so many random prompts of each method are printed too.
Nothing is asked of a teacher: a method's first requests are recorded, and answered by a placeholder where a second
request needs one.

Yardsticks (an independent count of the same rules): 22,640 backward questions from 6,482 of 7,500 MATH training
problems, 24,798 from 7,335 of 7,473 GSM8K ones; MetaMath's own rule gives 11,249 from 4,554, and 23,295 from 7,299.
"""

import argparse
import asyncio
import collections
import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from skymath_jax import prompts
from skymath_jax.config import Seeds
from skymath_jax.generation import Sampling
from skymath_jax.problems import catalog
from skymath_jax.records import Problem
from skymath_jax.synthesis import METHODS, Origin, Rejection, Reply, Settings
from skymath_jax.synthesis.methods import style

# sub-method → (key of METHODS, prompts that show it)
SUB_METHODS = {
  "answer augmentation": ("answer_augmentation", ("metamath/solve",)),
  "rephrase": ("rephrase", ("metamath/rephrase",)),
  "self-verification": ("self_verification", ("metamath/declare", "metamath/solve_backward")),
  "fobar": ("fobar", ("metamath/solve_backward",)),
  "evol in depth": ("evol", ("evol/add_constraint", "evol/deepen", "evol/concretize", "evol/add_reasoning")),
  "evol in breadth": ("evol", ("evol/new_problem",)),
  "xwin": ("xwin", ("xwin/create",)),
}
ORIGIN = Origin(teacher="none", stage=1, synthesis_pass=1)
SETTINGS = Settings(evol_steps=1, evol_elimination=True, samples=1, prompts="plain", rounds=0)


class Recorder:
  """An `Ask` that keeps the prompts and answers with placeholders that every parser takes."""

  def __init__(self, seed: object, settings: Settings):
    self.rng = random.Random(f"{seed}")
    self.settings = settings
    self.origin = ORIGIN
    self.asked: list[tuple[str, str]] = []

  async def __call__(self, name: str, /, **fields: str) -> Reply:
    prompt = prompts.load(name)
    self.asked.append((name, prompt.render(**fields)))
    text = {"metamath/declare": f"({fields.get('question')} It is {fields.get('answer')}; X.)"}
    return Reply(
      text=text.get(name, "Work.\nThe answer is 1"),
      prompt=prompt, sampling=Sampling(), tokens=1,
    )  # fmt: skip


def record(
  problem: Problem, method: str, settings: Settings, seed: object = 0
) -> tuple[list[tuple[str, str]], int, str]:
  """(prompts asked, instances made, reason where the method refused) of one run."""
  ask = Recorder((seed, problem.id), settings)
  try:
    made = asyncio.run(METHODS[method].augment(problem, ask))
    return ask.asked, len(made), ""
  except Rejection as rejection:
    return ask.asked, 0, rejection.reason


def survey(problems: list[Problem], method: str) -> dict:
  """How many seeds the method can start from, and how many questions it makes of them when every number is hidden."""
  asked = [record(p, method, dataclasses.replace(SETTINGS, mask_all=True)) for p in problems]
  reasons: dict[str, int] = {}
  for prompts_asked, _, reason in asked:
    if not prompts_asked:
      reasons[reason] = reasons.get(reason, 0) + 1
  questions = [sum(name == "metamath/solve_backward" for name, _ in found) for found, _, _ in asked]
  return {
    "seeds": len(problems), "reached": sum(bool(found) for found, _, _ in asked),
    "backward_questions": sum(questions), "not_reached": reasons,
  }  # fmt: skip


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a source of its styles, and one a method."""
  parser = argparse.ArgumentParser("skymath bench methods_on_seeds")
  parser.add_argument("sources", nargs="+")
  parser.add_argument("--data_dir", default=Seeds.data_dir)
  parser.add_argument("--prompts", type=int, default=0)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(words)
  for source in args.sources:
    problems = catalog.load(source, data_dir=args.data_dir)
    styles = collections.Counter(map(style, problems))
    facts = {"source": source, "styles": dict(styles)}
    yield {"name": "seeds", "value": len(problems), "unit": "problems", "settings": facts}
    for sub_method, (method, names) in SUB_METHODS.items():
      found = survey(problems, method)
      share = found["reached"] / found["seeds"]
      row = {"name": "methods_on_seeds", "value": round(share, 4), "unit": "share of seeds"}
      yield {**row, "settings": {"source": source, "method": sub_method, **found}}
      shown, rng = 0, random.Random(f"{args.seed} {sub_method}")
      while shown < args.prompts:
        for name, text in record(rng.choice(problems), method, SETTINGS, rng.random())[0]:
          if name in names:
            print(f"--- {sub_method} {shown + 1} · {name}\n{text}")
            shown += 1
