"""What a program compiled for a TPU will do, by its own text: cycles and bytes moved, loops times their trips.

The compiler's `cost_analysis` counts the body of a loop once, so it says little of a step that scans its layers. Not in
the text: the time of kernels, of links, and how much of an asynchronous transfer is hidden.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

WIDTHS = {
  "pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4,
  "u32": 4, "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
  """Of one device and step.

  Attributes:
    cycles: that the compiler estimates for its own code.
    synchronous_bytes: received in collectives that nothing else can run beside.
    collective_bytes: received in all collectives.
    copied_bytes: written by copies and transpositions in the device's main memory.
  """

  cycles: int
  synchronous_bytes: int
  collective_bytes: int
  copied_bytes: int


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: `rest` begins with its operands, `line` is all of it."""

  name: str
  type: str
  op: str
  rest: str
  root: bool

  @property
  def operands(self) -> list[str]:
    """Names of the instructions that it reads."""
    return re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])

  def attribute(self, pattern: str) -> str:
    """The first group of the pattern in what follows the operands, or nothing."""
    found = re.search(pattern, self.rest)
    return found[1] if found else ""


Computations = dict[str, list[Instruction]]


def figures(text: str) -> Figures:
  """Of the compiled program's text (`compiled.as_text()`).

  A collective inside a fusion runs beside the rest of it, and start and end of one carry the same channel: it counts
  once, as asynchronous; but a reduction whose fusion keeps one part of the sum is a reduce-scatter on its own.
  """
  computations, entry = parse(text)
  times = executions(computations, entry)
  cycles, moved, synchronous, copied = 0, 0.0, 0.0, 0
  for name, count in times.items():
    for one in computations[name]:
      cycles += count * int(one.attribute(r'estimated_cycles"?:"?(\d+)') or 0)
      kind = one.op.removesuffix("-start")
      if kind in COLLECTIVES:
        received = count * _received(one, kind)
        moved += received
        synchronous += received if kind == one.op else 0
      elif one.op in ("copy", "transpose"):
        copied += count * size(one.type)
  seen = set()
  for name, one, count in _fused(computations, times):
    received = count * _received(one, one.op)
    if name.startswith("all-reduce-scatter"):
      received /= 2
      synchronous += received
    elif (channel := one.attribute(r"channel_id=(\d+)")) in seen:
      continue
    else:
      seen.add(channel or one.name)
    moved += received
  return Figures(
    cycles=cycles, synchronous_bytes=round(synchronous), collective_bytes=round(moved), copied_bytes=copied
  )


def _fused(computations: Computations, times: dict[str, int]) -> Iterator[tuple[str, Instruction, int]]:
  """(fusion's computation, collective inside, executions)."""
  for name, count in times.items():
    for one in computations[name]:
      if one.op == "fusion":
        for called in CALLED.findall(one.rest):
          for inner in computations.get(called, []):
            if inner.op in COLLECTIVES:
              yield called, inner, count


def parse(text: str) -> tuple[Computations, str]:
  """Computation → its instructions in order, and the name of the one that is entered."""
  computations: Computations = {}
  entry = current = ""
  for line in text.splitlines():
    if header := HEADER.match(line):
      current = header[2]
      computations[current] = []
      entry = current if header[1] else entry
    elif current and (found := INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line))):
      computations[current].append(Instruction(found[2], found[3], found[4], found[5], bool(found[1])))
  return computations, entry


def executions(computations: Computations, entry: str) -> dict[str, int]:
  """Computation → how often a step runs it; of a conditional's branches the longest counts."""
  times: collections.Counter[str] = collections.Counter()

  def enter(name: str, count: int) -> None:
    times[name] += count
    for one in computations[name]:
      for inner, trips in _inner(one, computations):
        enter(inner, count * trips)

  enter(entry, 1)
  return times


def size(type_text: str) -> int:
  """Bytes of all arrays in a type."""
  return sum(
    WIDTHS.get(dtype, 0) * math.prod(map(int, filter(None, shape.split(","))))
    for dtype, shape in re.findall(r"\b([a-z]+\d*\w*)\[([\d,]*)\]", type_text)
  )


def _inner(one: Instruction, computations: Computations) -> Iterator[tuple[str, int]]:
  """Computations whose instructions run as such, and how often; a fusion's are one instruction."""
  called = [name for name in CALLED.findall(one.rest) if name in computations]
  if one.op == "while":
    condition = one.attribute(r"condition=%?([\w.\-]+)")
    yield called[0], _trips(computations[condition], computations[called[0]])
  elif one.op == "conditional":
    names = re.findall(r"[\w.\-]+", one.attribute(r"branch_computations=\{([^}]*)\}")) or called
    yield max(names, key=lambda name: len(computations[name])), 1
  elif one.op in ("call", "async-start"):
    for name in called:
      yield name, 1


def _trips(condition: list[Instruction], body: list[Instruction]) -> int:
  """Of a loop that counts up to a constant; 1 where it does not."""
  by_name = {one.name: one for one in condition}
  root = next(one for one in condition if one.root)
  bound = next((by_name[name] for name in root.operands if by_name[name].op == "constant"), None)
  counter = next((by_name[name] for name in root.operands if by_name[name].op == "get-tuple-element"), None)
  if bound is None or counter is None:
    return 1
  return -(-int(bound.rest.split(")")[0]) // _stride(body, int(counter.attribute(r"index=(\d+)"))))


def _stride(body: list[Instruction], place: int) -> int:
  """By how much the body counts up at this place of what it hands on; 1 where that cannot be seen."""
  by_name = {one.name: one for one in body}
  handed = next(one for one in body if one.root).operands
  step = by_name.get(handed[place]) if place < len(handed) else None
  constants = (
    [by_name[name] for name in step.operands if name in by_name] if step is not None and step.op == "add" else []
  )
  strides = [int(one.rest.split(")")[0]) for one in constants if one.op == "constant"]
  return max(strides, default=1)


def _received(one: Instruction, kind: str) -> float:
  """Bytes that a device receives, by a ring: a gather all but its own part, a reduction twice that."""
  arrays = re.findall(r"[a-z]+\d*\w*\[[\d,]*\]", one.type)
  whole = size(one.type) if kind == one.op else size(arrays[len(arrays) > 1])
  devices = _group(one)
  factor = {"all-gather": 1.0, "all-reduce": 2.0, "reduce-scatter": float(devices), "all-to-all": 1.0}
  return whole if kind == "collective-permute" else whole * factor[kind] * (devices - 1) / devices


def _group(one: Instruction) -> int:
  """Devices that take part together."""
  if listed := one.attribute(r"replica_groups=\{\{([\d,]+)\}"):
    return len(listed.split(","))
  if shape := re.search(r"replica_groups=\[(\d+),(\d+)\]", one.rest):
    return int(shape[2])
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", one.rest):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
  return 2
