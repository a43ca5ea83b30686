"""What a teacher's answers are worth, method by method: what could be read, and what agrees with the known answer.

    skymath bench real_teacher WORKDIR [WORKDIR ...]

Of each workdir (`skymath run`, `skymath synthesize`): instances made and rejected, the share that could be read, and of
those with a known answer the share that is right, with 95 % intervals; the reasons of the rest behind them. A second
workdir of the same seeds, made with `teacher.chat=raw`, is the comparison with bare prompts.
"""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import files, records
from skymath_jax.statistics import wilson


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """One row a workdir and method."""
  for workdir in map(Path, arguments):
    chat = files.read_json(workdir / "config.json")["teacher"]["chat"]
    for method, (known, reasons) in sorted(counted(workdir).items()):
      made, refused = known.total(), reasons.total()
      right, judged = known[True], known[True] + known[False]
      yield {
        "name": f"real_teacher {workdir.name} ({chat}): {method}",
        "value": made / (made + refused),
        "unit": "of what was asked could be read",
        "peer": None,
        "settings": {
          "asked": made + refused,
          "read_interval": wilson(made, made + refused),
          "judged": judged,
          "right": right / judged if judged else None,
          "right_interval": wilson(right, judged) if judged else None,
          "rejected": dict(reasons.most_common()),
        },
      }


def counted(workdir: Path) -> dict[str, tuple[collections.Counter[bool | None], collections.Counter[str]]]:
  """Method (evol's operations together) → instances by what is known of their answer, and rejections by reason."""
  found: dict[str, Any] = collections.defaultdict(lambda: (collections.Counter(), collections.Counter()))
  for stage in sorted((workdir / "synthesis").glob("stage*")):
    for number, (name, key) in enumerate((("instances.jsonl", "gold_match"), ("rejected.jsonl", "reason"))):
      for _, row in records.read_lines(stage / name):
        found[_family(row["method"])][number][row[key]] += 1
  return dict(found)


def _family(method: str) -> str:
  return method.partition(".")[0] if method.startswith("evol") else method
