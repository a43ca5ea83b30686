"""What 8-bit weights and 8-bit keys and values cost in quality: accuracy, agreement and logit error of a trained model.

    skymath bench serving_quality [--model=asset:micro_teacher] [--problems=200]

Accuracy: greedy answers to micro-world test problems (strict grader), `same_answers` the share that is letter
for letter those of full precision, and `logit_error` the root mean square difference of next-token logits after each
problem, over their standard deviation. The peer in each row is full precision.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from skymath_jax import models, prompts
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.generation import Request, Sampling
from skymath_jax.grading import equivalent, extract
from skymath_jax.models import cache
from skymath_jax.problems import catalog

WAYS = {"full": {}, "weights": {"weights": "int8"}, "kv": {"kv": "int8"}, "both": {"weights": "int8", "kv": "int8"}}
SHAPE = {"slots": 64, "max_length": 256, "steps_per_call": 16}


def next_logits(decoder: Any, rows: Sequence[Sequence[int]], way: dict[str, str]) -> np.ndarray:
  """Logits `[rows vocab]` after each row of tokens: prefill into a cache of that kind, then one decode step."""
  engine = Engine(decoder, EngineSettings(**SHAPE | way))
  held, fed, ends = cache.init(engine.config, len(rows), 256, engine.kv_dtype), [], []
  insert = jax.jit(cache.insert, donate_argnums=0)
  for slot, row in enumerate(rows):
    padded = np.zeros((1, 256), np.int32)
    padded[0, : len(row) - 1] = row[:-1]
    held = insert(held, engine.programs.prefill(engine.params, padded), slot)
    fed.append(row[-1])
    ends.append(len(row) - 1)
  step = jax.jit(lambda params, *args: engine.programs.decoder(params).decode(*args)[0])
  return np.asarray(step(engine.params, jnp.asarray(fed), held, jnp.asarray(ends)))


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Three rows for each way."""
  parser = argparse.ArgumentParser("skymath bench serving_quality")
  parser.add_argument("--model", default="asset:micro_teacher")
  parser.add_argument("--template", default="metamath/solve")
  parser.add_argument("--problems", type=int, default=200)
  chosen = parser.parse_args(arguments)
  decoder, tokenizer = models.load_any(chosen.model)
  with tempfile.TemporaryDirectory() as folder:
    problems = catalog.load("micro_gsm:test", data_dir=folder)[: chosen.problems]
  frame = prompts.load(chosen.template)
  texts = [frame.render(question=problem.question) for problem in problems]
  requests = [Request(id=str(i), prompt=t, sampling=Sampling(max_tokens=160)) for i, t in enumerate(texts)]
  rows = [tokenizer.encode(text, bos=True) for text in texts[:64]]
  full: dict[str, Any] = {}
  for way, settings in WAYS.items():
    responses = LocalGenerator(decoder, tokenizer, way, EngineSettings(**SHAPE | settings)).generate_all(requests)
    right = [equivalent(p.answer, extract(r.text) or "") for p, r in zip(problems, responses, strict=True)]
    answers, logits = [r.text for r in responses], next_logits(decoder, rows, settings)
    accuracy = float(np.mean(right))
    full = full or {"accuracy": accuracy, "answers": answers, "logits": logits}
    same = float(np.mean([a == b for a, b in zip(answers, full["answers"], strict=True)]))
    error = float(np.sqrt(np.mean((logits - full["logits"]) ** 2)) / np.std(full["logits"]))
    facts = {"model": chosen.model, "problems": len(problems), "same_answers": round(same, 4)}
    facts["logit_error"] = round(error, 5)
    yield {
      "name": f"serving.quality.{way}",
      "value": round(accuracy, 4),
      "unit": "share of problems solved",
      "peer": round(full["accuracy"], 4),
      "settings": facts,
    }
