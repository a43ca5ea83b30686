"""A benchmark: problems with golds, the prompt they are asked with, and how their answers are graded."""

import dataclasses
from collections.abc import Callable, Sequence

from etils import epath

from skymath_jax import records
from skymath_jax.errors import UserError
from skymath_jax.grading import gold_answer
from skymath_jax.records import Problem

Loader = Callable[[str], Sequence[Problem]]  # catalog name → problems; the caller brings it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a benchmark is asked and graded unless the caller says otherwise."""

  template: str = "sft/alpaca"
  mode: str = "strict"
  max_tokens: int = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Problems, every one with an answer, and the settings they are asked with."""

  name: str
  problems: tuple[Problem, ...]
  settings: Settings


DEFAULTS = Settings()
TABLE = {  # the part of the name before any colon
  "micro_gsm": Settings(max_tokens=160),
  "gsm8k": Settings(),
  "math": Settings(),
  "math500": Settings(),
}


def load(name: str, load_problems: Loader) -> Benchmark:
  """The benchmark `name`: a JSONL file (ends in `.jsonl`), else what `load_problems` finds under that name.

  Raises:
    UserError: no problems, or one of them has no answer (it is named).
  """
  problems = read(name) if name.endswith(".jsonl") else list(load_problems(name))
  settings = TABLE[family] if (family := name.partition(":")[0]) in TABLE else DEFAULTS
  return Benchmark(name=name, problems=tuple(checked(problems, name)), settings=settings)


def checked(problems: Sequence[Problem], name: object) -> Sequence[Problem]:
  """`problems`; `UserError` if there are none, two share an id, or one has no answer to grade against."""
  if not problems:
    raise UserError("no problems to evaluate", where=name, remedy="check the file, the split and the limit")
  seen: set[str] = set()
  for problem in problems:
    if not (problem.answer or "").strip():
      raise UserError(
        f"problem {problem.id} has no answer to grade against ({problem.question[:60]!r})",
        where=name,
        remedy='give every row an "answer", or a "solution" that holds one in \\boxed{} or after ####',
      )
    if problem.id in seen:
      raise UserError(f"two problems share the id {problem.id}", where=name, remedy="remove the copy")
    seen.add(problem.id)
  return problems


def read(path: epath.PathLike) -> list[Problem]:
  """Problems of a JSONL file: Problem records, or {`question`|`problem`, `answer`|`solution`} rows; copies go."""
  fields = {field.name for field in dataclasses.fields(Problem)}
  problems: dict[str, Problem] = {}
  for number, row in records.read_lines(path):
    where = f"{path}:{number}"
    question = row["question"] if "question" in row else row["problem"] if "problem" in row else None
    if not isinstance(question, str) or not question.strip():
      raise UserError("no question in this row", where=where, remedy='give it under "question" or "problem"')
    reference = row["answer"] if "answer" in row else row["solution"] if "solution" in row else None
    if not isinstance(reference, str | int | float):
      raise UserError("no answer in this row", where=where, remedy='give it under "answer" or "solution"')
    extra = {key: row[key] for key in fields & row.keys() - {"id", "question", "answer", "source", "level"}}
    source = str(row["source"]) if "source" in row else epath.Path(path).stem
    answer = gold_answer(str(reference))
    problem = Problem.create(source, question, answer=answer, level=_level(row), **extra)
    if "id" in row:
      problem = dataclasses.replace(problem, id=str(row["id"]))
    problems.setdefault(problem.id, problem)
  return list(problems.values())


def _level(row: dict) -> int | None:
  """`3` or `"Level 3"` as 3; anything else as None."""
  text = str(row["level"]).removeprefix("Level ") if "level" in row else ""
  return int(text) if text.isdecimal() else None
