"""Seeds, synthesis and curation: everything before a model is trained."""

import asyncio
import collections
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from skymath_jax import config as config_lib
from skymath_jax import coreset, curation, files, records, sft, synthesis
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.generation import Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.problems import catalog
from skymath_jax.recipe.context import Run
from skymath_jax.records import Facts, Instance, Problem


def seeds(run: Run) -> Facts:
  """Loads the seed problems of all sources into `seeds/problems.jsonl`, and counts those that are test problems."""
  config, folder = run.config.seeds, run.workdir / "seeds"
  problems: dict[str, Problem] = {}
  for source in config.sources:
    found = catalog.load(source, data_dir=config.data_dir)
    problems |= {p.id: p for p in (found[: config.limit] if config.limit else found)}
  if not problems:
    raise UserError("there are no seed problems", where="config.seeds.sources", remedy="name at least one source")
  records.write_lines(folder / "problems.jsonl", problems.values())
  overlap = _overlap(run.config, list(problems.values()))
  summary = {
    "problems": len(problems),
    "sources": _count(p.source for p in problems.values()),
    "levels": _count(str(p.level) for p in problems.values()),
    "subjects": _count(str(p.subject) for p in problems.values()),
    "without_answer": sum(p.answer is None for p in problems.values()),
    "in_test_sets": overlap,
  }
  files.write_json(folder / "summary.json", summary)
  return {"output": files.sha256(folder / "problems.jsonl"), **summary}


def _overlap(config: ConfigDict, problems: list[Problem]) -> dict[str, dict[str, int]] | None:
  """Source → test set → problems in common, said aloud before a request is paid; None without the test sets.

  Curation refuses to work without them; counting the seeds or a rehearsal need not.
  """
  try:
    tests = _test_sets(config)
  except UserError as error:
    log(f"warning: the seeds are not compared with the test sets. {error}")
    return None
  overlap = curation.exact_overlap(problems, tests)
  for source, counts in overlap.items():
    for name, count in counts.items():
      log(f"warning: {count:,} seed problems of {source} are problems of {name}; curation drops what keeps their words")
  return overlap


def _count(values: Iterable[str]) -> dict[str, int]:
  counts: dict[str, int] = {}
  for value in values:
    counts[value] = counts.setdefault(value, 0) + 1
  return dict(sorted(counts.items()))


# A backward question asks for X, and neither the teacher's prompts nor a second mask make sense on it.
NOT_FOR_PASS_2 = ("metamath.answer_augmentation", "metamath.fobar", "metamath.self_verification")


def _seed_problems(run: Run) -> list[Problem]:
  return records.read(Problem, run.workdir / "seeds" / "problems.jsonl")


def _checked_seeds(run: Run) -> tuple[list[Problem], list[Problem]]:
  """(all seed problems, the hard ones): what every pass needs of them is looked at before the first request is paid.

  Raises:
    UserError: an answer that a method needs is missing, or a pass has runs and no problem to run on.
  """
  config, path = run.config.synthesis, run.workdir / "seeds" / "problems.jsonl"
  problems = _seed_problems(run)
  synthesis.require_answers(problems, config.pass1.to_dict(), where=path)
  hard = synthesis.hard_seeds(problems, config.hard_levels) if any(config.hard.to_dict().values()) else []
  synthesis.require_answers(hard, config.hard.to_dict(), where=path)
  return problems, hard


def _pass(
  run: Run, store: synthesis.ResponseStore, problems: list[Problem], name: str, **where: int
) -> synthesis.Result:
  """One synthesis pass; `name` is the config group with the runs per problem."""
  config = run.config.synthesis
  return asyncio.run(_pass_async(run, store, problems, config[name].to_dict(), **where))


async def _pass_async(
  run: Run, store: synthesis.ResponseStore, problems: list[Problem], runs: dict[str, float], *, stage: int, number: int
) -> synthesis.Result:
  config = run.config.synthesis
  teacher = run.teacher()
  try:
    if isinstance(teacher, JetStreamGenerator):
      await teacher.check()
    return await synthesis.synthesize(
      problems,
      runs,
      teacher,
      store,
      stage=stage,
      synthesis_pass=number,
      sampling=_sampling(config),
      rng_seed=run.config.rng_seed,
      settings=_synthesis_settings(config),
      concurrency=run.config.teacher.concurrency,
    )
  finally:
    await teacher.close()


