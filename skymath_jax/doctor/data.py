"""A data set by itself, and in the frame of a model: empty, over-long and doubled rows, open thoughts, leaks, golds."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skymath_jax import curation, grading
from skymath_jax.chat.frames import Frame, Row
from skymath_jax.config import Curation
from skymath_jax.doctor.finding import Finding
from skymath_jax.errors import UserError
from skymath_jax.records import USER_METHOD, Instance, Problem, stable_id
from skymath_jax.rows import columns
from skymath_jax.sft import pairs

LIMIT = 20_000  # rows that are looked at
TOGETHER = 256  # rows that a template renders at once
GOLDS = ("expected_answer", "final_answer", "gold", "answer")
THOUGHTS = (("<think>", "</think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<thought>", "</thought>"))
_SAYS = re.compile(r"\\boxed|####|answer is", re.IGNORECASE)
_TOLD = {
  "empty_query": ("warning", "empty", "have no query", "leave them out"),
  "empty_response": ("error", "empty", "have no response: nothing is trained on them", "leave them out"),
  "duplicate": ("warning", "duplicates", "say what another row says", "skymath curate keeps one of each"),
  "near_duplicate": ("warning", "duplicates", "are nearly another row", "skymath curate keeps one of each"),
  "contamination": ("error", "leaks", "give a test problem away", "skymath decontaminate shows them side by side"),
}


def audit_data(
  text: str, columns_: str, tests: Mapping[str, Sequence[Problem]], *, frame: Frame | None, max_length: int
) -> list[Finding]:
  """The findings of the first LIMIT rows of what `text` names.

  Args:
    text: as `training.data`.
    columns_: as `training.columns`.
    tests: name → problems that must not leak.
    frame: of the model; None without one.
    max_length: tokens that a row may have; 0 = no limit.

  Raises:
    UserError: it cannot be read.
  """
  found: list[Finding] = []
  made: list[Instance] = []
  counts: Counter[str] = Counter()
  framed: list[tuple[Row, str]] = []
  for part in pairs.open(text, columns_).parts:
    for where, raw in itertools.islice(pairs.numbered(part.table), LIMIT):
      fits = part.reading is not None and all(n in raw for n in (part.reading.query[0], *part.reading.responses))
      for row in columns.pairs(raw, where, part.reading if fits else None):
        counts["rows"] += 1
        query, response = _texts(row)
        made.append(_instance(query, response, where))
        counts.update(_marks(raw, response))
        framed.append((row, where))
  if frame is not None:
    for first in range(0, len(framed), TOGETHER):
      counts.update(_framed(framed[first : first + TOGETHER], frame, max_length))
  found += _counted(counts, max_length)
  settings = curation.Settings.from_config(Curation(), max_characters=0)
  dropped = Counter(drop.reason for drop in curation.curate(made, test_sets=tests, settings=settings).dropped)
  for reason, count in sorted(dropped.items()):
    if reason in _TOLD:
      severity, check, what, remedy = _TOLD[reason]
      found.append(Finding(severity, check, f"{count:,} of {counts['rows']:,} rows {what}", remedy))
  return found


def _texts(row: Mapping[str, Any]) -> tuple[str, str]:
  turns = row.get("messages")
  if turns is None:
    return row["query"], row["response"]
  asked = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
  return asked, "\n".join(turn["content"] for turn in turns if turn["role"] == "assistant")


def _instance(query: str, response: str, where: str) -> Instance:
  return Instance(
    id=stable_id(where, query), query=query, response=response, answer="", method=USER_METHOD, parents=(), stage=1
  )


def _marks(raw: Mapping[str, Any], response: str) -> Iterator[str]:
  """What is wrong with a response itself."""
  if any(response.count(start) > response.count(end) for start, end in THOUGHTS):
    yield "open"
  gold = next((str(raw[key]) for key in GOLDS if raw.get(key) not in (None, "") and str(raw[key]) != response), None)
  if gold is None or len(gold) > 200:
    return
  said = grading.extract(response, last_number=False) if _SAYS.search(response) else None
  yield "golds"
  if said is not None and not grading.equivalent(grading.gold_answer(gold), said, "symbolic"):
    yield "wrong"


def _framed(rows: Sequence[tuple[Row, str]], frame: Frame, max_length: int) -> Iterator[str]:
  """What is wrong with what becomes of (row, where) in the model's frame."""
  try:
    found = frame.examples([row for row, _ in rows], [where for _, where in rows])
  except UserError:  # of one of them
    if len(rows) == 1:
      yield "unframed"
      return
    half = len(rows) // 2
    yield from _framed(rows[:half], frame, max_length)
    yield from _framed(rows[half:], frame, max_length)
    return
  for example in found:
    if example is None or not any(example.trained):
      yield "untrained"
    elif max_length and len(example.tokens) > max_length:
      yield "long"


def _counted(counts: Counter[str], max_length: int) -> Iterator[Finding]:
  total, of = counts["rows"], f"of {counts['rows']:,} rows"
  if total == LIMIT:
    yield Finding("note", "rows", f"the first {LIMIT:,} rows were looked at")
  told = {
    "open": ("error", "thoughts", "begin a thought that does not end", "leave them out, or raise the teacher's limit"),
    "unframed": ("error", "template", "do not fit the model's template", "name another one, or mend these rows"),
    "untrained": ("warning", "targets", "have nothing to train on", "leave them out"),
    "long": ("warning", "length", f"are longer than the model's {max_length:,} positions", "leave them out"),
  }
  for key, (severity, check, what, remedy) in told.items():
    if counts[key]:
      yield Finding(severity, check, f"{counts[key]:,} {of} {what}", remedy)
  if counts["wrong"]:
    what = f"{counts['wrong']:,} of {counts['golds']:,} responses end with another answer than their row's own"
    yield Finding(
      "warning", "golds", what, "skymath curate with curation.quality=gold, or look which of the two is wrong"
    )
