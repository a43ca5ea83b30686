"""A benchmark by name: problems with answers from the catalog or a file, perhaps with distractors woven in.

  load("gsm8k:test", datasets.load)                 a catalog name
  load("math500", datasets.load)                    the 500 problems of MATH's test split that PRM800K held out
  load("translated_gsm8k.jsonl", datasets.load)     any file of the user's, in any language
  load("gsm8k:test@distractors3", datasets.load)    three irrelevant sentences in each problem (Skywork section 4.3.5)

With the ids of the original in a translated file, `compare` pairs the two evaluations problem by problem.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from skymath_jax.errors import UserError
from skymath_jax.evaluation import distractors
from skymath_jax.records import Problem

Loader = Callable[[str], Sequence[Problem]]  # catalog name or path → problems; the caller brings it
MATH500, MATH_TEST = "math500", "math:test"
_OPTION = re.compile(r"distractors([1-5])")


def load(name: str, load_problems: Loader, *, rng_seed: int = 0) -> list[Problem]:
  """The problems of the benchmark `name`, each with an answer.

  Args:
    name: a catalog name, `math500` or a path that ends in `.jsonl`; then, if wanted, `@distractors1` to `5`.
    load_problems: finds the problems of a catalog name or a path.
    rng_seed: of the distractors.

  Raises:
    UserError: no problems, one without an answer, two with one id, or an option that does not exist.
  """
  plain, at, option = name.partition("@")
  found = math500(load_problems(MATH_TEST)) if plain == MATH500 else list(load_problems(plain))
  if at:
    matched = _OPTION.fullmatch(option)
    if matched is None:
      raise UserError(f"no option {option!r}", where=name, remedy="write @distractors1 to @distractors5")
    found = [distractors.weave(problem, int(matched[1]), rng_seed) for problem in found]
  return list(checked(found, name))


def folder_name(name: str) -> str:
  """The benchmark's name as that of a folder."""
  return re.sub(r"[^\w.+-]", "_", name.removesuffix(".jsonl").rpartition("/")[2])


def math500(problems: Sequence[Problem]) -> list[Problem]:
  """Those of MATH's 5,000 test problems whose ids `math500.txt` lists, by the first eight digits.

  Raises:
    UserError: some of them are not among `problems`.
  """
  wanted = math500_ids()
  found = [problem for problem in problems if problem.id[:8] in wanted]
  if len(found) != len(wanted):
    raise UserError(
      f"{len(found)} of the {len(wanted)} problems were found", where=MATH_TEST, remedy="give the whole MATH test split"
    )
  return found


@functools.cache
def math500_ids() -> frozenset[str]:
  """Computed from `prm800k/math_splits/test.jsonl` of openai/prm800k (SHA-256 35dc4108…6132), by equal question."""
  return frozenset((Path(__file__).parent / "math500.txt").read_text().split())


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
