"""The machines that recipes are fitted to: TPU slices by their usual names, GPUs and boxes of eight, a CPU.

  skymath run --config=configs/skywork_mistral_7b.py:v5p-16 …

What stands behind the colon is a name of `HARDWARE`; a recipe's `get_config(machine)` hands it to `fit` or `note`.
The number behind v4, v5p and tpu7x counts TensorCores, two a chip; behind v5e, v6e and the GPUs it counts chips.
"""

import dataclasses
import difflib
import glob
import importlib.util
import itertools
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from skymath_jax.errors import UserError

GIB = 2**30
SLICE_NETWORK = 6.25e9  # bytes/s a chip between slices: 200 Gbit/s a host of four chips

TPU_FILES, GPU_FILES = ("/dev/accel*", "/dev/vfio/[0-9]*"), "/dev/nvidia[0-9]*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """What JAX calls a device: a chip, or one of the two halves of a TPU v7x.

  Args:
    title: for people.
    kind: part of JAX's `device_kind` by which it is known.
    usable: GiB that a program may have, by the compiler's own out-of-memory messages; for a GPU, what remains of the
      card at XLA_PYTHON_CLIENT_MEM_FRACTION 0.95; infinite where nobody says.
    flops: dense bfloat16 FLOP/s with sums in float32, from the vendors' data sheets, as the bandwidths are.
    memory_bandwidth: bytes/s.
    link_bandwidth: bytes/s of all its links to other chips together.
    compiler: libtpu's name of the generation; empty where nothing can be compiled without the hardware.
    cores: TensorCores that are one device.
  """

  title: str
  kind: str
  usable: float = math.inf
  flops: float
  memory_bandwidth: float
  link_bandwidth: float
  compiler: str = ""
  cores: int = 1

  @property
  def usable_bytes(self) -> int:
    """`usable` in bytes."""
    return int(self.usable * GIB)


V4 = Chip(
  title="TPU v4", kind="TPU v4", usable=30.75, flops=275e12, memory_bandwidth=1228e9, link_bandwidth=300e9,
  compiler="v4", cores=2,
)  # fmt: skip
V5E = Chip(
  title="TPU v5e", kind="TPU v5 lite", usable=15.75, flops=197e12, memory_bandwidth=819e9, link_bandwidth=200e9,
  compiler="v5e",
)  # fmt: skip
V5P = Chip(
  title="TPU v5p", kind="TPU v5", usable=95.74, flops=459e12, memory_bandwidth=2765e9, link_bandwidth=600e9,
  compiler="v5", cores=2,
)  # fmt: skip
V6E = Chip(
  title="TPU v6e", kind="TPU v6", usable=31.25, flops=918e12, memory_bandwidth=1640e9, link_bandwidth=448e9,
  compiler="v6e",
)  # fmt: skip
V7X = Chip(  # half of 2,307 TFLOP/s, 7.4 TB/s and 1.2 TB/s
  title="TPU v7x", kind="TPU7x", usable=94.75, flops=1153.5e12, memory_bandwidth=3690e9, link_bandwidth=600e9,
  compiler="tpu7x",
)  # fmt: skip
A100 = Chip(title="A100", kind="A100", flops=312e12, memory_bandwidth=2039e9, link_bandwidth=300e9)
H100 = Chip(title="H100", kind="H100", usable=75, flops=989e12, memory_bandwidth=3350e9, link_bandwidth=450e9)
H200 = Chip(title="H200", kind="H200", usable=132.8, flops=989e12, memory_bandwidth=4800e9, link_bandwidth=450e9)
RTX = Chip(  # PCIe 4.0 links a box of them
  title="RTX 4090", kind="RTX 4090", usable=22.5, flops=165e12, memory_bandwidth=1008e9, link_bandwidth=32e9,
)  # fmt: skip
CPU = Chip(title="CPU", kind="cpu", flops=math.nan, memory_bandwidth=math.nan, link_bandwidth=math.nan)
CHIPS = (V5E, V4, V5P, V6E, V7X, A100, H100, H200, RTX)  # the first whose kind is part of a device's


def peak_flops(device_kind: str) -> float | None:
  """Dense bfloat16 FLOP/s of one device that JAX calls so; None for what no table knows, such as a CPU."""
  return next((chip.flops for chip in CHIPS if chip.kind in device_kind), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
  """`slices` equal slices, or boxes, of `shape` chips each.

  Args:
    name: by which it is asked for.
    chip: what it is made of.
    shape: chips along each axis.
    halves: devices that JAX sees in a chip.
    more: key → value that a large recipe sets on it beside what its size asks for.
    slices: how many.
  """

  name: str
  chip: Chip
  shape: tuple[int, ...] = (1,)
  halves: int = 1
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  slices: int = 1

  @property
  def chips(self) -> int:
    """Over all slices."""
    return math.prod(self.shape) * self.slices

  @property
  def devices(self) -> int:
    """That JAX sees, over all slices."""
    return self.chips * self.halves

  @property
  def title(self) -> str:
    """`v5e-16`, or `2 × v5e-16`."""
    return self.name if self.slices == 1 else f"{self.slices} × {self.name}"

  @property
  def compiles(self) -> bool:
    """Whether libtpu can compile for it without the hardware; for the others there is an estimate."""
    return bool(self.chip.compiler)

  def changes(self, billions: float = 7) -> dict[str, Any]:
    """Key → value of what a recipe of so many billion weights (8 rows of 2,048 tokens a step) sets on it.

    The rows are spread over the devices, and what has little memory in all holds the states in fewer bits: those of 7
    billion weights take 75 GiB in float32, gradients another 25, and half of that in bfloat16.
    """
    fsdp, memory = min(self.devices, 8), self.chip.usable * self.devices * 7 / billions
    return {
      **({"mesh.fsdp": fsdp, "mesh.tensor": self.devices // fsdp} if self.devices > 1 else {}),
      **({"training.mu_dtype": "bfloat16"} if memory < 200 else {}),
      **({"model.remat": "full"} if memory < 130 else {}),
      **({"model.param_dtype": "bfloat16"} if memory < 122 else {}),  # rounded by chance, for want of float32
      **self.more,
    }

  def topology(self) -> dict[str, Any]:
    """Arguments of `jax.experimental.topologies.get_topology_desc` after the platform.

    Links wrap around where every axis is at least 4 (3D), or the slice is the full 16 × 16 pod (2D).
    """
    solid = len(self.shape) == 3
    wraps = min(self.shape) >= 4 if solid else self.shape == (16, 16)
    return {
      "topology_name": f"{self.chip.compiler}:{'x'.join(map(str, self.shape))}",
      "chip_config_name": "megacore" if self.chip.cores == 2 else "default",
      "chips_per_host_bounds": (2, 2, 1) if math.prod(self.shape) > 1 else (1, 1, 1),
      "num_slices": self.slices,
      **({"wrap": (True, True, solid)} if wraps else {}),
    }

  def larger(self) -> "Hardware | None":
    """The next one of the same chips, or None."""
    names = [name for name, other in HARDWARE.items() if other.chip == self.chip]
    following = names[names.index(self.name) + 1 :]
    return find(following[0], slices=self.slices) if following else None


def _slices(
  generation: str, chip: Chip, shapes: Iterable[tuple[int, ...]], *, counted: int = 1, **more: Any
) -> list[Hardware]:
  """`counted` is how many of what the number in a name counts are in a chip."""
  return [Hardware(name=f"{generation}-{counted * math.prod(s)}", chip=chip, shape=s, **more) for s in shapes]


CUBES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4))
SQUARES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
WIDE = {"model.remat": "wide"}  # there is room to keep more of the activations
UNROLLED = {"model.scan_layers": False}  # 2 % faster on GPUs
HARDWARE = {
  hardware.name: hardware
  for hardware in (
    *_slices("v4", V4, CUBES, counted=2),
    *_slices("v5e", V5E, SQUARES),
    *_slices("v5p", V5P, CUBES, counted=2, more=WIDE),
    *_slices("v6e", V6E, SQUARES),
    *_slices("tpu7x", V7X, CUBES, counted=2, halves=2, more=WIDE),
    Hardware(name="h100", chip=H100),
    Hardware(name="h100-8", chip=H100, shape=(8,), more=UNROLLED),
    Hardware(name="h200", chip=H200),
    Hardware(name="h200-8", chip=H200, shape=(8,), more=UNROLLED),
    Hardware(name="gpu24", chip=RTX),
    Hardware(name="cpu", chip=CPU, more={"model.dtype": "float32", "model.remat": "none", **UNROLLED}),
  )
}


# Google's types of machines, by the chips of a host → ours, by what the number in our names counts of them
MACHINES = {
  "ct4p-hightpu": ("v4", 2),
  "ct5lp-hightpu": ("v5e", 1),
  "ct5l-hightpu": ("v5e", 1),
  "ct5p-hightpu": ("v5p", 2),
  "ct6e-standard": ("v6e", 1),
  "tpu7x-standard": ("tpu7x", 2),
}


def _ours(name: str) -> str:
  """What we call the hardware that Google, or somebody in capitals, calls `name`."""
  kind, _, chips = name.lower().rpartition("-")
  if kind in MACHINES and (number := chips.removesuffix("t")).isdecimal():
    generation, counted = MACHINES[kind]
    return f"{generation}-{counted * int(number[:4])}"
  known = name.lower().replace("v5litepod-", "v5e-").removeprefix("tpu-")
  return known.removesuffix("-1") if known.removesuffix("-1") in HARDWARE else known


def find(name: str, *, slices: int = 1) -> Hardware:
  """The hardware called `name`; Google's `v5litepod-8` and `ct5lp-hightpu-8t` are v5e-8, and one GPU may be `h100-1`.

  Raises:
    UserError: there is none, or no such number of slices.
  """
  known = _ours(name)
  if known not in HARDWARE:
    near = difflib.get_close_matches(known, HARDWARE, n=1, cutoff=0.0)[0]
    raise UserError(f"{name!r} is not known", where="hardware", remedy=f"did you mean {near}? one of {names()}")
  found = HARDWARE[known]
  if slices < 1 or (slices > 1 and not found.compiles):
    raise UserError(f"{slices} slices of {name} make no sense", where="--slices", remedy="give 1, or more for TPUs")
  return dataclasses.replace(found, slices=slices)


def called(device_kind: str, devices: int) -> str:
  """The name of what JAX sees as so many devices of this kind; empty where none of ours is like that."""
  chip = CPU if device_kind == CPU.kind else next((chip for chip in CHIPS if chip.kind in device_kind), None)
  found = (name for name, hardware in HARDWARE.items() if hardware.chip == chip and hardware.devices == devices)
  return CPU.kind if chip == CPU else next(found, "")


def names() -> str:
  """All names, in a line: `v4-8 … v4-128, v5e-1 … v5e-256, …, cpu`."""
  groups = [[h.name for h in group] for _, group in itertools.groupby(HARDWARE.values(), lambda h: h.chip)]
  return ", ".join(" … ".join(dict.fromkeys((group[0], group[-1]))) for group in groups)


def has_tpu() -> bool:
  """Whether a TPU is attached to this machine, without asking libtpu."""
  return any(map(glob.glob, TPU_FILES))


def computes_on_cpu() -> bool:
  """Whether JAX will find nothing but the CPU here, as far as can be said before it is imported."""
  chosen = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
  if chosen:
    return chosen == "cpu"
  has_gpu = glob.glob(GPU_FILES) and importlib.util.find_spec("jax_plugins")  # JAX for CUDA is a plugin
  return not (has_tpu() or has_gpu)


def note(config: ConfigDict, name: str) -> ConfigDict:
  """The config, which remembers what it is for: preflight asks no more. An empty name leaves it open.

  Raises:
    UserError: no such hardware.
  """
  if name:
    config.hardware = find(name).name
  return config


def fit(config: ConfigDict, name: str, billions: float = 7) -> ConfigDict:
  """The config of a recipe of so many billion weights with what `name` asks for; an empty name leaves it as it is.

  Raises:
    UserError: no such hardware.
  """
  if name:
    config.update_from_flattened_dict(find(name).changes(billions))
  return note(config, name)
