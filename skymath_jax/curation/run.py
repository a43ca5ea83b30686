"""Curation from end to end: validation → decontamination → duplicates → near-duplicates → responses per query.

`curate` is pure: instances in, instances and a reason for every one that was dropped out. `write` and `write_files`
leave the result on disk; `read_inputs` and `read_test_set` read the files of the stand-alone command.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from skymath_jax import console, files, records
from skymath_jax.curation import decontaminate, deduplicate, validate
from skymath_jax.curation.funnel import Funnel
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem, stable_id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Every choice of curation; the defaults are those of the paper, and of the project's notes where it is silent."""

  ngram: int = 30  # whitespace words shared with a test item that make a leak
  near_duplicate: float = 0.8  # Jaccard similarity that makes a near-duplicate; 0 = leave near-duplicates in
  gold_filter: str = "keep"  # keep | drop instances whose answer differs from the gold one
  responses_per_query: int = 0  # at most so many responses to one query; 0 = no limit
  max_characters: int = 16_384  # of query + response; 0 = no limit
  max_tokens: int = 0  # of query + response; 0 = no limit
  sensitivity: tuple[int, ...] = decontaminate.SENSITIVITY  # n-gram lengths reported beside `ngram`


@dataclasses.dataclass(frozen=True)
class Dropped:
  """An instance that was left out; `detail` says what was found (for a leak: the test row that was hit)."""

  instance: Instance
  reason: str
  detail: dict[str, Any]

  def to_json(self) -> dict[str, Any]:
    """The instance's own keys, then `reason`, then those of `detail`."""
    return {**records.to_json(self.instance), "reason": self.reason, **self.detail}


@dataclasses.dataclass(frozen=True)
class Curated:
  """What curation kept, what it dropped and why, the funnel, and the hits at other n-gram lengths."""

  kept: list[Instance]
  dropped: list[Dropped]
  funnel: Funnel
  sensitivity: dict[str, Any]

  def summary(self) -> dict[str, Any]:
    """The contents of `summary.json`."""
    return {
      "in": self.funnel.entered,
      "kept": len(self.kept),
      "dropped": self.funnel.dropped,
      "steps": self.funnel.to_json(),
      "by_method": dict(sorted(Counter(i.method for i in self.kept).items())),
      "by_level": dict(sorted(Counter(str(i.level) for i in self.kept).items())),
      "distinct_queries": len({i.query for i in self.kept}),
      "tokens": sum(i.tokens or 0 for i in self.kept),
      "decontamination": self.sensitivity,
    }


def curate(
  instances: Sequence[Instance],
  *,
  test_sets: Mapping[str, Sequence[Problem]],
  settings: Settings,
  tokenizer_count: Callable[[str], int] | None = None,
) -> Curated:
  """Cleans `instances`; the order of what is kept is that of the input.

  Args:
    instances: what synthesis made.
    test_sets: name → problems that must not leak into what is kept.
    settings: the choices.
    tokenizer_count: text → number of tokens; where given, every kept instance's `tokens` is set with it.
  """
  parents = {i.id: i.parents for i in instances}
  funnel, dropped, left = Funnel(len(instances)), [], list(instances)
  sensitivity: dict[str, Any] = {}
  steps: list[tuple[str, Callable[[list[Instance]], Iterable[tuple[int, str, dict[str, Any]]]]]] = [
    ("validation", lambda now: _invalid(now, settings, tokenizer_count)),
    ("decontamination", lambda now: _leaks(now, test_sets, settings, sensitivity)),
    ("duplicates", _duplicates),
    ("near-duplicates", lambda now: _near_duplicates(now, parents, settings.near_duplicate)),
    ("responses per query", lambda now: _surplus(now, settings.responses_per_query)),
  ]
  for name, step in steps:
    found = {index: Dropped(left[index], reason, detail) for index, reason, detail in step(left)}
    funnel.add(name, (drop.reason for drop in found.values()))
    dropped += found.values()
    left = [instance for index, instance in enumerate(left) if index not in found]
  if tokenizer_count is not None:
    left = [dataclasses.replace(i, tokens=tokenizer_count(i.query) + tokenizer_count(i.response)) for i in left]
  return Curated(left, dropped, funnel, sensitivity)