def _synthesis_settings(config: ConfigDict) -> synthesis.Settings:
  return synthesis.Settings(
    evol_steps=config.evol_steps,
    evol_elimination=config.evol_elimination,
    samples=config.samples,
    prompts=config.prompts,
  )


def _sampling(config: ConfigDict) -> Sampling:
  return Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)


async def _judge(
  run: Run, store: synthesis.ResponseStore, instances: Iterable[Instance], count: int, stage: int
) -> tuple[list[Facts], Facts]:
  teacher = run.teacher()
  try:
    return await synthesis.judge(
      instances,
      count,
      run.config.synthesis.judge,
      teacher,
      store,
      stage=stage,
      sampling=_sampling(run.config.synthesis),
      rng_seed=run.config.rng_seed,
      concurrency=run.config.teacher.concurrency,
    )
  finally:
    await teacher.close()


def synthesize_normal(run: Run) -> Facts:
  """Stage 1: seeds → instances → k-center selection of their problems → more instances (Skywork section 3.1)."""
  folder = run.workdir / "synthesis" / "stage1"
  problems, _ = _checked_seeds(run)
  with synthesis.ResponseStore(folder / "responses.sqlite") as store:
    first = _pass(run, store, problems, "pass1", stage=1, number=1)
    synthetic = synthesis.as_problems(first.outcomes.instances(), leave_out=NOT_FOR_PASS_2)
    chosen = coreset.select(
      [p.question for p in synthetic],
      run.config.synthesis.coreset_size,
      centres=[p.question for p in problems],
      embedding=run.config.synthesis.embedding,
      model=run.config.model.path,
    )
    selected = [synthetic[i] for i in chosen]
    records.write_lines(folder / "coreset.jsonl", selected)
    second = _pass(run, store, selected, "pass2", stage=1, number=2)
    return _finish_synthesis(run, folder, store, [first, second], coreset=len(selected))


def synthesize_hard(run: Run) -> Facts:
  """Stage 2: the same methods on the hard seeds only (Skywork section 3.2)."""
  folder = run.workdir / "synthesis" / "stage2"
  _, hard = _checked_seeds(run)
  with synthesis.ResponseStore(folder / "responses.sqlite") as store:
    result = _pass(run, store, hard, "hard", stage=2, number=1)
    return _finish_synthesis(run, folder, store, [result], seeds=len(hard))


def _finish_synthesis(
  run: Run, folder: epath.Path, store: synthesis.ResponseStore, results: Sequence[synthesis.Result], **extra: int
) -> Facts:
  by_method = sum((collections.Counter(result.outcomes.by_method) for result in results), collections.Counter())
  instances, judging = _instances(results), {}
  if run.config.synthesis.judge:
    labels, judging = asyncio.run(_judge(run, store, instances, by_method.total(), int(folder.name[-1])))
    pairs = zip(_instances(results), labels, strict=True)
    instances = (dataclasses.replace(i, quality=i.quality | said) for i, said in pairs)
  records.write_lines(folder / "instances.jsonl", instances)
  rejected = itertools.chain.from_iterable(result.outcomes.rejected() for result in results)
  records.write_lines(folder / "rejected.jsonl", map(dataclasses.asdict, rejected))
  failed = sum(result.requests["failed"] for result in results)
  if failed:
    log(f"warning: {failed} requests failed for good and are missing from {folder}; a new workdir would ask them again")
  summary = {
    **extra,
    "teacher": next((i.teacher for i in _instances(results)), ""),
    "instances": by_method.total(),
    "by_method": dict(sorted(by_method.items())),
    **({"judging": judging} if judging else {}),
    "passes": [result.summary() for result in results],
    "stored": len(store),
    "server_requests": run.requests_served(),
  }
  files.write_json(folder / "summary.json", summary)
  return {"output": files.sha256(folder / "instances.jsonl"), "instances": by_method.total()}


def _instances(results: Sequence[synthesis.Result]) -> Iterator[Instance]:
  return itertools.chain.from_iterable(result.outcomes.instances() for result in results)


