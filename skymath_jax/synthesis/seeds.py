"""Which problems a synthesis pass starts from: hard seed problems for stage 2, synthetic problems for pass 2."""

from collections.abc import Iterable, Mapping, Sequence

from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem, stable_id
from skymath_jax.synthesis.methods import METHODS
from skymath_jax.synthesis.methods.base import SYNTHETIC, is_synthetic


def hard_seeds(problems: Sequence[Problem], levels: Iterable[int]) -> list[Problem]:
  """The problems whose level is one of `levels`, in order (Skywork section 3.2: levels 4 and 5 of MATH train).

  Raises:
    UserError: there is none; the message says which levels there are.
  """
  wanted = set(levels)
  chosen = [problem for problem in problems if problem.level in wanted]
  if not chosen:
    known = sorted({problem.level for problem in problems if problem.level is not None})
    raise UserError(
      f"no seed problem has a level of {sorted(wanted)}"
      + (f"; the levels are {known}" if known else f"; none of the {len(problems)} problems has a level"),
      where="synthesis.hard_levels",
      remedy="choose other levels, or set all runs of synthesis.hard to 0"
      if known
      else 'give the seed problems a "level" of 1 to 5, or set all runs of synthesis.hard to 0',
    )
  return chosen


def require_answers(problems: Sequence[Problem], runs: Mapping[str, float], where: object = None) -> None:
  """Refuses seed problems without an answer where a method needs one; synthetic problems may lack theirs.

  Args:
    where: the file the problems are from; the first one's source if None.

  Raises:
    UserError: counts them and shows the first.
  """
  needing = [name for name, average in runs.items() if average > 0 and METHODS[name].needs_answer]
  lacking = [p for p in problems if not (p.answer or "").strip() and not is_synthetic(p)]
  if needing and lacking:
    first = lacking[0]
    raise UserError(
      f"{len(lacking):,} of {len(problems):,} problems have no answer, the first is {first.id} of {first.source} "
      f"({first.question[:60]!r}), and {' and '.join(needing)} cannot do without",
      where=where or first.source,
      remedy=f"add the answers, leave those problems out, or set the runs of {' and '.join(needing)} to 0",
    )


def as_problems(instances: Iterable[Instance]) -> list[Problem]:
  """The distinct new questions of `instances` as problems to synthesize from again, in the order they first appear.

  A problem's id is its instance's, so the chain to the seed stays whole; its source begins with `synthetic:`, so what
  is made from it is marked `pseudo_gold`. The answer is the teacher's. Where a question was answered several times,
  an answer known to be right is preferred, and an answer known to be wrong is left out (the problem has none then:
  a backward question that tells a wrong answer has no solution). Instances of methods that do not feed a next pass
  (`Method.feeds_next_pass`) give no problem.
  """
  left_out = {method.name for method in METHODS.values() if not method.feeds_next_pass}
  best: dict[str, tuple[int, Problem]] = {}
  for instance in instances:
    if instance.method in left_out:
      continue
    question, trust = stable_id(" ".join(instance.query.split())), _trust(instance)
    if question not in best or trust > best[question][0]:
      best[question] = trust, _problem(instance)
  return [problem for _, problem in best.values()]


def _trust(instance: Instance) -> int:
  return {True: 2, None: 1, False: 0}[instance.gold_match]


def _problem(instance: Instance) -> Problem:
  return Problem(
    id=instance.id,
    source=f"{SYNTHETIC}{instance.method}",
    question=instance.query,
    solution=instance.response,
    answer=None if instance.gold_match is False else instance.answer,
    level=instance.level,
  )