def _invalid(instances, settings, count):
  for index, instance in enumerate(instances):
    found = validate.findings(
      instance,
      gold_filter=settings.gold_filter,
      max_characters=settings.max_characters,
      max_tokens=settings.max_tokens,
      count_tokens=count,
    )
    if (first := next(found, None)) is not None:
      yield index, first.reason, {"found": first.detail} if first.detail else {}


def _leaks(instances, test_sets, settings, sensitivity):
  """Yields the leaks; fills `sensitivity` with the counts."""
  index = decontaminate.TestIndex(test_sets, ngram=settings.ngram, sensitivity=settings.sensitivity)
  runs, hits = [], []
  with console.bar("decontaminate", len(instances)) as bar:
    for number, instance in enumerate(instances):
      verdict = index.check(instance.query, instance.response)
      runs.append(verdict.longest_run)
      if verdict.hit is not None:
        hits.append((number, "contamination", verdict.hit.to_json()))
      bar.advance()
  sensitivity["checked"] = len(instances)
  sensitivity["test_sets"] = {name: len(problems) for name, problems in test_sets.items()}
  sensitivity["hits"] = dict(sorted(Counter(hit["kind"] for _, _, hit in hits).items()))
  sensitivity["hits_by_test_set"] = dict(sorted(Counter(hit["test_row"]["test_set"] for _, _, hit in hits).items()))
  lengths = sorted({settings.ngram, *settings.sensitivity})
  sensitivity["ngram_hits"] = {str(n): sum(run >= n for run in runs) for n in lengths}
  return hits


def _duplicates(instances):
  for index, earlier in enumerate(deduplicate.exact([(i.query, i.response) for i in instances])):
    if earlier is not None:
      yield index, "duplicate", {"duplicate_of": instances[earlier].id}


def _near_duplicates(instances, parents, threshold):
  """Compares the distinct queries; all responses to a near-duplicate query go with it."""
  if threshold <= 0:
    return
  groups: dict[str, list[int]] = {}
  for index, instance in enumerate(instances):
    groups.setdefault(decontaminate.normalize(instance.query), []).append(index)
  members = list(groups.values())
  seeds = deduplicate.lineages(parents, [i.id for i in instances])
  lineage = [frozenset().union(*(seeds[index] for index in group)) for group in members]
  queries = [instances[group[0]].query for group in members]
  for number, earlier in enumerate(deduplicate.near(queries, lineage, threshold=threshold)):
    if earlier is not None:
      similarity = round(deduplicate.jaccard(queries[number], queries[earlier]), 3)
      for index in members[number]:
        yield index, "near_duplicate", {"near_duplicate_of": instances[members[earlier][0]].id, "jaccard": similarity}


def _surplus(instances, limit):
  if limit <= 0:
    return
  seen: Counter[str] = Counter()
  for index, instance in enumerate(instances):
    query = decontaminate.normalize(instance.query)
    seen[query] += 1
    if seen[query] > limit:
      yield index, "responses_per_query", {"limit": limit}


def write_files(folder: epath.PathLike, curated: Curated) -> dict[str, Any]:
  """Writes `kept.jsonl`, `dropped.jsonl` and `summary.json` into `folder`; returns the summary."""
  folder = epath.Path(folder)
  records.write_lines(folder / "kept.jsonl", curated.kept)
  records.write_lines(folder / "dropped.jsonl", (drop.to_json() for drop in curated.dropped))
  summary = curated.summary()
  files.write_json(folder / "summary.json", summary)
  return summary


