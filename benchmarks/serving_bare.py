"""The engine alone, for comparison: the cheapest loop that fills free slots, steps, and sees who is done."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from skymath_jax.engine.batching import SlotsLike
from skymath_jax.engine.types import Prompt


def prompts_of(tokenizer: Any, work: Sequence[tuple[str, int, int]], temperature: float) -> list[Prompt]:
  """A workload of (prompt, new tokens, seed) as the engine takes it."""
  return [
    Prompt(tokens=tuple(tokenizer.encode(text, bos=True)), max_tokens=new, temperature=temperature, seed=seed)
    for text, new, seed in work
  ]


def rate(engine: Any, slots: SlotsLike, prompts: Sequence[Prompt]) -> float:
  """Tokens/s; `slots` of `engine` (a server's `EngineLike`; JetStream need not be there) are all idle."""
  waiting, left, made = list(prompts), {}, 0
  free, start = list(range(slots.count)), time.perf_counter()
  while waiting or left:
    batch = [waiting.pop() for _ in range(min(len(waiting), len(free)))]
    for prompt, prefix in zip(batch, engine.prefill_each(batch) if batch else [], strict=True):
      slot = free.pop()
      slots.insert(prefix, slot)
      left[slot] = prompt.max_tokens
    rows = np.asarray(slots.generate())
    steps = rows.shape[1] // 2
    valid = rows[:, steps : 2 * steps].sum(axis=1).tolist()
    for slot in list(left):
      made += valid[slot]
      left[slot] -= valid[slot]
      if left[slot] <= 0 or valid[slot] < steps:
        del left[slot]
        slots.release(slot)
        free.append(slot)
  return made / (time.perf_counter() - start)
