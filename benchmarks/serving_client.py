"""The client's side of a measurement, in a process of its own and without JAX, as clients are.

`rate` starts it, hands it the workload on standard input and reads tokens/s from its last line.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.cli import bench
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.testing.tokenizers import CodePointTokenizer

Work: TypeAlias = Sequence[tuple[str, int, int]]  # (prompt, new tokens, seed)


def rate(address: str, work: Work, *, concurrency: int, temperature: float = 0.0, tokenizer: str = "") -> float:
  """Tokens/s of `work` with so many requests under way; `tokenizer` is a folder, or nothing for code points."""
  ask = {"address": address, "work": work, "concurrency": concurrency, "temperature": temperature}
  ask["tokenizer"] = tokenizer
  done = subprocess.run(
    bench.in_child("serving_client", "main"), input=json.dumps(ask), stdout=subprocess.PIPE, text=True, check=True
  )
  return float(done.stdout.splitlines()[-1])


async def served(address: str, work: Work, concurrency: int, temperature: float, tokenizer: str) -> float:
  """Tokens/s, in this process."""
  coder: Any = tokenizer_lib.load(tokenizer) if tokenizer else CodePointTokenizer()
  requests = [
    Request(id=str(i), prompt=text, sampling=Sampling(temperature=temperature, max_tokens=new, seed=seed))
    for i, (text, new, seed) in enumerate(work)
  ]
  client = JetStreamGenerator([address], coder, "m", concurrency=concurrency)
  await client.check()
  async for _ in client.generate(Request(id=str(i), prompt="1", sampling=Sampling(max_tokens=8)) for i in range(8)):
    pass  # the connection is opened
  before, start = client.stats.completion_tokens, time.perf_counter()
  async for _ in client.generate(requests):
    pass
  seconds = time.perf_counter() - start
  await client.close()
  return (client.stats.completion_tokens - before) / seconds


def main() -> None:
  """The child's part: reads the workload, prints tokens/s."""
  print(asyncio.run(served(**json.load(sys.stdin))))
  assert "jax" not in sys.modules
