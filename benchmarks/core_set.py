"""Core-set selection: 50,000 of 500,000 points with 384 numbers each, in time and memory, and its radius on a sample.

    python benchmarks/core_set.py [N] [K]

The points are generated: 2,000 clusters of unit vectors. The radius is compared with the one-at-a-time greedy rule on
the first 5,000 points. Prints JSON lines.
"""

import json
import resource
import sys
import time

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


def main() -> None:
  n, k = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 500_000), (2, 50_000)))
  sample = points(5000).astype(np.float64)
  reference = plain(sample, 500)
  found = k_center(sample.astype(np.float32), 500)
  facts = {"same_picks": found == reference, "radius": round(radius(sample, found), 6)}
  facts |= {"reference_radius": round(radius(sample, reference), 6), "device": jax.default_backend()}
  print(json.dumps({"name": "core_set_radius", "value": facts["radius"], "unit": "distance", "settings": facts}))
  data = points(n)
  start, cpu = time.perf_counter(), time.process_time()
  picks = k_center(data, k, block=1024)
  facts = {
    "n": n, "k": len(picks), "dimensions": DIMENSIONS, "device": jax.default_backend(),
    "cpu_seconds": round(time.process_time() - cpu, 1),
    "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
  }  # fmt: skip
  seconds = round(time.perf_counter() - start, 1)
  print(json.dumps({"name": "core_set", "value": seconds, "unit": "s", "settings": facts}))


if __name__ == "__main__":
  main()