def _test_sets(config: ConfigDict) -> dict[str, list[Problem]]:
  return {name: catalog.load(name, data_dir=config.seeds.data_dir) for name in config.curation.test_sets}


def _curate(config: ConfigDict, paths: Any, folder: epath.Path, output: curation.Output) -> Facts:
  c = config.curation
  settings = curation.Settings(
    ngram=c.ngram,
    fuzzy=c.fuzzy,
    near_duplicate=c.near_duplicate,
    quality=c.quality,
    hard=c.hard,
    responses_per_query=c.responses_per_query,
  )
  return curation.curate_files(
    paths, folder, test_sets=_test_sets(config), settings=settings, output=output, workers=c.workers
  )


def curate(number: int) -> Callable[[Run], Facts]:
  """Stage `number`'s instances → the SFT data set `sft/stageN`, with what was dropped and why."""

  def stage(run: Run) -> Facts:
    made, folder = run.workdir / "synthesis" / f"stage{number}", run.workdir / "sft" / f"stage{number}"
    output = curation.Output(
      name=f"{run.config.name} stage {number}",
      facts=_provenance(run, files.read_json(made / "summary.json")),
      write_shard=sft.write_shard,
      finish=sft.finish,
      parquet=run.config.curation.parquet,
      yardstick=_seed_problems(run),
    )
    summary = _curate(run.config, os.fspath(made / "instances.jsonl"), folder, output)
    if not summary["kept"]:
      raise UserError("curation kept no instance", where=folder, remedy="see dropped.jsonl for the reasons")
    return {"output": sft.open(folder).fingerprint, "kept": summary["kept"]}

  return stage


def _provenance(run: Run, synthesis_summary: Facts) -> Facts:
  """What the card says of the origin: teacher, sampling, seeds with their licences and citations."""
  config = run.config
  problems = _seed_problems(run)
  licences = {p.source: p.license for p in problems}
  seeds = [
    f"{source}: {count:,} problems, licence {licences[source] or 'not stated'}{catalog.citation(source)}"
    for source, count in _count(p.source for p in problems).items()
  ]
  s = config.synthesis
  return {
    "teacher": synthesis_summary["teacher"],
    "sampling": f"temperature {s.temperature}, top_p {s.top_p}, at most {s.max_tokens} tokens",
    "seed problems": seeds,
    "config": config_lib.config_hash(config),
  }


def curate_files(run: Run) -> Facts:
  """`curate` on its own: the files of `curation.inputs` → `curation/kept.jsonl`, `dropped.jsonl`, `summary.json`."""
  config = run.config
  output = curation.Output(
    name=config.name, facts={"files": list(config.curation.inputs)}, parquet=config.curation.parquet
  )
  facts = _curate(config, config.curation.inputs, run.workdir / "curation", output)
  run.mirror.push("curation")
  return facts


def synthesis_plan(run: Run) -> Facts:
  """Pass → method → runs and (at most) requests, with a guess at tokens and money; the teacher is asked nothing."""
  config, teacher = run.config.synthesis, run.config.teacher
  problems, hard = _checked_seeds(run)
  settings, lengths = _synthesis_settings(config), synthesis.Lengths.of(problems)
  parts = {
    "pass1": problems,
    "pass2": config.coreset_size,
    "hard": hard,
  }
  passes = {
    name: synthesis.plan(what, config[name].to_dict(), settings=settings, rng_seed=run.config.rng_seed, lengths=lengths)
    for name, what in parts.items()
  }
  made = sum(
    row["runs"] * settings.samples * (settings.evol_steps if method == "evol" else 1)
    for rows in passes.values()
    for method, row in rows.items()
  )
  if config.judge:
    passes["judge"] = synthesis.judging(made, config.judge, lengths)
  prices = {"price_in": teacher.price_in, "price_out": teacher.price_out}
  return {
    **passes,
    "total": {
      **synthesis.total(passes, max_tokens=config.max_tokens, **prices),
      "instances_at_most": made,
      "stored_already": sum(_stored(run.workdir / "synthesis" / f"stage{n}" / "responses.sqlite") for n in (1, 2)),
    },
  }


def _stored(path: epath.Path) -> int:
  if not path.exists():
    return 0
  with synthesis.ResponseStore(path) as store:
    return len(store)
