"""From the complete cells to `study/summary.json`: the curve, its fits, the ablations, and what it all cost."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from skymath_jax import config as config_lib
from skymath_jax import files, records
from skymath_jax.recipe import evaluate
from skymath_jax.records import Facts
from skymath_jax.statistics import mcnemar, wilson
from skymath_jax.study import fit, resample
from skymath_jax.study.ablations import ABLATIONS, Ablation
from skymath_jax.study.cells import Study
from skymath_jax.study.plan import BASE, Cell, Phases, normal
from skymath_jax.study.resample import Arm


@dataclasses.dataclass(frozen=True)
class Answers:
  """Who was right on what.

  Attributes:
    correct: bool `[seeds problems]`.
    level: of the problems, `[problems]`; 0 = not known.
    seeds: the RNG seeds of the complete cells, `[seeds]`.
  """

  correct: np.ndarray
  level: np.ndarray
  seeds: np.ndarray


def summarize(study: Study) -> Facts:
  """Writes and returns `study/summary.json`; parts whose cells are not complete yet are left out."""
  config = study.config
  curve = _curve(study)
  summary = {
    "name": config.name,
    "config_hash": config_lib.config_hash(config),
    "benchmark": evaluate.benchmarks_of(config)[0],
    "base": _base(study),
    "curve": curve["points"],
    "fits": curve["fits"],
    "ablations": {name: found for name in config.study.ablations if (found := _ablation(study, ABLATIONS[name]))},
    "cells": [_row(cell, facts) for cell in study.cells if (facts := study.facts(cell))],
    "cells_wanted": len(study.cells),
  }
  summary["cost"] = _cost(summary["cells"])
  summary["headline"] = _headline(summary)
  files.write_json(study.workdir / "study" / "summary.json", summary)
  return summary


def answers(study: Study, phases: Phases) -> Answers | None:
  """The answers of the cells of `phases` that are complete; None without any."""
  seeds = range(study.config.study.rng_seeds) if phases else [0]
  cells = [cell for seed in seeds if study.facts(cell := Cell(phases=phases, rng_seed=seed))]
  if not cells:
    return None
  tables = [[row for _, row in records.read_lines(study.folder(cell) / "predictions.jsonl")] for cell in cells]
  return Answers(
    correct=np.array([[row["correct"] for row in rows] for rows in tables]),
    level=np.array([row["level"] or 0 for row in tables[0]]),
    seeds=np.array([cell.rng_seed for cell in cells]),
  )


def _common(arms: Mapping[Arm, Answers]) -> dict[Arm, np.ndarray]:
  """The `correct` arrays, `[seeds problems]`, cut to the seeds that all arms have."""
  shared = set.intersection(*(set(found.seeds.tolist()) for found in arms.values()))
  return {key: found.correct[np.isin(found.seeds, list(shared))] for key, found in arms.items()}


def _base(study: Study) -> Facts | None:
  found = answers(study, BASE.phases)
  if found is None:
    return None
  right, n = int(found.correct.sum()), found.correct.size
  return {"accuracy": right / n, "n": n, "ci95": list(wilson(right, n))}


def _curve(study: Study) -> Facts:
  """The points of the scaling curve and both fits; no fit before three sizes beside the largest are there."""
  found = {size: a for size in sorted(set(study.config.study.sizes)) if (a := answers(study, (normal(size),)))}
  if not found:
    return {"points": [], "fits": {}}
  correct = _common(found)
  draws = resample.means(correct)
  points = [
    {
      "size": size,
      "accuracy": float(correct[size].mean()),
      "ci95": list(resample.share_interval(correct[size], draws[size])),
      "by_seed": correct[size].mean(1).tolist(),
      "by_level": _by_level(correct[size], found[size].level),
      "problems": correct[size].shape[1],
    }
    for size in found
  ]
  *sizes, largest = found
  fits = {}
  if len(sizes) >= 3:
    means = [float(correct[size].mean()) for size in sizes]
    table = np.stack([draws[size] for size in sizes], axis=1)
    for name, form in fit.FORMS.items():
      curve = fit.fit(form, sizes, means, table)
      fits[name] = {
        "title": form.title,
        "sizes": sizes,
        "parameters": curve.parameters(),
        "residual": fit.residual(curve, sizes, means),
        "held_out": fit.held_out(curve, largest, float(correct[largest].mean()), draws[largest]),
        "line": _line(curve, sizes[0], 2 * largest),
      }
  return {"points": points, "fits": fits}


def _line(curve: fit.Fit, first: float, last: float) -> list[list[float]]:
  """(size, accuracy, low, high) along the curve, for drawing."""
  sizes = np.geomspace(first, last, 60)
  low, high = curve.band(sizes)
  return [[float(v) for v in row] for row in zip(sizes, curve.at(sizes), low, high, strict=True)]


def _by_level(correct: np.ndarray, levels: np.ndarray) -> dict[str, float]:
  return {str(level): float(correct[:, levels == level].mean()) for level in sorted(set(levels.tolist())) if level}


def _ablation(study: Study, ablation: Ablation) -> Facts | None:
  """The subject against every other arm; None while any arm has no cell."""
  size = study.config.study.ablation_size
  arms = ablation.arms(size)
  found = {name: a for name, phases in arms.items() if (a := answers(study, phases)) is not None}
  if found.keys() != arms.keys():
    return None
  correct = _common(found)
  if not next(iter(correct.values())).size:
    return None
  levels, hard = found[next(iter(arms))].level, study.config.synthesis.hard_levels
  draws = resample.means(correct)
  subject, *others = arms
  is_hard = np.isin(levels, hard)
  comparisons = {other: _compared(correct, draws, subject, other, ablation.expected) for other in others}
  if is_hard.any():
    part = {name: array[:, is_hard] for name, array in correct.items()}
    part_draws = resample.means(part)
    for other in others:
      comparisons[other]["hard_levels"] = _compared(part, part_draws, subject, other, ablation.expected)
  return {
    "title": ablation.title,
    "claim": ablation.claim,
    "caveat": ablation.caveat,
    "size": size,
    "subject": subject,
    "arms": {
      name: {
        "accuracy": float(array.mean()),
        "ci95": list(resample.share_interval(array, draws[name])),
        "by_seed": array.mean(1).tolist(),
        "by_level": _by_level(array, levels),
        "set": (study.facts(Cell(phases=arms[name])) or {}).get("set"),
      }
      for name, array in correct.items()
    },
    "comparisons": comparisons,
    "sentence": _sentence(ablation, subject, comparisons),
  }


def _compared(
  correct: Mapping[str, np.ndarray], draws: Mapping[str, np.ndarray], subject: str, other: str, expected: int
) -> Facts:
  """Subject - other: difference with interval, seed by seed, and McNemar's test on each seed's pairs."""
  low, high = resample.interval(draws[subject] - draws[other])
  verdict = "cannot tell" if low <= 0 <= high else "agrees" if (low > 0) == (expected > 0) else "disagrees"
  pairs = [mcnemar(b.tolist(), a.tolist()) for a, b in zip(correct[subject], correct[other], strict=True)]
  return {
    "difference": float(correct[subject].mean() - correct[other].mean()),
    "ci95": [low, high],
    "by_seed": (correct[subject].mean(1) - correct[other].mean(1)).tolist(),
    "p_by_seed": [p for *_, p in pairs],
    "verdict": verdict,
  }


def _sentence(ablation: Ablation, subject: str, comparisons: Mapping[str, Facts]) -> str:
  """What the comparison says and whether it agrees with the paper, in words that follow from the intervals alone."""
  words = {
    "agrees": "the micro world agrees",
    "disagrees": "the micro world does not agree",
    "cannot tell": "the micro world cannot tell",
  }
  parts = []
  for other, found in comparisons.items():
    hard = f"; on hard levels {_points(found['hard_levels'])}" if "hard_levels" in found else ""
    parts.append(f"{subject} against {other} {_points(found)} points{hard} ({words[found['verdict']]})")
  return f"Paper: {ablation.claim}. Here: {'; '.join(parts)}. Mind that {ablation.caveat}."


def _points(found: Facts) -> str:
  low, high = found["ci95"]
  return f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]".replace("-", "−")


def _row(cell: Cell, facts: Facts) -> Facts:
  kept = ("accuracy", "set", "steps", "tokens", "loss", "seconds", "cpu_seconds")
  return {"name": cell.name, "instances": cell.instances, "seed": cell.rng_seed} | {
    key: facts[key] for key in kept if key in facts
  }


def _cost(cells: Sequence[Facts]) -> Facts:
  return {
    "cells": len(cells),
    "train_seconds": round(sum(cell["seconds"]["train"] for cell in cells), 1),
    "evaluate_seconds": round(sum(cell["seconds"]["evaluate"] for cell in cells), 1),
    "cpu_seconds": round(sum(cell["cpu_seconds"] for cell in cells), 1),
  }


def _headline(summary: Facts) -> Facts:
  """What a person wants to see first."""
  return {
    "accuracy": {str(point["size"]): round(point["accuracy"], 4) for point in summary["curve"]},
    "held_out_error": {name: round(found["held_out"]["error"], 4) for name, found in summary["fits"].items()},
    "ablations": {name: found["sentence"] for name, found in summary["ablations"].items()},
    "cells": f"{len(summary['cells'])} of {summary['cells_wanted']}",
    "cpu_seconds": summary["cost"]["cpu_seconds"],
  }
