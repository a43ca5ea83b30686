"""Products of decode on a CPU: bfloat16 rows with a matrix as `[in out]`, as `[out in]` right of them, as the decoder
multiplies `[out in]` (few rows come right of it), and torch beside them.

    skymath bench cpu_products [--rows=16,64,128,256,512] [--sizes=1536x8960,8960x1536,1536x151936]

Sizes are inputs x outputs (those of Qwen2.5-1.5B: up, down, head). GFLOP a CPU-second, as all cores are used and others
use them, too. It is why the engine keeps its weights as `[out in]` there (`engine/weights.py`), and why few rows come
right (`models/product.py`).
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import torch
from jax import numpy as jnp

from skymath_jax.models.product import OutIn, product, summed

REPEATS = 8


def seconds(multiply: Callable[..., Any], x: Any, w: Any) -> float:
  """CPU-seconds of one call, after a first."""
  jax.block_until_ready(multiply(x, w))
  start = time.process_time()
  for _ in range(REPEATS):
    jax.block_until_ready(multiply(x, w))
  return (time.process_time() - start) / REPEATS


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """A row for each number of rows and each size: what the engine does, against torch."""
  parser = argparse.ArgumentParser("skymath bench cpu_products")
  parser.add_argument("--rows", default="16,64,128,256,512")
  parser.add_argument("--sizes", default="1536x8960,8960x1536,1536x151936")
  chosen = parser.parse_args(words)
  multiply = jax.jit(lambda x, w: product("...d,df->...f", x, w))
  rows_left = jax.jit(lambda x, w: summed("ri,oi->ro", x, w.w))
  for size in chosen.sizes.split(","):
    inputs, outputs = map(int, size.split("x"))
    w = jax.random.normal(jax.random.key(0), (inputs, outputs), jnp.bfloat16)
    turned, of_torch = OutIn(jnp.array(w.T)), torch.randn(outputs, inputs, dtype=torch.bfloat16)
    for rows in map(int, chosen.rows.split(",")):
      x = jax.random.normal(jax.random.key(1), (rows, inputs), jnp.bfloat16)
      their_x = torch.randn(rows, inputs, dtype=torch.bfloat16)
      ways: dict[str, tuple[Callable[..., Any], Any, Any]] = {
        "[in out]": (multiply, x, w),
        "[out in]": (rows_left, x, turned),
        "ours": (multiply, x, turned),
        "torch": (torch.nn.functional.linear, their_x, of_torch),
      }
      pace = {name: round(2e-9 * rows * inputs * outputs / seconds(*way)) for name, way in ways.items()}
      ours, peer = pace["ours"], pace["torch"]
      yield {
        "name": f"cpu_products.{size}.{rows}",
        "value": ours,
        "unit": "GFLOP/CPU-second",
        "peer": peer,
        "ratio": round(ours / peer, 2),
        "settings": pace,
      }
