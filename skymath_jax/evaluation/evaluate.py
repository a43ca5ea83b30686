"""One evaluation: every problem asked once or several times, every response graded, all of it on disk as it comes.

`predictions.jsonl` grows by one line a response, so a killed run loses at most the line it was writing; the next run
asks only for what is missing. A stored response counts only while model, prompt and sampling are the ones it was made
with; those of others move to `earlier.jsonl`, and back when their settings do. Grading is always done anew, so a change
of grader needs no model. At the end the file is in problem order, whatever order the responses came in.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from skymath_jax import files, records
from skymath_jax.console import bar, log
from skymath_jax.errors import UserError
from skymath_jax.evaluation.benchmarks import checked
from skymath_jax.evaluation.summary import summarize
from skymath_jax.evaluation.template import Template
from skymath_jax.evaluation.template import template as named_template
from skymath_jax.generation.types import Generator, Request, Response, Sampling
from skymath_jax.generation.visible import visible
from skymath_jax.grading import equivalent, extract, grade_response
from skymath_jax.records import ANSWER_MARKER, Problem, stable_id

Row = dict[str, Any]
PREDICTIONS = "predictions.jsonl"
EARLIER = "earlier.jsonl"  # responses of other models and settings: they may have been paid for, and be wanted again


def evaluate(generator: Generator, problems: Sequence[Problem], folder: epath.PathLike, **options: Any) -> Row:
  """`evaluate_async` for callers that run no event loop; same arguments, same result."""
  return asyncio.run(evaluate_async(generator, problems, folder, **options))


async def evaluate_async(
  generator: Generator,
  problems: Sequence[Problem],
  folder: epath.PathLike,
  *,
  template: str | Template,
  mode: str,
  sampling: Sampling,
  samples: int,
  name: str = "benchmark",
  provenance: Mapping[str, Any] | None = None,
) -> Row:
  """Asks `generator` for what `folder` does not hold yet, grades everything and writes the summary.

  Args:
    generator: where responses come from; it stays open.
    problems: each with an `answer`; ids must differ.
    folder: gets `predictions.jsonl` and `summary.json`.
    template: how a question is put (`evaluation.template`); of a model that we trained, the frame of its training.
    mode: `strict` or `symbolic`; strict reads the answer after the paper's marker only.
    sampling: greedy, or with a seed from which each request gets its own.
    samples: responses to each problem; more than one needs a temperature.
    name: of the benchmark, for people.
    provenance: stored in the summary; its `template_hash`, where present, is the training prompt's and is compared.

  Returns:
    The summary: `accuracy` {`all`, `n`, `ci95`, `by_level`, …}, counts, speed, prompt; `pass_at_k`, `maj_at_k`.

  Raises:
    UserError: several samples without a temperature, bad problems, or a folder that is in use or damaged.
  """
  _require_variety(sampling, samples)
  how = named_template(template) if isinstance(template, str) else template
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  asked = {_label(p, i): (p, i) for p in checked(problems, name) for i in range(samples)}
  requests = {label: _request(label, p, i, how, sampling) for label, (p, i) in asked.items()}
  keys = {id: _key(generator.model_id, request, how) for id, request in requests.items()}
  lock = contextlib.nullcontext() if "://" in str(folder) else files.lock(folder / ".lock", "this evaluation folder")
  with lock:
    stored = _resume(folder / PREDICTIONS, keys)
    previous = _previous(folder / "summary.json", keys) if len(stored) == len(requests) else None
    start = time.perf_counter()
    missing = [request for label, request in requests.items() if label not in stored]
    fresh = await _ask(generator, missing, asked, keys, folder / PREDICTIONS, name)
    seconds = time.perf_counter() - start
    rows = [_graded(problem, {**stored, **fresh}[label], mode) for label, (problem, _) in asked.items()]
    records.write_lines(folder / PREDICTIONS, rows)
    summary = {
      **_counts(rows, name, generator.model_id, mode),
      **_settings(how, sampling, provenance or {}),
      **_speed(fresh.values(), seconds, previous),
      "responses": {"asked": len(fresh), "kept": len(stored)},
      "requests_hash": _requests_hash(keys),
      "warnings": [*_other_prompt(how, provenance or {}), *_unread(rows, mode)],
    }
    files.write_json(folder / "summary.json", summary)
  for warning in summary["warnings"]:
    log(f"warning: {name}: {warning}")
  return summary


def _counts(rows: Sequence[Row], name: str, model_id: str, mode: str) -> Row:
  equal = functools.partial(equivalent, mode=mode)
  return {"name": name, "model": model_id, **summarize(rows, equal), "mode": mode}


def _require_variety(sampling: Sampling, samples: int) -> None:
  if samples > 1 and sampling.temperature == 0:
    raise UserError(
      f"{samples} greedy samples of a problem are all the same",
      where="config.evaluation.temperature",
      remedy="give a temperature, such as 0.7, or one sample",
    )


def _settings(how: Template, sampling: Sampling, provenance: Mapping[str, Any]) -> Row:
  """How the problems were asked, and where that comes from."""
  return {
    "prompt": how.facts(),
    "sampling": {**dataclasses.asdict(sampling), "stop": list(sampling.stop)},
    "provenance": dict(provenance),
  }


def _label(problem: Problem, sample: int) -> str:
  """The id of one request; that of the first sample is the problem's own."""
  return f"{problem.id}#{sample}" if sample else problem.id


