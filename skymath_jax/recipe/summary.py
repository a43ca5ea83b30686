"""`summary.json`: what a run came to, gathered from the files that its stages left."""

import collections
from collections.abc import Iterable

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import files, records, report
from skymath_jax.config import Experiment
from skymath_jax.console import log
from skymath_jax.problems import catalog
from skymath_jax.records import Facts, Instance


def summarize(config: Experiment, workdir: epath.Path, facts: dict[str, Facts]) -> Facts:
  """Writes `summary.json` and `report.html`; returns the summary (keys as in the design's contract)."""
  summary = {
    "name": config.name,
    "seed": config.rng_seed,
    "config_hash": config_lib.config_hash(config),
    "accuracy": {
      name: files.read_json(workdir / "evaluation" / name / "summary.json")["accuracy"]
      for name in config.evaluation.models
    },
    "instances": _instances(workdir),
    "oracle": _oracle(config, workdir),
    "requests": _requests(workdir),
    "export": {
      key: facts["export"][key]
      for key in ("folder", "prompts", "compared_with", "max_abs_logit_diff", "same_greedy_text")
    },
    "seconds": {name: fact["seconds"] for name, fact in facts.items()},
    "tokens_per_second": _speeds(workdir, facts),
  }
  files.write_json(workdir / "summary.json", summary)
  report.write(workdir)
  log(f"summary: {workdir / 'summary.json'}")
  return summary


def _stage_summaries(workdir: epath.Path, room: str) -> list[Facts]:
  return [files.read_json(workdir / room / f"stage{number}" / "summary.json") for number in (1, 2)]


def _add(counts: Iterable[dict[str, int]]) -> dict[str, int]:
  total: collections.Counter[str] = collections.Counter()
  for count in counts:
    total.update(count)
  return dict(sorted(total.items()))


def _instances(workdir: epath.Path) -> Facts:
  kept = [i for n in (1, 2) for i in records.read(Instance, workdir / "sft" / f"stage{n}" / "kept.jsonl")]
  dropped = [step["dropped"] for s in _stage_summaries(workdir, "sft") for step in s["steps"]]
  rejected = [p["rejected"] for s in _stage_summaries(workdir, "synthesis") for p in s["passes"]]
  return {
    "made": sum(s["instances"] for s in _stage_summaries(workdir, "synthesis")),
    "kept": len(kept),
    "dropped": _add([*rejected, *dropped]),
    "by_method": _add({i.method: 1} for i in kept),
    "by_stage": _add({f"stage{i.stage}": 1} for i in kept),
  }


def _oracle(config: Experiment, workdir: epath.Path) -> Facts | None:
  """Per method: the shares of kept instances with a well-formed question and a right answer; None without oracle."""
  check = catalog.oracle(config.seeds.sources)
  if check is None:
    return None
  verdicts: dict[str, list[tuple[bool, bool]]] = {}
  for number in (1, 2):
    for instance in records.read(Instance, workdir / "sft" / f"stage{number}" / "kept.jsonl"):
      family = instance.method.partition(".")[0]
      for method in {instance.method, family if family == "evol" else instance.method}:
        verdicts.setdefault(method, []).append(check(instance.query, instance.answer))
  return {
    method: {
      "n": len(found),
      "valid_question": round(sum(valid for valid, _ in found) / len(found), 4),
      "right_answer": round(sum(right for _, right in found) / len(found), 4),
    }
    for method, found in sorted(verdicts.items())
  }


def _requests(workdir: epath.Path) -> Facts:
  """Requests by whom they were counted. After a kill the three may differ by what was in flight."""
  stages = _stage_summaries(workdir, "synthesis")
  return {
    "client": sum(p["requests"]["sent"] for s in stages for p in s["passes"]),
    "server": sum(s["server_requests"] for s in stages),
    "stored": sum(s["stored"] for s in stages),
    "replayed": sum(p["requests"]["replayed"] for s in stages for p in s["passes"]),
  }


def _speeds(workdir: epath.Path, facts: dict[str, Facts]) -> dict[str, float]:
  passes = [p for s in _stage_summaries(workdir, "synthesis") for p in s["passes"]]
  speeds = {"synthesize": _ratio(sum(p["tokens"]["completion"] for p in passes), sum(p["seconds"] for p in passes))}
  for stage in (1, 2):
    rows = [row for _, row in records.read_lines(workdir / "checkpoints" / f"stage{stage}" / "metrics.jsonl")][2:]
    speeds[f"train stage {stage}"] = _ratio(sum(r["tokens"] for r in rows), sum(r["seconds"] for r in rows))
  for name in facts:
    if name.startswith("evaluate "):
      model = name.removeprefix("evaluate ")
      speeds[name] = files.read_json(workdir / "evaluation" / model / "summary.json")["tokens_per_second"]
  return speeds


def _ratio(amount: float, seconds: float) -> float:
  return round(amount / seconds, 1) if seconds else 0.0
