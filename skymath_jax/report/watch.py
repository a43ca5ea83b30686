"""The page of a workdir while a run works in it, and after: `skymath watch`.

It reads files, takes no lock, and leaves nothing behind, so a run does not notice it. As in the report all text is
untrusted: escaped, without script; formulas become MathML. What is in it follows from the files and the time.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath
from markupsafe import Markup

from skymath_jax import files
from skymath_jax.errors import UserError
from skymath_jax.report import html, read
from skymath_jax.report.mathml import mathematics
from skymath_jax.report.read import STAGES, Row
from skymath_jax.synthesis.progress import FILE

REFRESH_SECONDS = 5
SILENT_SECONDS = 60.0  # without a sign of life, after which a pass is told to stand still
TAIL_BYTES = 64 << 10  # of a file of instances, in which the newest are
MAX_METRICS_BYTES = 64 << 20  # of the rows of training that are read
SHOWN = 6  # newest instances
SAMPLE = dict.fromkeys(("seed", "query", "response", "thought", "method", "gold_match", "reason", "text"))
PASS = dict.fromkeys(("name", "jobs", "share", "left", "silent", "spent", "now", "rates"))
FOLDERS = (
  "seeds", "synthesis/stage1", "synthesis/stage2", "sft/stage1", "sft/stage2", "checkpoints/stage1",
  "checkpoints/stage2", "evaluation", "export",
)  # fmt: skip


def page(workdir: epath.PathLike, *, refresh: int = REFRESH_SECONDS) -> str:
  """The page as text, which a browser asks for again every `refresh` seconds (0: never).

  Raises:
    UserError: this is no workdir.
  """
  root = files.located(workdir)
  if not root.is_dir() or not (root / "config.json").exists():
    raise UserError("this is no workdir: it has no config.json", where=root, remedy="name the folder of a run")
  settings = _document(root / "config.json")
  passes = {stage: _synthesis(root / "synthesis" / stage, settings) for stage in STAGES}
  context = {
    "name": html.clean(settings.get("name", root.name), 80),
    "workdir": str(workdir),
    "refresh": refresh,
    "now": time.strftime("%Y-%m-%d %H:%M:%S"),
    "stages": html.STAGE_NAMES,
    "steps": [(folder, _state(root / folder)) for folder in FOLDERS],
    "passes": {stage: found for stage, found in passes.items() if found},
    "samples": _samples(root, passes),
    "training": html.training({stage: _metrics(root / "checkpoints" / stage) for stage in STAGES}),
    "accuracy": _accuracy(root / "evaluation"),
    "mathematics": shown,
  }
  return html.environment(html.FOLDER).get_template("watch.html").render(context)


def shown(value: Any) -> Markup:
  """A text of a model, cleaned, with its formulas drawn."""
  return mathematics(html.clean(value))


def _document(path: epath.Path) -> Row:
  """A JSON object; empty where there is none, or while it is being replaced."""
  try:
    found = files.read_json(path)
  except (UserError, OSError):
    return {}
  return found if isinstance(found, dict) else {}


def _state(folder: epath.Path) -> str:
  if not folder.exists():
    return "not begun"
  seconds = read.number(_document(folder / files.COMPLETE).get("seconds"))
  if (folder / files.COMPLETE).exists():
    return "complete" if seconds is None else f"complete, {seconds:,.0f} s"
  return "begun"


def _synthesis(folder: epath.Path, settings: Row) -> Row:
  """What a stage of synthesis has come to: of the pass that runs, or of all passes once it is complete."""
  told, summary = _document(folder / FILE), _document(folder / "summary.json")
  if told:
    return _running(told)
  passes = read.listed(summary, "passes")
  if not passes:
    return {}
  total = {key: _summed(read.counts(found, key) for found in passes) for key in ("requests", "tokens", "by_method")}
  seconds = sum(read.number(found.get("seconds")) or 0.0 for found in passes)
  return PASS | {
    "name": "complete",
    **total,
    "rejected": _reasons(read.part(found, "rejected_by_method") for found in passes),
    "spent": _price(total["tokens"], settings),
    "seconds": seconds,
    "rates": _rates(total["requests"], total["tokens"], seconds),
    "newest": [],
    "lost": [],
  }


def _running(told: Row) -> Row:
  jobs = read.counts(told, "jobs")
  seconds = (read.number(told.get("written")) or 0.0) - (read.number(told.get("began")) or 0.0)
  share = jobs.get("done", 0.0) / max(jobs.get("total", 1.0), 1.0)
  silent = time.time() - (read.number(told.get("written")) or 0.0)
  return {
    "name": told.get("name"),
    "jobs": jobs,
    "share": share,
    "left": seconds * (1 - share) / share if share else None,
    "silent": silent if silent > SILENT_SECONDS else None,
    "requests": read.counts(told, "requests"),
    "tokens": read.counts(told, "tokens"),
    "by_method": read.counts(told, "by_method"),
    "rejected": _reasons([read.part(told, "rejected_by_method")]),
    "spent": read.number(told.get("spent")),
    "seconds": seconds,
    "rates": _rates(read.counts(told, "requests"), read.counts(told, "tokens"), seconds),
    "now": _last_rate(told.get("pace")),
    "newest": [SAMPLE | row for row in reversed(read.listed(told, "newest"))],
    "lost": [SAMPLE | row for row in reversed(read.listed(told, "rejected"))],
  }


def _rates(requests: Mapping[str, float], tokens: Mapping[str, float], seconds: float) -> Row:
  sent, written = requests.get("sent", 0.0), tokens.get("completion", 0.0)
  return {"requests": sent / seconds, "tokens": written / seconds} if seconds > 0 else {}


def _last_rate(pace: Any) -> Row:
  """Requests and tokens a second between the last two points of the pace."""
  points = [p for p in pace if isinstance(p, list) and len(p) == 3] if isinstance(pace, list) else []
  if len(points) < 2 or not all(read.number(value) is not None for point in points[-2:] for value in point):
    return {}
  (start, sent, written), (end, sent_then, written_then) = points[-2:]
  return _rates({"sent": sent_then - sent}, {"completion": written_then - written}, end - start)


def _reasons(found: Iterable[Row]) -> list[tuple[str, float]]:
  """(reason, rejections), the commonest first."""
  total: Counter[str] = Counter()
  for by_method in found:
    for method in by_method:
      total.update(read.counts(by_method, method))
  return sorted(total.items(), key=lambda each: (-each[1], each[0]))


def _summed(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
  total: Counter[str] = Counter()
  for counts in found:
    total.update(counts)
  return dict(total)


def _price(tokens: Mapping[str, float], settings: Row) -> float | None:
  prices = read.part(settings, "teacher").get("prices")
  each = [read.number(price) for price in prices] if isinstance(prices, list) else []
  if len(each) != 2 or None in each or not any(each):
    return None
  return (tokens.get("prompt", 0.0) * (each[0] or 0.0) + tokens.get("completion", 0.0) * (each[1] or 0.0)) / 1e6


def _samples(root: epath.Path, passes: Mapping[str, Row]) -> list[Row]:
  """The newest instances with the problems they were made from: of the running pass, else of the last files."""
  for found in reversed(list(passes.values())):
    if newest := found.get("newest"):
      return list(newest)
  for stage in reversed(STAGES):
    for path in (root / "sft" / stage / "kept.jsonl", root / "synthesis" / stage / "instances.jsonl"):
      if rows := _tail(path):
        return _with_seeds(root, rows[-SHOWN:][::-1])
  return []


def _with_seeds(root: epath.Path, rows: list[Row]) -> list[Row]:
  """Each with the question of its parent as `seed`, where that is a seed or was selected for pass 2."""
  wanted = {str(parent) for row in rows for parent in row.get("parents") or []}
  questions: dict[str, Any] = {}
  for path in (root / "seeds" / "problems.jsonl", *(root / "synthesis" / s / "coreset.jsonl" for s in STAGES)):
    questions |= {str(row["id"]): row.get("question") for row in read.lines(path) if row.get("id") in wanted}
  return [{**SAMPLE, **row, "seed": questions.get(str((row.get("parents") or [""])[0]))} for row in rows]


def _tail(path: epath.Path, most: int = TAIL_BYTES) -> list[Row]:
  """The objects of the last lines of a JSONL file that may still be written to."""
  try:
    with path.open("rb") as file:
      size = file.seek(0, io.SEEK_END)
      file.seek(max(0, size - most))
      lines = file.read(most).split(b"\n")
  except OSError:
    return []
  found = []
  for line in lines[1 if size > most else 0 :]:
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      continue
    found += [row] if isinstance(row, dict) else []
  return found


def _metrics(folder: epath.Path) -> list[Row]:
  return _tail(folder / "metrics.jsonl", MAX_METRICS_BYTES)


def _accuracy(folder: epath.Path) -> list[Row]:
  """(model, benchmark, accuracy) of every evaluation that is complete, in order."""
  found = []
  for path in [*files.matching(folder, "*/summary.json"), *files.matching(folder, "*/*/summary.json")]:
    document = _document(path)
    estimate = read.overall(read.part(document, "accuracy"))
    if estimate is not None:
      where = path.parent.relative_to(folder).parts
      found.append({"model": read.MODELS.get(where[0], where[0]), "name": document.get("name"), "estimate": estimate})
  return found