def _request(label: str, problem: Problem, sample: int, how: Template, sampling: Sampling) -> Request:
  """Sampled (not greedy) requests get a seed each, from the run's seed and the problem, so order does not matter."""
  if sampling.temperature > 0:
    parts = (sampling.seed, problem.id, *([sample] if sample else []))
    sampling = dataclasses.replace(sampling, seed=int(stable_id(*parts)[:7], 16))
  return Request(id=label, prompt=how.render(problem.question), sampling=sampling)


def _key(model_id: str, request: Request, how: Template) -> str:
  """Identifies what was asked of whom; a stored response with another key is not an answer to this request."""
  sampling = json.dumps(dataclasses.asdict(request.sampling), sort_keys=True)
  return stable_id(model_id, request.prompt, sampling, *([how.chat] if how.chat else []))


def _requests_hash(keys: Mapping[str, str]) -> str:
  return stable_id(*(f"{id} {key}" for id, key in sorted(keys.items())))


def _resume(path: epath.Path, keys: Mapping[str, str]) -> dict[str, Row]:
  """Stored rows that answer one of the requests; the file is rewritten when it held anything else."""
  aside = path.with_name(EARLIER)
  lines = list(_whole_lines(path))
  stored = [row for row in lines if row is not None]
  earlier = {(_label_of(row), row["request"]): row for row in _whole_lines(aside) if row is not None}
  known = earlier | {(_label_of(row), row["request"]): row for row in stored}
  kept = {label: known[label, key] for label, key in keys.items() if (label, key) in known}
  stale = [row for row in stored if keys.get(_label_of(row)) != row["request"]]
  if stale:
    log(f"{path}: {len(stale):,} stored responses of another model, prompt or setting are moved to {aside.name}")
    records.write_lines(aside, (earlier | {(_label_of(row), row["request"]): row for row in stale}).values())
  if len(kept) != len(lines):
    records.write_lines(path, kept.values())
  if kept:
    log(f"{path}: {len(kept):,} of {len(keys):,} responses are here already")
  return kept


def _label_of(row: Row) -> str:
  """The id of the request that a stored row answers; rows of one sample a problem may lack its number."""
  sample = row.get("sample", 0)
  return f"{row['id']}#{sample}" if sample else row["id"]


def _whole_lines(path: epath.Path) -> Iterator[Row | None]:
  """The rows of the file; None for a last line that a kill cut short. `UserError` for any other bad line."""
  if not path.exists():
    return
  lines = path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      if not isinstance(row, dict) or not {"id", "request", "response", "finish_reason"} <= row.keys():
        raise ValueError("keys are missing")
    except ValueError as error:
      if number == len(lines):  # no newline after it: torn
        yield None
        return
      raise UserError(
        f"this line is not a prediction ({error})", where=f"{path}:{number}", remedy="remove the line or the file"
      ) from None
    if number == len(lines):
      yield None  # whole, but its newline is missing: have the file rewritten
    yield row


