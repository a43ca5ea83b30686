"""How one of our weights lies in Hugging Face's tensor: invertible, also for the part that one device holds."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Index: TypeAlias = tuple[slice, ...]


def merged(index: Index, shape: Sequence[int]) -> slice:
  """The slice of several axes laid end to end; only the first of them may be split (heads are, head_dim is not)."""
  if any(part.indices(size) != (0, size, 1) for part, size in zip(index[1:], shape[1:], strict=True)):
    raise ValueError(f"no axis but the first of a merged group can be sharded: {index} of {shape}")
  start, stop, _ = index[0].indices(shape[0])
  rest = math.prod(shape[1:])
  return slice(start * rest, stop * rest)


@dataclasses.dataclass(frozen=True)
class Same:
  """The tensor as it is, up to merging of axes: norms, biases, embeddings."""

  def to_ours(self, theirs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Their tensor in our `shape`."""
    return theirs.reshape(shape)

  def to_theirs(self, ours: np.ndarray) -> np.ndarray:
    """Our array in their shape."""
    return ours.reshape(self.shape(ours.shape))

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    """Their shape for our shape."""
    return tuple(ours)

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    """Where in their tensor the part `ours` of our array of `shape` lies."""
    return ours


@dataclasses.dataclass(frozen=True)
class Flat(Same):
  """All our axes are one of theirs: biases of heads."""

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    return (math.prod(ours),)

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    return (merged(ours, shape),)


@dataclasses.dataclass(frozen=True)
class Linear:
  """Theirs is [outputs, inputs]; ours is [inputs..., outputs...] with `inputs` input axes."""

  inputs: int = 1

  def to_ours(self, theirs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Their [outputs, inputs] in our `shape`."""
    return theirs.T.reshape(shape)

  def to_theirs(self, ours: np.ndarray) -> np.ndarray:
    """Our array in their shape [outputs, inputs]."""
    return ours.reshape(self.shape(ours.shape)[::-1]).T

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    return math.prod(ours[self.inputs :]), math.prod(ours[: self.inputs])

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    n = self.inputs
    return merged(ours[n:], shape[n:]), merged(ours[:n], shape[:n])


@dataclasses.dataclass(frozen=True)
class Experts:
  """Theirs are `Linear` ones, together [experts, outputs, inputs]; ours is [experts, inputs, outputs]."""

  def to_ours(self, theirs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Their [experts, outputs, inputs] in our `shape`."""
    return theirs.swapaxes(1, 2).reshape(shape)

  def to_theirs(self, ours: np.ndarray) -> np.ndarray:
    """Our array as [experts, outputs, inputs]."""
    return ours.swapaxes(1, 2)

  def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
    """Their shape, taken together, for our shape."""
    experts, inputs, outputs = ours
    return experts, outputs, inputs

  def index(self, ours: Index, shape: Sequence[int]) -> Index:
    """Where in their tensors, taken together, the part `ours` of our array of `shape` lies."""
    experts, inputs, outputs = ours
    return experts, outputs, inputs
