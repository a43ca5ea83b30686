"""Two evaluations of the same problems, problem by problem: who gained what, and how likely that is by chance.

With one sample a problem the test is McNemar's, exact and two-sided. With several, each problem counts by its share of
right responses: the interval is a bootstrap over the paired differences, and McNemar's test is left out.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from skymath_jax import files, records, statistics
from skymath_jax.errors import UserError
from skymath_jax.evaluation.evaluate import PREDICTIONS

Row = dict[str, Any]
LISTED = 50  # problems named on either side


def compare(first: epath.PathLike, second: epath.PathLike) -> Row:
  """Compares the evaluations in two folders over the problems that both hold (paired by id).

  Returns:
    `n`, the accuracies on these problems, `difference` (second - first) with `ci95`, `gained`, `lost`, `p` (None with
    several samples), and the ids of up to 50 problems gained and lost.

  Raises:
    UserError: a folder without predictions, or two that share no problem.
  """
  before, after = _shares(first), _shares(second)
  shared = [id for id in before if id in after]
  if not shared:
    raise UserError("the two evaluations share no problem", where=second, remedy="compare runs of one benchmark")
  changes = [after[id] - before[id] for id in shared]
  single = all(share in (0.0, 1.0) for runs in (before, after) for share in runs.values())
  p = statistics.mcnemar([before[id] == 1 for id in shared], [after[id] == 1 for id in shared])[2] if single else None
  gained = [id for id in shared if after[id] > before[id]]
  lost = [id for id in shared if after[id] < before[id]]
  return {
    "first": _name(first),
    "second": _name(second),
    "n": len(shared),
    "only_in_first": len(before) - len(shared),
    "only_in_second": len(after) - len(shared),
    "accuracy": [sum(runs[id] for id in shared) / len(shared) for runs in (before, after)],
    "difference": sum(changes) / len(shared),
    "ci95": list(statistics.bootstrap_mean(changes)),
    "gained": len(gained),
    "lost": len(lost),
    "p": p,
    "gained_ids": gained[:LISTED],
    "lost_ids": lost[:LISTED],
  }


def _shares(folder: epath.PathLike) -> Mapping[str, float]:
  """Problem id → share of its responses that are right."""
  verdicts: dict[str, list[bool]] = {}
  for where, row in records.read_lines(epath.Path(folder) / PREDICTIONS):
    if "correct" not in row:
      raise UserError(
        "this prediction is not graded yet",
        where=where,
        remedy="let the evaluation end: the same skymath evaluate goes on with it",
      )
    verdicts.setdefault(row["id"], []).append(row["correct"])
  return {id: sum(found) / len(found) for id, found in verdicts.items()}


def _name(folder: epath.PathLike) -> str:
  path = epath.Path(folder) / "summary.json"
  return str(files.read_json(path)["model"]) if path.exists() else str(folder)
