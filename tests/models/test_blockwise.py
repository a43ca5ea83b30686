"""Frozen weights in 8 and 4 bits, against the definition in plain NumPy."""

import jax
import numpy as np
import pytest
from flax import nnx

from skymath_jax.models.blockwise import LEVELS, Blockwise
from tests.support.doubles import decoder

# QLoRA (2305.14314), appendix E, to four digits
BELOW = (-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911)
ABOVE = (0, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.723, 1)


def test_levels_are_the_published_ones():
  np.testing.assert_allclose(LEVELS, BELOW + ABOVE, atol=6e-5)


def reference(weight, axis, form):
  """Block by block, number by number."""
  found = np.moveaxis(np.array(weight, np.float32), axis, -1).copy()
  for row in found.reshape(-1, found.shape[-1]):
    for start in range(0, len(row), 32):  # the narrow decoder's width is one block of 32
      block = row[start : start + 32]
      most = 127 if form == "int8" else 1
      scale = np.float32(jax.numpy.bfloat16(np.abs(block).max() / most))
      if form == "int8":
        block[:] = np.clip(np.round(block / scale), -127, 127) * scale
      else:
        block[:] = [LEVELS[int(np.argmin(np.abs(np.array(LEVELS) - x / scale)))] * scale for x in block]
  return np.moveaxis(found, -1, axis)


@pytest.mark.parametrize(("form", "name", "axis"), [("int8", "down", 2), ("nf4", "q", 1)])
def test_each_number_is_the_nearest_of_its_block(form, name, axis):
  weight = getattr(decoder().layers, name)
  held = Blockwise(weight, form)
  np.testing.assert_allclose(held[...], reference(weight[...], axis, form), atol=1e-6)
  bits = 8 * sum(x.nbytes for x in jax.tree.leaves(nnx.state(held)))
  assert bits / weight[...].size == {"int8": 8.5, "nf4": 4.5}[form]  # a scale for 32 numbers