async def _ask(
  generator: Generator,
  requests: Sequence[Request],
  asked: Mapping[str, tuple[Problem, int]],
  keys: Mapping[str, str],
  path: epath.Path,
  name: str,
) -> dict[str, Row]:
  """Responses to `requests` by request id, each appended to the file as it arrives."""
  rows: dict[str, Row] = {}
  if not requests:
    return rows
  start, tokens = time.perf_counter(), 0
  with _appender(path) as append, bar(f"evaluate {name}", len(asked), done=len(asked) - len(requests)) as progress:
    async for response in generator.generate(requests):
      row = _row(*asked[response.id], response, keys[response.id])
      rows[response.id] = row
      append(row)
      tokens += response.completion_tokens
      progress.advance(note=f"{tokens / (time.perf_counter() - start):,.0f} tokens/s")
  if lost := [request.id for request in requests if request.id not in rows]:
    raise UserError(
      f"{len(lost):,} of {len(requests):,} requests got no response (first: {lost[0]})",
      where=generator.model_id,
      remedy="run it again; only these are asked",
    )
  return rows


@contextlib.contextmanager
def _appender(path: epath.Path) -> Iterator[Any]:
  """A function that adds one row to the file and flushes it; on object stores rows are kept till the block ends."""
  if "://" in str(path):  # no append there: what is missing after a kill is asked again
    before = [row for row in _whole_lines(path) if row is not None]
    pending: list[Row] = []
    try:
      yield pending.append
    finally:
      records.write_lines(path, before + pending)
    return
  with path.open("ab") as f:

    def append(row: Row) -> None:
      f.write((json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
      f.flush()

    yield append


def _row(problem: Problem, sample: int, response: Response, key: str) -> Row:
  """What is stored of a response before it is graded; a thought stands apart, and one that was cut is no answer."""
  shown = visible(response.text)
  thought = "\n\n".join(filter(None, (response.thought, shown.thought)))
  cut = response.finish_reason == "length" and bool(thought) and not shown.text.strip()
  return {
    "id": problem.id,
    "sample": sample,
    "query": problem.question,
    "gold": problem.answer,
    "response": shown.text,
    **({"thought": thought, "thought_cut": cut or not shown.whole} if thought else {}),
    "finish_reason": response.finish_reason,
    "prompt_tokens": response.prompt_tokens,
    "tokens": response.completion_tokens,
    "request": key,
  }


def _graded(problem: Problem, row: Row, mode: str) -> Row:
  extracted, correct = grade_response(problem.answer, row["response"], mode)
  facts = {"gold": problem.answer, "level": problem.level, "subject": problem.subject}
  facts["characters"] = len(problem.question)
  return {**row, **facts, "extracted": extracted, "correct": correct}


def _previous(path: epath.Path, keys: Mapping[str, str]) -> Row | None:
  """The summary of the run that made the stored responses, if it is the one of these requests."""
  with contextlib.suppress(UserError, KeyError, TypeError):
    summary = files.read_json(path)
    return summary if summary["requests_hash"] == _requests_hash(keys) else None
  return None


def _speed(rows: Any, seconds: float, previous: Row | None) -> Row:
  """Seconds and completion tokens a second of the generation; the earlier run's where nothing was asked now."""
  if previous is not None:
    return {key: previous[key] for key in ("seconds", "tokens_per_second")}
  tokens = sum(row["tokens"] for row in rows)
  return {"seconds": round(seconds, 3), "tokens_per_second": round(tokens / seconds, 1) if tokens else 0.0}


def _other_prompt(how: Template, provenance: Mapping[str, Any]) -> list[str]:
  trained_with = provenance.get("template_hash")
  if trained_with in (None, how.chat or how.frame.hash):
    return []
  asked_with = f"the prompt {how.name} ({how.frame.hash})"
  return [f"{asked_with} is not the one of training ({trained_with}); accuracy will be lower than it need be"]


def _unread(rows: Sequence[Row], mode: str) -> list[str]:
  """Whether the strict grader passes over answers that are there, in the form that the model was taught."""
  if mode != "strict":
    return []
  missing = [row for row in rows if row["extracted"] is None]
  others = sum(extract(row["response"], last_number=False) is not None for row in missing)
  if 2 * others <= len(rows):
    return []
  return [
    f"{others:,} of {len(rows):,} responses give their answer otherwise (in a box, after ####) than behind "
    f'"{ANSWER_MARKER.strip()}", which is all that the strict grader reads; config.evaluation.mode=symbolic reads them'
  ]
