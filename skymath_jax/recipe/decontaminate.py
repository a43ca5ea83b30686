"""Any data set beside any test sets: hits as JSON lines and on a page, a teacher's word on the nearest of the rest."""

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence

from etils import epath

from skymath_jax import files, records, synthesis
from skymath_jax.config import Experiment
from skymath_jax.console import log
from skymath_jax.curation import Finding, Pair, Screen
from skymath_jax.errors import UserError
from skymath_jax.generation import Sampling
from skymath_jax.problems import catalog, suites
from skymath_jax.recipe import seeds
from skymath_jax.recipe.teacher import Teacher
from skymath_jax.records import Facts, Instance, stable_id
from skymath_jax.report import contamination
from skymath_jax.sft import pairs

HITS, PAGE, SUMMARY = "hits.jsonl", "contamination.html", "summary.json"
NEAREST = 50  # rows that are no leak, shown all the same
JUDGE_TOKENS = 2048


def decontaminate(config: Experiment, data: str, against: Sequence[str], out: epath.Path, *, judge: int = 0) -> Facts:
  """Compares the rows of `data` with the test sets; writes `hits.jsonl`, `contamination.html`, `summary.json`.

  Args:
    config: `curation.ngram` and `curation.fuzzy` say what is a leak; `teacher` who judges.
    data: a file, folder, hub id or catalog name.
    against: catalog names, suites or files.
    out: folder to write into.
    judge: so many of the nearest rows that no rule calls a leak are put to the teacher.

  Raises:
    UserError: data or a test set cannot be read, or the teacher does not answer.
  """
  if held := [name for name in (HITS, SUMMARY) if (out / name).exists() and not (out / PAGE).exists()]:
    what = f"{held[0]} in it is not of skymath decontaminate"
    raise UserError(what, where=out, remedy="name a folder of its own: --out=FOLDER")
  tests = {name: seeds.test_set(config, name) for name in suites.expanded(against)}
  settings = config.curation
  screen = Screen(tests, ngram=settings.ngram, fuzzy=settings.fuzzy, keep=max(NEAREST, judge))
  shown: list[Finding] = []

  def found() -> Iterator[Facts]:
    for finding in screen.hits(_rows(config, data)):
      if len(shown) < contamination.SHOWN:
        shown.append(finding)
      yield finding.to_json()

  records.write_lines(out / HITS, found())
  nearest = screen.nearest
  if judge:
    nearest = [*_judged(config, nearest[:judge], out), *nearest[judge:]]
    same = [finding for finding in nearest if finding.same]
    screen.kinds["judged"] = len(same)
    lines = (row for _, row in records.read_lines(out / HITS))
    records.write_lines(out / HITS, [*lines, *(finding.to_json() for finding in same)])
    shown = [*same, *shown]
  summary = {
    "data": data,
    "rows": screen.rows,
    "leaks": sum(screen.kinds.values()),
    "by_kind": dict(screen.kinds),
    "test_sets": {name: {"problems": len(tests[name]), "hit": len(ids)} for name, ids in screen.hit_problems.items()},
    "ngram": settings.ngram,
    "fuzzy": settings.fuzzy,
    "judged": judge and len(nearest[:judge]),
    "judge": config.teacher.model if judge else "",
  }
  files.write_json(out / SUMMARY, summary)
  page = contamination.render(summary, shown, [finding for finding in nearest if not finding.same])
  files.write_text(out / PAGE, page)
  log(f"side by side: {out / PAGE}")
  return summary


def _rows(config: Experiment, data: str) -> Iterator[Pair]:
  """The rows of the data: pairs, conversations, or problems without a response."""
  if data.partition(":")[0] in catalog.names():
    for problem in catalog.load(data, data_dir=config.seeds.data_dir):
      yield Pair(f"{data} {problem.id}", problem.question, problem.solution or "")
    return
  for number, row in enumerate(pairs.open(data), start=1):
    turns = row.get("messages")
    if turns is None:
      yield Pair(f"{data}:{number}", row["query"], row["response"])
      continue
    said = {who: "\n\n".join(turn["content"] for turn in turns if turn["role"] == who) for who in ("user", "assistant")}
    yield Pair(f"{data}:{number}", said["user"], said["assistant"])


def _judged(config: Experiment, nearest: Sequence[Finding], out: epath.Path) -> list[Finding]:
  """The findings with the teacher's word; what it has answered before is not asked again."""
  folder = out / "synthesis" / "judge"
  folder.mkdir(parents=True, exist_ok=True)
  instances = [_as_instance(finding) for finding in nearest]

  async def ask(teacher: Teacher, store: synthesis.ResponseStore) -> list[Facts]:
    client = teacher.client()
    try:
      said, _ = await synthesis.judge(
        instances,
        len(instances),
        ("same_problem",),
        client,
        store,
        stage=0,
        sampling=Sampling(max_tokens=JUDGE_TOKENS),
        rng_seed=config.rng_seed,
        concurrency=config.teacher.concurrency,
      )
      return said
    finally:
      await client.close()

  with (
    Teacher(config.teacher, config.serving, config.model.dtype, out) as teacher,
    synthesis.ResponseStore(folder / "responses.sqlite") as store,
  ):
    said = asyncio.run(ask(teacher, store))
  return [dataclasses.replace(f, same=label.get("same")) for f, label in zip(nearest, said, strict=True)]


def _as_instance(finding: Finding) -> Instance:
  query, question = finding.row.query, finding.nearest.text
  return Instance(
    id=stable_id(query, question), query=query, response=question, answer="", method="", parents=(), stage=0
  )
