"""How many instances each step of curation took in, dropped and why, and gave on: nothing vanishes uncounted."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Step:
  """One step; `entered` less all of `dropped` is `left`."""

  name: str
  entered: int
  dropped: dict[str, int]

  @property
  def left(self) -> int:
    return self.entered - sum(self.dropped.values())


class Funnel:
  """The steps in order; each takes in what the one before gave on."""

  def __init__(self, entered: int):
    self.entered = entered
    self.steps: list[Step] = []

  @property
  def left(self) -> int:
    """What came out of the last step."""
    return self.steps[-1].left if self.steps else self.entered

  @property
  def dropped(self) -> dict[str, int]:
    """Reason → number, over all steps."""
    total: Counter[str] = Counter()
    for step in self.steps:
      total.update(step.dropped)
    return dict(sorted(total.items()))

  def add(self, name: str, reasons: Iterable[str]) -> None:
    """Appends a step that dropped one instance per element of `reasons`."""
    self.steps.append(Step(name, self.left, dict(sorted(Counter(reasons).items()))))
    if self.left < 0:
      raise ValueError(f"step {name} dropped more instances than it was given")

  def to_json(self) -> list[dict[str, Any]]:
    """One object a step, for `summary.json`."""
    return [{"name": s.name, "in": s.entered, "dropped": s.dropped, "out": s.left} for s in self.steps]

  @classmethod
  def from_json(cls, entered: int, steps: Iterable[Mapping[str, Any]]) -> "Funnel":
    """The inverse of `to_json`."""
    funnel = cls(entered)
    funnel.steps = [Step(step["name"], step["in"], step["dropped"]) for step in steps]
    return funnel

  def markdown(self) -> str:
    """The funnel as a table, for the card."""
    lines = ["| step | in | dropped | out |", "|---|--:|---|--:|"]
    for step in self.steps:
      reasons = ", ".join(f"{reason} {count:,}" for reason, count in step.dropped.items()) or "–"
      lines.append(f"| {step.name} | {step.entered:,} | {reasons} | {step.left:,} |")
    return "\n".join(lines)
