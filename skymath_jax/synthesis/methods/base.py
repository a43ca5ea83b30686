"""What a method is, what it sees of the world (`ask` and the reply it gives), and the small records it returns.

Its work is `async def augment(problem, ask) -> list[Instance | Rejected]`. It has no I/O, no retry and no randomness
of its own: `await ask("metamath/rephrase", question=…)` renders the prompt and answers from the store or the teacher,
`ask.rng` is seeded by what is being made. So a method replays exactly, and a test needs a fake `ask` of a few lines.
"""

import dataclasses
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from skymath_jax import prompts
from skymath_jax.generation.types import Sampling
from skymath_jax.grading import equivalent
from skymath_jax.prompts import Prompt
from skymath_jax.records import Instance, Problem, stable_id

_COMMAND = re.compile(r"\\[A-Za-z(\[]")
_FORMULA = re.compile(
  # As in Pandoc: no blank inside the dollar signs, no digit behind them, so that "$5 and $10" is money; nor is "5$".
  r"(?<![\\\d])\$(?!\s)(?:[^$\\]|\\.)+(?<!\s)\$(?!\d)" + rf"|{_COMMAND.pattern}" + r"|\b[a-z]\s*[=<>^]",
  re.DOTALL,
)
SYNTHETIC = "synthetic:"  # source prefix of a problem that was itself synthesized; its answer is a teacher's


class Rejection(Exception):
  """Raised by `ask` and the parsers; the runner turns it into a `Rejected`. `reason` is a short stable word."""

  def __init__(self, reason: str, text: str = ""):
    super().__init__(reason)
    self.reason = reason
    self.text = text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejected:
  """An augmentation, or a step of one, that gave no instance. `text` is the start of the reply it was about."""

  problem_id: str
  method: str
  reason: str
  text: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
  """One answer of the teacher, with what it was asked.

  Attributes:
    text: what is visible of it, without the thought of a reasoning model.
    finish_reason: `stop` where the teacher ended by itself; otherwise it was cut off.
    tokens: of the answer.
  """

  text: str
  prompt: Prompt
  sampling: Sampling
  tokens: int
  finish_reason: str = "stop"
  thought: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Choices inside methods.

  `evol_steps` is the longest chain, `evol_elimination` switches the four rules of `evol`, `mask_all` makes every
  number of a question a backward problem instead of one per run, `samples` is the number of responses to each query,
  `prompts` is the set: plain, few_shot with examples in the style of the problem, or question, which is nothing but it.
  `rounds` is the number of right answers with which the runs of a method that `repeats` end; 0 = all runs are done.
  """

  evol_steps: int
  evol_elimination: bool
  samples: int
  prompts: str
  rounds: int
  mask_all: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
  """What all instances of one synthesis pass share."""

  teacher: str
  stage: int
  synthesis_pass: int = 1


class Ask(Protocol):
  """Asks the teacher; raises `Rejection("error: …")` where the teacher gave no answer."""

  rng: random.Random
  settings: Settings
  origin: Origin

  def __call__(self, prompt_name: str, /, **fields: str) -> Awaitable[Reply]:
    """The reply to the prompt of that name."""


Augment = Callable[[Problem, Ask], Awaitable[list[Instance | Rejected]]]


@dataclasses.dataclass(frozen=True)
class Method:
  """One augmentation method.

  Attributes:
    name: as rejections are counted; an instance's `method` is this, for `evol` with the operation behind it.
    asks: the prompts that one run (of a chain: one step) sends when nothing is rejected, the last of them, which asks
      for a solution, `Settings.samples` times.
    chained: whether a run is a chain of `Settings.evol_steps` steps.
    needs_answer: whether a problem without an answer is of no use to it.
    feeds_next_pass: whether its questions may be problems of a further pass. A question that is the parent's own is
      nothing new; a backward question asks for X, and neither the prompts nor a second mask make sense on it.
    repeats: whether each run answers the problem's own question once more.
  """

  name: str
  augment: Augment
  asks: tuple[str, ...]
  chained: bool = False
  needs_answer: bool = False
  feeds_next_pass: bool = True
  repeats: bool = False

  @property
  def key(self) -> str:
    """Its name among the METHODS, which a recipe uses."""
    return self.name.rpartition(".")[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worked:
  """A parsed solution: `response` ends with `\\nThe answer is ANSWER`."""

  response: str
  answer: str
  reply: Reply


def style(problem: Problem) -> str:
  """`math` for a problem with formulas or whose known solution is in LaTeX, `word` for a story: which examples it gets.

  "Is 7 prime?" says nothing by itself, its solution does; "$5 for a pen, $10 for two" is a story about money.
  """
  worked = f"{problem.solution or ''} {problem.answer or ''}"
  return "math" if _FORMULA.search(problem.question) or _COMMAND.search(worked) else "word"


def prompt_of(name: str, settings: Settings, style: str) -> str:
  """The name of the prompt that is sent where a method asks for `name`.

  A model that was trained here gets the question alone: its chat template writes the frame that it was trained in.
  """
  if settings.prompts == "question":
    return "raw"
  return prompts.few_shot(name, style) if settings.prompts == "few_shot" else name


async def solutions(ask: Ask, prompt_name: str, parse: Callable[[Reply], Worked], **fields: str) -> list[Worked]:
  """`Settings.samples` parsed solutions; one that cannot be used is left out while there is another.

  Raises:
    Rejection: none can be used; of the first.
  """
  worked: list[Worked] = []
  rejections: list[Rejection] = []
  for _ in range(ask.settings.samples):
    try:
      worked.append(parse(await ask(prompt_name, **fields)))
    except Rejection as rejection:
      rejections.append(rejection)
  if not worked:
    raise rejections[0]
  return worked


def is_synthetic(problem: Problem) -> bool:
  """Whether the problem came out of an earlier pass, so that its answer is a pseudo gold."""
  return problem.source.startswith(SYNTHETIC)


def instance(
  ask: Ask,
  problem: Problem,
  method: str,
  query: str,
  worked: Worked,
  *,
  gold: str | None = None,
  parent: str | None = None,
  question_prompts: tuple[Prompt, ...] = (),
) -> Instance:
  """The record of one augmentation.

  Args:
    gold: the answer the response should reach, where one is known (`gold_match`).
    parent: id of the instance it was made from, where that is not `problem`.
    question_prompts: the prompts that made the query, if it is not the problem's own.
  """
  prompt = {"name": worked.reply.prompt.name, "hash": worked.reply.prompt.hash}
  if question_prompts:
    prompt["question"] = " ".join(f"{p.name}@{p.hash}" for p in question_prompts)
  parents, origin = (parent or problem.id,), ask.origin
  return Instance(
    id=stable_id(method, *parents, query, worked.response, origin.stage, origin.synthesis_pass),
    query=query,
    response=worked.response,
    answer=worked.answer,
    method=method,
    parents=parents,
    stage=origin.stage,
    synthesis_pass=origin.synthesis_pass,
    teacher=origin.teacher,
    sampling=sampling_record(worked.reply.sampling),
    prompt=prompt,
    gold_match=None if gold is None else equivalent(gold, worked.answer, "strict"),
    pseudo_gold=gold is not None and is_synthetic(problem),
    level=problem.level,
    tokens=worked.reply.tokens,
    thought=worked.reply.thought or None,
  )


def sampling_record(sampling: Sampling) -> dict[str, Any]:
  """The sampling settings as they stand in an instance."""
  return {key: getattr(sampling, key) for key in ("temperature", "top_p", "top_k", "seed", "max_tokens")}
