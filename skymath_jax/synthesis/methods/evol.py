"""Evol-Instruct-style: a problem grows step by step into harder ones (Skywork section 3.1, at most five steps).

Each step draws one of the five operations by lot, asks for the evolved problem, then for its solution. A problem that
survives is an instance, and the next step starts from it; where one does not, the parent stays for the next step.

"Mia has 5 apples. She buys 3 more. How many apples has she now?"
  → add_constraint → "Mia has 5 apples. She buys 3 more and gives 2 away. How many apples has she now?" → …

The four elimination rules are WizardLM's; Skywork does not mention them, so they can be switched off. Two are
approximated: "no gain over the parent", which WizardLM asks a model about, is "says no word that the parent does not
say"; "the text leaks the prompt" is "holds one of the prompt's headings".
"""

import re
from collections import Counter

from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import parse
from skymath_jax.synthesis.methods.base import Ask, Method, Rejected, Rejection, Reply, Worked, instance, solutions

OPERATIONS = ("new_problem", "add_constraint", "deepen", "concretize", "add_reasoning")
SORRY_WORDS = 80  # an answer shorter than this that says "sorry" is a refusal

_WORD = re.compile(r"[^\W_]+(?:[.,']\d+)*")
_STOP_WORDS = {
  "a", "an", "and", "answer", "are", "as", "at", "be", "but", "by", "for", "from", "had", "has", "have", "he", "her",
  "his", "i", "if", "in", "is", "it", "its", "of", "on", "or", "our", "she", "so", "than", "that", "the", "their",
  "them", "then", "there", "these", "they", "this", "to", "was", "we", "were", "which", "will", "with", "you", "your",
}  # fmt: skip


async def augment(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """A chain of up to `evol_steps` evolutions; every surviving problem is an instance."""
  made: list[Instance | Rejected] = []
  question, parent = problem.question, problem.id
  for _ in range(ask.settings.evol_steps):
    operation = ask.rng.choice(OPERATIONS)
    try:
      evolved = await _step(problem, ask, question, parent, operation)
    except Rejection as rejection:
      method, text = f"evol.{operation}", rejection.text
      made.append(Rejected(problem_id=parent, method=method, reason=rejection.reason, text=text))
      continue
    made += evolved
    question, parent = evolved[0].query, evolved[0].id
  return made


async def _step(problem: Problem, ask: Ask, question: str, parent: str, operation: str) -> list[Instance]:
  rules = ask.settings.evol_elimination
  reply = await ask(f"evol/{operation}", question=question)
  evolved = parse.question(reply, labels_refused=rules)
  if rules and not gains(evolved, question):
    raise Rejection("no_gain", evolved)

  def checked(answer: Reply) -> Worked:
    worked = parse.solution(answer)
    if rules:
      _check_answer(worked)
    return worked

  return [
    instance(ask, problem, f"evol.{operation}", evolved, worked, parent=parent, question_prompts=(reply.prompt,))
    for worked in await solutions(ask, "metamath/solve", checked, question=evolved)
  ]


def gains(evolved: str, parent: str) -> bool:
  """Whether `evolved` says a word or number that `parent` does not say (as often)."""
  return bool(Counter(_words(evolved)) - Counter(_words(parent)))


def _check_answer(worked: Worked) -> None:
  words = _words(worked.response)
  if "sorry" in words and len(words) < SORRY_WORDS:
    raise Rejection("sorry", worked.response)
  if not any(word not in _STOP_WORDS for word in words):
    raise Rejection("only_stop_words", worked.response)


def _words(text: str) -> list[str]:
  return _WORD.findall(text.lower())


EVOL = Method("evol", augment, ("evol/add_constraint", "metamath/solve"), chained=True)
