"""What the report shows of single items, chosen by rule, never by hand: instances with ancestry, paired answers.

Ids are hashes of content, so "the smallest id" is a draw that nobody steered and that every run repeats.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from etils import epath

from skymath_jax.report import read
from skymath_jax.report.read import MODELS, Row
from skymath_jax.statistics import mcnemar

DEEPEST = 24  # two passes of at most five evolutions and a solution each, with room to spare
SHOWN = 2  # examples of each group of answers
WHEN = {"base": "before training", "stage1": "after stage 1", "stage2": "after stage 2"}


@dataclasses.dataclass
class Census:
  """Counts over the instances of all stages, gathered in one pass, and one instance of each method.

  `methods`, `lengths`: stage → Counter; `gold`: method → Counter of True, False, None; `unit`: what lengths count.
  """

  methods: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
  lengths: dict[str, Counter[int]] = dataclasses.field(default_factory=dict)
  gold: dict[str, Counter[bool | None]] = dataclasses.field(default_factory=dict)
  origins: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
  examples: dict[str, Row] = dataclasses.field(default_factory=dict)
  unit: str = "tokens"


def census(workdir: epath.Path) -> Census:
  """Counts the instances of the workdir; a method's example is that of the last pass with the smallest id."""
  found = Census()
  lengths: dict[str, tuple[Counter[int], Counter[int]]] = {}  # in tokens and in words
  for stage in read.STAGES:
    tokens, words = lengths[stage] = Counter(), Counter()
    for row in read.instances(workdir, stage):
      method = str(row.get("method"))
      found.methods.setdefault(stage, Counter())[method] += 1
      found.gold.setdefault(method, Counter())[row.get("gold_match")] += 1
      words[len(str(row.get("response", "")).split())] += 1
      if read.number(row.get("tokens")) is not None:
        tokens[int(row["tokens"])] += 1
      _count_origins(found.origins, row)
      if method not in found.examples or _preference(row) < _preference(found.examples[method]):
        found.examples[method] = row
  whole = all(tokens.total() == words.total() for tokens, words in lengths.values())
  found.unit = "tokens" if whole else "words"
  found.lengths = {stage: pair[0 if whole else 1] for stage, pair in lengths.items() if pair[0 if whole else 1]}
  return found


def _preference(row: Row) -> tuple[int, str]:
  return -int(read.number(row.get("pass")) or 0), str(row.get("id"))


def _count_origins(origins: dict[str, Counter[str]], row: Row) -> None:
  settings = {key: value for key, value in read.part(row, "sampling").items() if "seed" not in key}
  facts = {
    "teacher": row.get("teacher"),
    "sampling": ", ".join(f"{key} {value}" for key, value in settings.items()),
    "prompt": " ".join(str(value) for value in read.part(row, "prompt").values()),
  }
  for name, value in facts.items():
    if value:
      origins.setdefault(name, Counter())[str(value)] += 1


def ancestries(workdir: epath.Path, examples: Iterable[Row]) -> list[list[Row]]:
  """For each instance the chain to it from its seed problem, oldest first; `kind` says what each link is.

  Links: `seed problem`, `instance`, and `lost` where a parent is in none of the workdir's files.
  """
  chains = [[{**row, "kind": "instance"}] for row in examples]
  for _ in range(DEEPEST):
    wanted = {key for chain in chains if (key := _next(chain))}
    if not wanted:
      break
    found = _find(workdir, wanted)
    for chain in chains:
      if key := _next(chain):
        row = found.get(key, {"kind": "lost", "id": key[1]})
        chain.append(row if row not in chain else {"kind": "lost", "id": key[1]})
  return [[row for row in reversed(chain) if row["kind"] != "selected"] for chain in chains]


def _next(chain: Sequence[Row]) -> tuple[str, str] | None:
  """How to look up the parent of the chain's last link: by id, or (a problem selected for pass 2) by its text."""
  last = chain[-1]
  if last["kind"] == "selected":
    return "query", str(last.get("question"))
  parents = last.get("parents")
  return ("id", str(parents[0])) if last["kind"] == "instance" and isinstance(parents, list) and parents else None


def _find(workdir: epath.Path, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Row]:
  """The rows with one of the wanted ids or queries; a seed problem is preferred to an instance, that to a selection."""
  sources = [("seed problem", workdir / "seeds" / "problems.jsonl")]
  sources += [("instance", workdir / "synthesis" / stage / "instances.jsonl") for stage in read.STAGES]
  sources += [("selected", workdir / "synthesis" / stage / "coreset.jsonl") for stage in read.STAGES]
  found: dict[tuple[str, str], Row] = {}
  for kind, path in sources:
    for row in read.lines(path):
      for key in (("id", str(row.get("id"))), ("query", str(row.get("query")))):
        if key in wanted:
          found.setdefault(key, {**row, "kind": kind})
  return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """Problems on which the models fared alike: how many, out of how many, and the first few by id."""

  title: str
  count: int
  total: int
  examples: list[dict[str, Row]]


def side_by_side(predictions: Mapping[str, Mapping[str, Row]]) -> list[Group]:
  """Groups of problems answered by all models, by who was right; each example is model → prediction."""
  models = [name for name in MODELS if name in predictions]
  if len(models) < 2:
    return []
  shared = sorted(set.intersection(*(set(predictions[name]) for name in models)))
  first, last = models[0], models[-1]
  rules = [_gained(a, b) for a, b in itertools.pairwise(models)]
  rules += [
    ("Wrong throughout", lambda was: not any(was.values())),
    (f"Lost: right {WHEN[first]}, wrong {WHEN[last]}", lambda was: was[first] and not was[last]),
  ]
  groups = []
  for title, rule in rules:
    chosen = [key for key in shared if rule({name: is_right(predictions[name][key]) for name in models})]
    examples = [{name: predictions[name][key] for name in models} for key in chosen[:SHOWN]]
    groups.append(Group(title=title, count=len(chosen), total=len(shared), examples=examples))
  return groups


def _gained(before: str, after: str) -> tuple[str, Callable[[dict[str, bool]], bool]]:
  return f"Wrong {WHEN[before]}, right {WHEN[after]}", lambda was: was[after] and not was[before]


def is_right(row: Row) -> bool:
  """Whether the grader accepted the prediction."""
  return row.get("correct") is True


def paired(before: Mapping[str, Row], after: Mapping[str, Row]) -> Row:
  """Problems gained and lost between two models, and the two-sided exact McNemar probability of that by chance."""
  shared = sorted(before.keys() & after.keys())
  lost, gained, p = mcnemar([is_right(before[key]) for key in shared], [is_right(after[key]) for key in shared])
  return {"gained": gained, "lost": lost, "n": len(shared), "p": p}


def outcomes(rows: Iterable[Row]) -> Row:
  """How the answers of one model came out; every row counts once."""
  kinds: Counter[str] = Counter()
  for row in rows:
    if is_right(row):
      kinds["right"] += 1
    elif row.get("finish_reason") == "length":
      kinds["cut_off"] += 1
    elif row.get("extracted") is None:
      kinds["no_answer"] += 1
    else:
      kinds["wrong"] += 1
  return {kind: kinds[kind] for kind in ("right", "wrong", "no_answer", "cut_off")}