def write(
  folder: epath.PathLike,
  curated: Curated,
  *,
  name: str,
  facts: Mapping[str, Any],
  write_set: Callable[..., None],
) -> dict[str, Any]:
  """Writes the SFT data set with its card, and beside it what `write_files` writes; returns the summary.

  Args:
    folder: replaced if it exists.
    curated: what to write.
    name: of the data set, for the card.
    facts: further lines of the card, such as the teacher.
    write_set: `datasets.sft.write` (rooms of one floor do not know each other, so the caller passes it in).
  """
  write_set(folder, curated.kept, name=name, card=card(curated, name=name, facts=facts))
  return write_files(folder, curated)


def card(curated: Curated, *, name: str, facts: Mapping[str, Any]) -> str:
  """The data set's card in Markdown: size, origin, funnel, what it was checked against and what that cannot see."""
  summary, checked = curated.summary(), curated.sensitivity
  methods = "\n".join(f"| {method} | {count:,} |" for method, count in summary["by_method"].items())
  against = ", ".join(f"{test} ({rows:,} problems)" for test, rows in checked["test_sets"].items()) or "no test set"
  grams = ", ".join(f"{n} words: {count:,}" for n, count in checked["ngram_hits"].items())
  origin = "\n".join(f"- {key}: {value}" for key, value in facts.items() if value not in ("", None))
  return f"""# {name}

{summary["kept"]:,} (query, response) pairs with {summary["distinct_queries"]:,} distinct queries,
made by a language model. Answers are the teacher's and may be wrong; `gold_match` says where a gold answer was
known and whether it agrees.

{origin}

## By method

| method | pairs |
|---|--:|
{methods}

## From synthesis to this set

{curated.funnel.markdown()}

## Contamination

Checked against {against}: exact after normalisation, shared runs of words, and whole questions inside a text.
Runs of shared words in {checked["checked"]:,} checked pairs, by length ({grams}).
Paraphrases of test items are not detected.
"""


def read_inputs(paths: str | Sequence[str]) -> list[Instance]:
  """Reads JSONL files of Instance rows or plain {query, response} rows (`question`, `problem`, `solution` also serve).

  Raises:
    UserError: a row is neither; file and line are named.
  """
  return [_instance(row, f"{path}:{number}") for path in _listed(paths) for number, row in records.read_lines(path)]


def _listed(paths: str | Sequence[str]) -> list[str]:
  return [part for item in ([paths] if isinstance(paths, str) else paths) for part in str(item).split(",") if part]


def _instance(row: dict[str, Any], where: str) -> Instance:
  if {"id", "method", "parents"} <= row.keys():
    try:
      return records.from_json(Instance, row)
    except TypeError as error:
      raise UserError(
        f"not an Instance ({error})", where=where, remedy="see skymath_jax/records.py for the keys"
      ) from None
  query = _text(row, ("query", "question", "problem"), where)
  response = _text(row, ("response", "solution"), where)
  last = response.rstrip().rpartition("\n")[2]
  answer = last.removeprefix(records.ANSWER_MARKER).strip() if last.startswith(records.ANSWER_MARKER) else ""
  return Instance(
    id=stable_id(query, response),
    query=query,
    response=response,
    answer=answer,
    method=validate.USER_METHOD,
    parents=(),
    stage=1,
  )


def _text(row: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
  found = [key for key in keys if isinstance(row.get(key), str)]
  if not found:
    raise UserError(
      f"this row has no text under {keys[0]!r} (it has {', '.join(sorted(row)) or 'no keys'})",
      where=where,
      remedy='write {"query": …, "response": …} or whole Instance rows',
    )
  return row[found[0]]


def read_test_set(path: epath.PathLike) -> list[Problem]:
  """Reads a JSONL file of {`question`|`problem`|`query`, optional `answer` and `solution`|`response`} rows.

  Raises:
    UserError: a row has no question; file and line are named.
  """
  problems = []
  for number, row in records.read_lines(path):
    question = _text(row, ("question", "problem", "query"), f"{path}:{number}")
    given = {key: str(value) for key, value in row.items() if value is not None}
    solution = given.get("solution", given.get("response"))
    problems.append(Problem.create(str(path), question, solution=solution, answer=given.get("answer")))
  return problems
