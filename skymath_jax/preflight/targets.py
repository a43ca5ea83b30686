"""The machines that a recipe can be compiled or estimated for: slices by their usual names, and GPU boxes.

`target("v5e-16")`, `target("v4-32", slices=2)`, `target("h200-1")`. The number behind v4 and v5p counts TensorCores,
two a chip; behind v5e, v6e and the GPUs it counts chips.
"""

import dataclasses
import difflib
import math
from typing import Any

from skymath_jax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One accelerator.

  `usable_bytes` is what the compiler lets a program have (from its own out-of-memory messages; for a GPU, what remains
  of the card at XLA_PYTHON_CLIENT_MEM_FRACTION 0.95). `flops` is dense bfloat16, `memory_bandwidth` and
  `link_bandwidth` (all links of a chip together) are bytes/s, from the vendors' data sheets.
  """

  name: str
  usable_bytes: int
  flops: float
  memory_bandwidth: float
  link_bandwidth: float


CHIPS = {
  "v4": Chip(name="TPU v4", usable_bytes=int(30.75 * GIB), flops=275e12, memory_bandwidth=1228e9, link_bandwidth=300e9),
  "v5e": Chip(
    name="TPU v5e", usable_bytes=int(15.75 * GIB), flops=197e12, memory_bandwidth=819e9, link_bandwidth=200e9
  ),
  "v5p": Chip(
    name="TPU v5p", usable_bytes=int(95.74 * GIB), flops=459e12, memory_bandwidth=2765e9, link_bandwidth=600e9
  ),
  "v6e": Chip(
    name="TPU v6e", usable_bytes=int(31.25 * GIB), flops=918e12, memory_bandwidth=1640e9, link_bandwidth=448e9
  ),
  "h100": Chip(name="H100", usable_bytes=int(75 * GIB), flops=989e12, memory_bandwidth=3350e9, link_bandwidth=450e9),
  "h200": Chip(name="H200", usable_bytes=int(132.8 * GIB), flops=989e12, memory_bandwidth=4800e9, link_bandwidth=450e9),
}
SLICE_NETWORK = 6.25e9  # bytes/s a chip between slices: 200 Gbit/s a host of four chips

# name → chips along each axis; wrapped where every axis is at least 4 (3D) or the slice is the full 16 × 16 pod (2D)
_3D = {8: (2, 2, 1), 16: (2, 2, 2), 32: (2, 2, 4), 64: (2, 4, 4), 128: (4, 4, 4)}
_2D = {4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
SHAPES: dict[str, tuple[int, ...]] = {
  **{f"{chip}-{cores}": shape for chip in ("v4", "v5p") for cores, shape in _3D.items()},
  **{f"{chip}-{chips}": shape for chip in ("v5e", "v6e") for chips, shape in _2D.items()},
  **{f"{chip}-{chips}": (chips,) for chip in ("h100", "h200") for chips in (1, 8)},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """`slices` equal slices of `shape` chips each."""

  name: str
  chip: Chip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def chips(self) -> int:
    """Over all slices."""
    return math.prod(self.shape) * self.slices

  @property
  def title(self) -> str:
    """`v5e-16`, or `2 × v5e-16`."""
    return self.name if self.slices == 1 else f"{self.slices} × {self.name}"

  @property
  def compiles(self) -> bool:
    """Whether libtpu can compile for it without the hardware; for the others there is an estimate."""
    return self.chip.name.startswith("TPU")

  def topology(self) -> dict[str, Any]:
    """Arguments of `jax.experimental.topologies.get_topology_desc` after the platform."""
    generation = self.name.partition("-")[0].replace("v5p", "v5")
    solid = len(self.shape) == 3
    wraps = min(self.shape) >= 4 if solid else self.shape == (16, 16)
    return {
      "topology_name": f"{generation}:{'x'.join(map(str, self.shape))}",
      "chip_config_name": "megacore" if solid else "default",
      "chips_per_host_bounds": (2, 2, 1),
      "num_slices": self.slices,
      **({"wrap": (True, True, solid)} if wraps else {}),
    }

  def larger(self) -> "Target | None":
    """The next slice of the same generation, or None."""
    names = [name for name in SHAPES if name.partition("-")[0] == self.name.partition("-")[0]]
    following = names[names.index(self.name) + 1 :]
    return target(following[0], slices=self.slices) if following else None


def target(name: str, *, slices: int = 1) -> Target:
  """The target called `name`.

  Raises:
    UserError: there is none, or no such number of slices.
  """
  if name not in SHAPES:
    near = difflib.get_close_matches(name, SHAPES, n=1, cutoff=0.0)[0]
    raise UserError(f"{name!r} is no known slice", where="--topology", remedy=f"did you mean {near}? one of {_names()}")
  chip = CHIPS[name.partition("-")[0]]
  if slices < 1 or (slices > 1 and not chip.name.startswith("TPU")):
    raise UserError(f"{slices} slices of {name} make no sense", where="--slices", remedy="give 1, or more for TPUs")
  return Target(name=name, chip=chip, shape=SHAPES[name], slices=slices)


def _names() -> str:
  families: dict[str, list[str]] = {}
  for name in SHAPES:
    chip, _, count = name.partition("-")
    families.setdefault(chip, []).append(count)
  return "; ".join(f"{chip}-{{{','.join(counts)}}}" for chip, counts in families.items())
