"""Public math sets by a short name: where they lie, under which licence, what is read of them.

  skymath train --data=metamathqa --model=… --workdir=…

A row is checked against `only` first; each of `responses` that is not empty makes a pair with `query`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
  """One public set.

  Args:
    name: by which it is asked for.
    repository: on the hub.
    split: that is read where the user names none.
    licence: as its card states it; the user keeps to it.
    citation: who made it.
    query: column of the questions; of `conversations` the first turn is one.
    responses: columns of the answers.
    only: column → value of the rows that are read; others are passed over.
  """

  name: str
  repository: str
  split: str = "train"
  licence: str
  citation: str
  query: str
  responses: tuple[str, ...] = ()
  only: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def wants(self, row: Mapping[str, Any]) -> bool:
    """Whether the row is one of those that are read."""
    return all(row.get(column) == value for column, value in self.only.items())


PRESETS = {
  preset.name: preset
  for preset in (
    Preset(
      name="metamathqa",
      repository="meta-math/MetaMathQA",
      split="",  # one file
      licence="MIT",
      citation="Yu et al. 2023, MetaMath, arXiv:2309.12284",
      query="query",
      responses=("response",),
    ),
    Preset(
      name="numinamath-cot",
      repository="AI-MO/NuminaMath-CoT",
      licence="Apache-2.0",
      citation="Li et al. 2024, NuminaMath",
      query="problem",
      responses=("solution",),
    ),
    Preset(
      name="openmathinstruct-2",
      repository="nvidia/OpenMathInstruct-2",
      split="train_1M",  # of train_1M, train_2M, train_5M and train, which has 14 million
      licence="CC-BY-4.0",
      citation="Toshniwal et al. 2024, OpenMathInstruct-2, arXiv:2410.01560",
      query="problem",
      responses=("generated_solution",),
    ),
    Preset(
      name="openmathreasoning",
      repository="nvidia/OpenMathReasoning",
      split="cot",  # beside it: tir, genselect, additional_problems
      licence="CC-BY-4.0",
      citation="Moshkov et al. 2025, AIMO-2 Winning Solution, arXiv:2504.16891",
      query="problem",
      responses=("generated_solution",),
      only={"problem_type": "has_answer_extracted"},
    ),
    Preset(
      name="openthoughts3",
      repository="open-thoughts/OpenThoughts3-1.2M",
      licence="Apache-2.0",
      citation="Guha et al. 2025, OpenThoughts, arXiv:2506.04178",
      query="conversations",
      only={"domain": "math"},
    ),
    Preset(
      name="deepmath-103k",
      repository="zwhe99/DeepMath-103K",
      licence="MIT",
      citation="He et al. 2025, DeepMath-103K, arXiv:2504.11456",
      query="question",
      responses=("r1_solution_1", "r1_solution_2", "r1_solution_3"),
    ),
    Preset(
      name="orca-math",
      repository="microsoft/orca-math-word-problems-200k",
      licence="MIT",
      citation="Mitra et al. 2024, Orca-Math, arXiv:2402.14830",
      query="question",
      responses=("answer",),
    ),
  )
}
