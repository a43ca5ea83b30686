"""From graded responses to figures: accuracy with intervals, by group, over samples, and what went wrong.

A row is one response: `id`, `sample`, `correct`, `extracted`, `gold`, `level`, `subject`, `characters`, …; every
problem has the same number of them. Accuracy is pass@1 averaged over the samples. With one sample its interval is
Wilson's; with several, responses to one problem are not independent, and problems are bootstrapped instead.
"""

import bisect
import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skymath_jax import statistics

Row = dict[str, Any]
LENGTHS = (100, 200, 400, 800)  # characters of the question where one group ends and the next begins
_LENGTH_NAMES = ("under 100", "100-199", "200-399", "400-799", "800 or more")


def length_group(row: Row) -> str:
  """The group of a row's question by its length in characters, which are the same measure in every language."""
  return _LENGTH_NAMES[bisect.bisect_right(LENGTHS, row["characters"])]


GROUPS: dict[str, Callable[[Row], str | None]] = {
  "level": lambda row: None if row["level"] is None else str(row["level"]),
  "subject": lambda row: row["subject"],
  "length": length_group,
}


def summarize(rows: Sequence[Row], same: Callable[[str, str], bool] | None = None) -> Row:
  """Accuracy with its 95 % interval, by level, subject and length, and the counts of what went wrong.

  `thoughts` are counted where the model thinks aloud: how many there are, how many the token limit cut, and their mean
  length in characters.

  Args:
    rows: all responses, those to one problem in the order of its samples.
    same: whether two answers count as one in a majority vote; needed for several samples only.
  """
  problems = _by_problem(rows)
  samples = max((len(found) for found in problems.values()), default=1)
  shares = {id: _mean([row["correct"] for row in found]) for id, found in problems.items()}
  return {
    "accuracy": {
      "all": _mean(list(shares.values())),
      "n": len(problems),
      "ci95": list(interval(list(shares.values()), samples)),
      **_grouped(problems, shares, samples),
    },
    "correct": sum(row["correct"] for row in rows),
    "no_answer": sum(row["extracted"] is None for row in rows),
    "truncated": sum(row["finish_reason"] == "length" for row in rows),
    "tokens": {"prompt": sum(row["prompt_tokens"] for row in rows), "completion": sum(row["tokens"] for row in rows)},
    **_thoughts(rows),
    **(_over_samples(list(problems.values()), samples, same) if samples > 1 else {}),
  }


def _thoughts(rows: Sequence[Row]) -> Row:
  thoughts = [len(row["thought"]) for row in rows if "thought" in row]
  if not thoughts:
    return {}
  cut = sum(row.get("thought_cut", False) for row in rows)
  return {"thoughts": {"responses": len(thoughts), "cut": cut, "characters": round(_mean(thoughts))}}


def _mean(values: Sequence[float]) -> float:
  return sum(values) / len(values) if values else 0.0


def interval(shares: Sequence[float], samples: int) -> tuple[float, float]:
  """The 95 % interval of the mean over problems; `shares` are the problems' own pass@1."""
  if samples == 1 or not shares or set(shares) in ({0.0}, {1.0}):  # of equal values a bootstrap draws no interval
    return statistics.wilson(round(sum(shares)), len(shares))
  return statistics.bootstrap_mean(shares)


def _by_problem(rows: Sequence[Row]) -> dict[str, list[Row]]:
  problems: dict[str, list[Row]] = {}
  for row in rows:
    problems.setdefault(row["id"], []).append(row)
  return problems


def _grouped(problems: Mapping[str, list[Row]], shares: Mapping[str, float], samples: int) -> Row:
  """`by_KEY`, `n_by_KEY` and `ci95_by_KEY` for each way to group."""
  facts: Row = {}
  for key, group_of in GROUPS.items():
    groups: dict[str, list[float]] = collections.defaultdict(list)
    for id, found in problems.items():
      if (name := group_of(found[0])) is not None:
        groups[name].append(shares[id])
    order = _LENGTH_NAMES if key == "length" else sorted(groups)
    found_groups = {name: groups[name] for name in order if name in groups}
    facts[f"by_{key}"] = {name: _mean(group) for name, group in found_groups.items()}
    facts[f"n_by_{key}"] = {name: len(group) for name, group in found_groups.items()}
    facts[f"ci95_by_{key}"] = {name: list(interval(group, samples)) for name, group in found_groups.items()}
  return facts


def _over_samples(problems: Sequence[Sequence[Row]], samples: int, same: Callable[[str, str], bool] | None) -> Row:
  """avg@k of all samples, pass@k and maj@k for k = 1, 2, 4, … and all, each with its interval over problems."""
  ks = [k for k in (2**i for i in range(samples.bit_length())) if k < samples] + [samples]
  rights = [sum(row["correct"] for row in found) for found in problems]
  passed, voted = {}, {}
  for k in ks:
    passed[str(k)] = _estimate([statistics.pass_at_k(samples, right, k) for right in rights], samples)
    voted[str(k)] = _estimate([float(_majority_right(found[:k], same)) for found in problems], 1)
  averaged = {str(samples): _estimate([right / samples for right in rights], samples)}
  return {"samples": samples, "avg_at_k": averaged, "pass_at_k": passed, "maj_at_k": voted}


def _estimate(shares: Sequence[float], samples: int) -> Row:
  return {"value": _mean(shares), "ci95": list(interval(shares, samples))}


def _majority_right(found: Sequence[Row], same: Callable[[str, str], bool] | None) -> bool:
  """Whether the answer that most of the samples give is right, by the verdict on one that gave it."""
  vote = statistics.majority([row["extracted"] for row in found], same)
  return vote is not None and next(row["correct"] for row in found if row["extracted"] == vote)
