"""The embedding without a model: unit vectors that know order, ignore drawings, and are the same everywhere."""

import subprocess
import sys

import numpy as np
import pytest

from skymath_jax.coreset import hashing


def test_embedding_tells_order():
  a, b, c, empty = hashing.embed(["a dog bites a man", "a man bites a dog", "A dog  bites a man", ""])
  assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6) and not empty.any()
  assert np.array_equal(a, c)
  assert 0.3 < a @ b < 0.99


@pytest.mark.parametrize(
  "drawing", ["[asy]\ndraw(x);\n[/asy]", "[asy] draw(x); // cut off", r"\begin{asy} draw(x); \end{asy}"]
)
def test_embedding_ignores_drawings(drawing):
  plain, drawn = hashing.embed(["a dog bites a man", f"a dog bites a man {drawing}"])
  assert np.array_equal(plain, drawn)


def test_embedding_is_the_same_in_every_process_and_batch():
  code = "from skymath_jax.coreset import hashing; print(hashing.embed(['find x', 'sum of 3']).sum(1).tolist())"
  runs = {
    subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
    ).stdout
    for seed in ("1", "2")
  }
  assert len(runs) == 1
  texts = [f"problem number {i} about {'xyz'[i % 3]}" for i in range(50)]
  assert np.array_equal(hashing.embed(texts)[30:], hashing.embed(texts[30:]))
