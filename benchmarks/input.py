"""The input of the trainer alone: how full the rows get, and how fast packing, batches and tokenizing are.

    skymath bench input [--examples=200000] [--seconds=10]

Lengths are drawn like those of synthesized mathematics under the Alpaca frame (log-normal: median 245, mean 293, 99 %
below 1,000 tokens; 2,048 at most), as in the paper's 2-million set. `peer` of the rates is five times what the 7B step
consumes on one H200 (14,400 tokens/s: benchmarks/results/training.md), the margin that the trainer is held to.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from skymath_jax import models, tokenizer
from skymath_jax.sft import texts
from skymath_jax.training.examples import Examples, select
from skymath_jax.training.packing import Packing, Steps, iterate
from skymath_jax.training.tokens import make

NEEDED = 5 * 14_400
LENGTH, ROWS = 2048, 8


def examples(count: int, rng_seed: int = 0) -> Examples:
  """`count` examples of random tokens with the paper-like lengths; half of each example is prompt."""
  rng = np.random.default_rng(rng_seed)
  lengths = np.clip(rng.lognormal(5.5, 0.6, count).astype(np.int64), 40, LENGTH)
  starts, total = np.cumsum(lengths) - lengths, int(lengths.sum())
  return Examples(
    tokens=rng.integers(0, 32_000, total, dtype=np.int32),
    trained=np.arange(total) - np.repeat(starts, lengths) >= np.repeat(lengths // 2, lengths),
    starts=starts,
    lengths=lengths,
    targets=lengths - lengths // 2,
    largest=31_999,
    token_weights=np.ones(count, np.float32),
    over_long=0,
    untrained=0,
  )


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: fill, packing rate, rate of ready batches, rate of tokenizing."""
  parser = argparse.ArgumentParser("skymath bench input")
  parser.add_argument("--examples", type=int, default=200_000)
  parser.add_argument("--seconds", type=float, default=10.0)
  chosen = parser.parse_args(arguments)
  data = examples(chosen.examples)
  settings = {
    "examples": chosen.examples,
    "max_length": LENGTH,
    "rows": ROWS,
    "mean_length": round(len(data.tokens) / chosen.examples, 1),
  }
  start = time.perf_counter()
  steps = Steps(data, Packing(max_length=LENGTH, rows=ROWS, epochs=1))
  seconds = time.perf_counter() - start
  yield {"name": "input.fill", "value": round(steps.fill, 5), "unit": "share of row positions", "settings": settings}
  yield {"name": "input.packing", "value": round(chosen.examples / seconds), "unit": "examples/s", "settings": settings}
  rate = round(_batch_rate(steps, chosen.seconds))
  yield {"name": "input.batches", "value": rate, "unit": "tokens/s", "peer": NEEDED, "settings": settings}
  rate, settings = _tokenizing_rate()  # once before the first step, so it has no rate to keep up with
  yield {"name": "input.tokenizing", "value": round(rate), "unit": "tokens/s", "settings": settings}


def _batch_rate(steps: Steps, seconds: float) -> float:
  tokens, start = 0, time.perf_counter()
  for batch in iterate(steps):
    tokens += int((batch["segment_ids"] > 0).sum())
    if time.perf_counter() - start > seconds:
      break
  return tokens / (time.perf_counter() - start)


def _tokenizing_rate(count: int = 4000) -> tuple[float, dict[str, Any]]:
  source = texts.generate("micro_gsm/teacher", count)
  words = tokenizer.load(models.resolve("asset:micro_teacher"))
  start = time.perf_counter()
  found = select(make(source, words, "raw"), max_length=LENGTH)
  return len(found.tokens) / (time.perf_counter() - start), {"examples": count, "tokenizer": "SentencePiece, bundled"}
