"""What a pass will cost: its requests, tokens and money, without asking the teacher anything.

Tokens are guessed from characters, so a cost is good to about a third; the most it can be (every response as long as
allowed) is given beside it.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from skymath_jax import prompts
from skymath_jax.records import Problem
from skymath_jax.synthesis.methods import METHODS, Settings, prompt_of, style
from skymath_jax.synthesis.run import JUDGING, check_runs, jobs

CHARACTERS_PER_TOKEN = 3.2  # of mathematical English with LaTeX, by the tokenizers in use
SOLUTION_TOKENS = 250  # of a worked solution, where no seed problem has one
STATEMENT_TOKENS = 30  # of a question turned into a statement
THOUGHT_TOKENS = 150  # of a judgement that thinks aloud first
MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Mean tokens of the problems' questions and solutions, and the style in which most are written."""

  question: float
  solution: float
  style: str

  @classmethod
  def of(cls, problems: Sequence[Problem]) -> "Lengths":
    """Guessed from the characters of `problems`, of which there is at least one."""
    solutions = [len(problem.solution) for problem in problems if problem.solution]
    return cls(
      sum(len(problem.question) for problem in problems) / len(problems) / CHARACTERS_PER_TOKEN,
      sum(solutions) / len(solutions) / CHARACTERS_PER_TOKEN if solutions else SOLUTION_TOKENS,
      collections.Counter(map(style, problems)).most_common(1)[0][0],
    )

  def prompt(self, name: str, settings: Settings) -> float:
    """Tokens of the filled-in prompt."""
    fixed = sum(map(len, prompts.load(prompt_of(name, settings, self.style)).literals)) / CHARACTERS_PER_TOKEN
    return fixed + self.question + (self.solution if name == "judge/verify" else 0)

  def reply(self, name: str) -> float:
    """Tokens of what the teacher will write."""
    known = {
      "metamath/rephrase": self.question, "metamath/declare": STATEMENT_TOKENS,
      "xwin/create": 2 * self.question + self.solution, "judge/difficulty": THOUGHT_TOKENS,
    }  # fmt: skip
    if name.startswith("evol/"):
      return 1.2 * self.question
    return known.get(name, self.solution)


def plan(
  problems: Sequence[Problem] | int,
  runs: Mapping[str, float],
  *,
  settings: Settings,
  rng_seed: int = 0,
  lengths: Lengths | None = None,
) -> dict[str, dict[str, int]]:
  """{method: {`runs`, `requests`, `prompt_tokens`, `completion_tokens`}} of a pass, without asking anything.

  The numbers are those of a pass in which nothing is rejected and no rounds end early, so `requests` is an upper bound.

  Args:
    problems: or how many (those of a later pass are not known yet): then `runs` are expected ones.
    lengths: of the problems; needed where only their number is given, and judged by them otherwise.

  Raises:
    UserError: a key of `runs` is no method, a number of runs is negative, or a method cannot be asked so.
  """
  check_runs(runs, settings)
  if isinstance(problems, int):
    counts = {name: round(problems * average) for name, average in runs.items()}
  else:
    lengths = lengths or (Lengths.of(problems) if problems else None)
    found = jobs(problems, runs, rng_seed=rng_seed, stage=1, synthesis_pass=1)
    counts = {name: 0 for name in runs} | collections.Counter(job.method for job in found)
  lengths = lengths or Lengths(SOLUTION_TOKENS / 3, SOLUTION_TOKENS, "math")
  return {name: _row(name, count, settings, lengths) for name, count in counts.items()}


def _row(method: str, runs: int, settings: Settings, lengths: Lengths) -> dict[str, int]:
  *making, solving = METHODS[method].asks
  times = runs * (settings.evol_steps if METHODS[method].chained else 1)
  asked = {**dict.fromkeys(making, 1), solving: settings.samples}
  return {
    "runs": runs,
    "requests": times * sum(asked.values()),
    "prompt_tokens": round(times * sum(n * lengths.prompt(name, settings) for name, n in asked.items())),
    "completion_tokens": round(times * sum(n * lengths.reply(name) for name, n in asked.items())),
  }


def plan_judging(instances: int, names: Sequence[str], lengths: Lengths) -> dict[str, dict[str, int]]:
  """The same for judging so many instances: one request for each label (a key of JUDGES)."""
  found = {}
  for name in names:
    prompt = "judge/verify" if name == "verdict" else f"judge/{name}"
    tokens = {"prompt_tokens": lengths.prompt(prompt, JUDGING), "completion_tokens": lengths.reply(prompt)}
    found[name] = {"runs": instances, "requests": instances}
    found[name] |= {key: round(instances * value) for key, value in tokens.items()}
  return found


def total_cost(
  passes: Mapping[str, Mapping[str, Mapping[str, int]]], *, max_tokens: int, prices: tuple[float, float]
) -> dict[str, float | None]:
  """All passes together, with the money at prices for a million tokens: as guessed, and at most; None without prices.

  Args:
    max_tokens: most tokens of one response.
    prices: of prompt tokens, and of response tokens.
  """
  rows = [row for methods in passes.values() for row in methods.values()]
  requests, prompt, completion = (
    sum(row[key] for row in rows) for key in ("requests", "prompt_tokens", "completion_tokens")
  )

  def cost(written: int) -> float:
    return (prompt * prices[0] + written * prices[1]) / MILLION

  return {
    "requests": requests,
    "prompt_tokens": prompt,
    "completion_tokens": completion,
    "completion_tokens_at_most": requests * max_tokens,
    "cost": round(cost(completion), 2) if any(prices) else None,
    "cost_at_most": round(cost(requests * max_tokens), 2) if any(prices) else None,
  }
