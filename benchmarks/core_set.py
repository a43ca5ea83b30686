"""Core-set selection: 50,000 of 500,000 points with 384 numbers each, in time and memory, and its radius on a sample.

    skymath bench core_set [N] [K]

The points are generated: 2,000 clusters of unit vectors. The radius is compared with the one-at-a-time greedy rule on
the first 5,000 points.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from skymath_jax.coreset.k_center import k_center

DIMENSIONS = 384


def points(n: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  centres = rng.normal(size=(2000, DIMENSIONS)).astype(np.float32)
  made = np.empty((n, DIMENSIONS), np.float32)
  for start in range(0, n, 50_000):
    stop = min(start + 50_000, n)
    made[start:stop] = centres[rng.integers(0, 2000, stop - start)]
    made[start:stop] += 0.5 * rng.normal(size=(stop - start, DIMENSIONS)).astype(np.float32)
    made[start:stop] /= np.linalg.norm(made[start:stop], axis=1, keepdims=True)
  return made


def plain(data: np.ndarray, k: int) -> list[int]:
  """The reference: one pass over all points for each pick (Sener & Savarese's greedy rule)."""
  picks, distances = [0], np.square(data - data[0]).sum(1)
  while len(picks) < k:
    picks.append(int(distances.argmax()))
    distances = np.minimum(distances, np.square(data - data[picks[-1]]).sum(1))
  return picks


def radius(data: np.ndarray, picks: list[int]) -> float:
  distances = np.full(len(data), np.inf)
  for start in range(0, len(picks), 1000):
    chosen = data[picks[start : start + 1000]]
    distances = np.minimum(distances, (2 - 2 * data @ chosen.T).min(axis=1))
  return float(np.sqrt(max(distances.max(), 0)))


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Two rows: the radius on the sample, with the plain rule's as peer, and the seconds of the whole."""
  parser = argparse.ArgumentParser("skymath bench core_set")
  parser.add_argument("n", nargs="?", type=int, default=500_000)
  parser.add_argument("k", nargs="?", type=int, default=50_000)
  chosen = parser.parse_args(words)
  device = jax.default_backend()
  sample = points(5000).astype(np.float64)
  reference = plain(sample, 500)
  found = k_center(sample.astype(np.float32), 500)
  yield {
    "name": "core_set.radius", "value": round(radius(sample, found), 6), "unit": "distance",
    "peer": round(radius(sample, reference), 6), "settings": {"same_picks": found == reference, "device": device},
  }  # fmt: skip
  data = points(chosen.n)
  start, cpu = time.perf_counter(), time.process_time()
  picks = k_center(data, chosen.k, block=1024)
  seconds = round(time.perf_counter() - start, 1)
  facts = {
    "n": chosen.n, "k": len(picks), "dimensions": DIMENSIONS, "device": device,
    "cpu_seconds": round(time.process_time() - cpu, 1),
    "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
  }  # fmt: skip
  yield {"name": "core_set", "value": seconds, "unit": "s", "settings": facts}
