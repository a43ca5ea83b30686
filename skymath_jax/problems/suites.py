"""Suites of benchmarks by name: which test sets belong together, and what their figures compare with.

  benchmarks=paper                GSM8K and MATH
  benchmarks=outside,math:test    a suite and a benchmark
  benchmarks=mine.jsonl           a file is no suite

A suite changes no setting: samples, temperature and token limit are the config's. It says with which ones the published
figures were made, and a leaderboard marks what was evaluated otherwise.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from skymath_jax.problems import published

BOXED, BOXED_ZH = "ask/boxed", "ask/boxed_zh"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
  """Benchmarks with one convention.

  Attributes:
    benchmarks: names that `evaluation.load_benchmark` knows.
    samples: responses to each problem.
    temperature: 0 = greedy.
    max_tokens: least token limit of a response with which figures compare.
    mode: of the grader.
    compares: which published figures they compare with.
  """

  benchmarks: tuple[str, ...]
  samples: int
  temperature: float
  max_tokens: int
  mode: str
  compares: str


SUITES: Mapping[str, Suite] = {
  "paper": Suite(
    benchmarks=("gsm8k:test", "math:test"),
    samples=1,
    temperature=0.0,
    max_tokens=2048,
    mode="strict",
    compares="zero-shot chain of thought, greedy, strict grader: Skywork-Math, MetaMath, MAmmoTH, DART-Math",
  ),
  "outside": Suite(
    benchmarks=(
      "svamp", "asdiv", "mawps", "gsm_plus", "gsm_hard", "gsm_symbolic", "gsm8k_platinum", "tabmwp", "cmath",
      *(f"mgsm:{language}" for language in published.SETS["mgsm"].files), "gaokao2023en", "college_math",
      "minerva_math", "olympiadbench",
    ),
    samples=1,
    temperature=0.0,
    max_tokens=2048,
    mode="symbolic",
    compares="zero-shot, greedy, symbolic grader: tables of Qwen2.5-Math, DART-Math, ToRA; few-shot figures of base "
    "models (8 examples on GSM8K's relatives, 4 on MATH's) do not compare",
  ),
  "competition": Suite(
    benchmarks=(
      "math500", "amc23", "aime24", "aime25", "aime26", "hmmt_feb25", "hmmt_nov25", "hmmt_feb26", "beyond_aime",
    ),
    samples=16,
    temperature=0.6,
    max_tokens=32_768,
    mode="symbolic",
    compares="avg@16 to avg@64 of models that think: DeepSeek-R1 distillates, Qwen3, OpenThinker, Skywork-OR1; "
    "MathArena has avg@4; pass@1 of one greedy response differs by several points in 30 problems",
  ),
}  # fmt: skip


def expanded(names: Iterable[str]) -> tuple[str, ...]:
  """The benchmarks that the names of suites and benchmarks stand for, each once."""
  return tuple(dict.fromkeys(b for name in names for b in (SUITES[name].benchmarks if name in SUITES else (name,))))


def suite_of(benchmark: str) -> Suite | None:
  """The suite of a benchmark, however it is written (`svamp` or `svamp:test`); None where it is in none."""
  plain = benchmark.partition("@")[0].removesuffix(":test")
  return next((s for s in SUITES.values() if plain in (name.removesuffix(":test") for name in s.benchmarks)), None)


def frame_of(benchmark: str) -> str:
  """The frame in which `chat` alone puts its questions."""
  name, _, split = benchmark.partition(":")
  return BOXED_ZH if name == "cmath" or (name, split) == ("mgsm", "zh") else BOXED


def differences(benchmark: str, facts: Mapping[str, Any]) -> list[str]:
  """What of an evaluation is not as in the published figures; empty where it is, or where there are none.

  Args:
    benchmark: its name.
    facts: `samples`, `temperature`, `max_tokens`, `mode`, `n` of the evaluation; what is missing is not compared.
  """
  suite = suite_of(benchmark)
  if suite is None:
    return []
  found = []
  samples, temperature, tokens, n = (facts.get(key) for key in ("samples", "temperature", "max_tokens", "n"))
  if samples is not None and samples < suite.samples:
    found.append(f"{samples} of {suite.samples} samples")
  if temperature is not None and temperature != suite.temperature:
    found.append(f"temperature {temperature:g}, not {suite.temperature:g}")
  if tokens is not None and tokens < suite.max_tokens:
    found.append(f"{tokens:,} tokens at most, not {suite.max_tokens:,}")
  if facts.get("mode", suite.mode) != suite.mode:
    found.append(f"{facts['mode']} grader, not {suite.mode}")
  whole = size_of(benchmark)
  if n is not None and whole is not None and n != whole:
    found.append(f"{n:,} of {whole:,} problems")
  if "@" in benchmark:
    found.append(f"changed ({benchmark.partition('@')[2]})")
  return found


_SIZES = {"gsm8k:test": 1319, "math:test": 5000, "math500": 500, "olympiadbench": 675}


def size_of(benchmark: str) -> int | None:
  """How many problems the whole benchmark has; None where that is not known."""
  plain = benchmark.partition("@")[0]
  name, _, split = plain.partition(":")
  if name in published.SETS:
    return published.SETS[name].rows.get(split or published.SETS[name].default)
  return _SIZES.get(plain)
