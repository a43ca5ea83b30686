r"""The four MetaMath-style methods (Skywork section 3.1; arXiv 2309.12284 section 3).

From "Mia has 5 apples. She buys 3 more. How many apples has she now?" (8):
- answer augmentation: the same question, worked once more;
- rephrase: "Mia starts with 5 apples and gets 3 more. How many does that make?", worked;
- FOBAR: "Mia has X apples. She buys 3 more. How many apples has she now? We are told that the answer to this is 8. What
  is the value of X?", worked; the gold answer is the hidden 5;
- self-verification: "Mia has X apples. She buys 3 more. Mia has 8 apples now. What is the value of X?", worked.

Nothing is dropped for a wrong answer (the paper keeps them); `gold_match` says what is known.
"""

import re

from skymath_jax import prompts
from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import masking, parse
from skymath_jax.synthesis.methods.base import Ask, Method, Rejected, Rejection, instance, solutions

SOLVE = "metamath/solve"
SOLVE_BACKWARD = "metamath/solve_backward"
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|hbox)\s*\{([^{}]*)\}")
_FORMULA = re.compile(r"\\[A-Za-z]|[\^_=<>]|\d[a-z]\b|\b[a-z]\s*[-+*/(]|[-+*/]\s*[a-z]\b")  # not prose


async def answer_augmentation(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """The same query with a new response."""
  method = "metamath.answer_augmentation"
  return [
    instance(ask, problem, method, problem.question, worked, gold=problem.answer)
    for worked in await solutions(ask, SOLVE, parse.solution, question=problem.question)
  ]


async def rephrase(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """The question in other words, then its solution; the answer should not have changed."""
  reply = await ask("metamath/rephrase", question=problem.question)
  query = parse.question(reply)
  parse.require_changed(query, problem.question)
  return [
    instance(ask, problem, "metamath.rephrase", query, worked, gold=problem.answer, question_prompts=(reply.prompt,))
    for worked in await solutions(ask, SOLVE, parse.solution, question=query)
  ]


async def fobar(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """One number hidden, the answer given in a sentence of its own, and the question after the hidden number."""
  answer = _answer(problem)
  tail = prompts.load("metamath/fobar_question")
  made: list[Instance | Rejected] = []
  for mask in _chosen(problem, ask, len(problem.question)):
    query = tail.render(question=mask.question.strip(), answer=answer)
    made += [
      instance(ask, problem, "metamath.fobar", query, worked, gold=mask.hidden, question_prompts=(tail,))
      for worked in await solutions(ask, SOLVE_BACKWARD, parse.solution, question=query)
    ]
  return made


async def self_verification(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """One number hidden, question and answer turned into a statement, and the question after the hidden number.

  The number is one of the body where the body has any; else one of the closing question, so that the statement tells X.
  """
  _answer(problem)
  body, _ = masking.split_question(problem.question)
  in_body = any(mask.start < len(body) for mask in masking.masks(problem.question))
  chosen = _chosen(problem, ask, len(body) if in_body else len(problem.question))
  return [made for mask in chosen for made in await _verification(problem, ask, mask)]


async def _verification(problem: Problem, ask: Ask, mask: masking.Mask) -> list[Instance]:
  answer = _answer(problem)
  tail = prompts.load("metamath/self_verification_question")
  body, closing = masking.split_question(problem.question)
  if mask.start < len(body):
    body = mask.question[: len(mask.question) - len(problem.question) + len(body)]
  else:
    closing = mask.question[len(body) :].strip()
  hidden_in_body = mask.start < len(body)
  closing, apart = masking.set_apart(closing)
  declared = await ask("metamath/declare", question=closing, answer=answer)
  statement = checked_statement(parse.question(declared), answer)
  if not hidden_in_body and not masking.uses_x(statement):
    raise Rejection("statement_without_x", statement)
  told = "\n".join([masking.continued(body, statement), *apart])
  query = tail.render(body=body.strip(), statement=told).strip()
  made_by = (declared.prompt, tail)
  method = "metamath.self_verification"
  return [
    instance(ask, problem, method, query, worked, gold=mask.hidden, question_prompts=made_by)
    for worked in await solutions(ask, SOLVE_BACKWARD, parse.solution, question=query)
  ]


def _answer(problem: Problem) -> str:
  r"""The gold or pseudo-gold answer that a backward question tells: words as words, a formula between dollar signs.

  `\text{B,E}` is told as "B,E", `10,\!000\text{ miles}` as "10,000 miles", `\frac{1}{2}` as "$\frac{1}{2}$".
  """
  answer = (problem.answer or "").strip()
  if not answer:
    raise Rejection("no_answer_to_tell", problem.question)
  if "$" in answer.replace("\\$", ""):
    return answer
  words = " ".join(_TEXT.sub(r"\1", answer).replace("\\!", "").replace("\\ ", " ").split())
  words = re.sub(r"(?<!\.[a-z])[.,]$", "", words)
  return f"${answer}$" if _FORMULA.search(words) or not words else words


def _chosen(problem: Problem, ask: Ask, end: int) -> list[masking.Mask]:
  """The masks of this run: one by lot, or all of them, among the numbers that begin before `end`."""
  found = [mask for mask in masking.masks(problem.question) if mask.start < end]
  if not found:
    raise Rejection("no_number_to_hide", problem.question)
  return found if ask.settings.mask_all else [ask.rng.choice(found)]


def checked_statement(text: str, answer: str) -> str:
  """`text` as one plain statement that tells the answer; without it the backward question could not be solved.

  Raises:
    Rejection: it is none, or does not tell it.
  """
  if "\n" in text or text.endswith(("?", "？")):
    raise Rejection("not_a_statement", text)
  if not tells(text, answer):
    raise Rejection("statement_without_answer", text)
  return text if text.endswith((".", "!", "。")) else f"{text}."


def tells(text: str, answer: str) -> bool:
  """Whether the answer stands in `text`, whole: neither 3 in 13 nor B in "about"; spelling of LaTeX and case aside."""
  if re.fullmatch(r"[A-Za-z]+", answer):
    case = 0 if len(answer) == 1 else re.IGNORECASE
    return bool(re.search(rf"(?<![A-Za-z]){answer}(?![A-Za-z])", text, case))
  return bool(re.search(rf"(?<!\d)(?<!\d\.){re.escape(_squeezed(answer))}(?!\.?\d)", _squeezed(text)))


def _squeezed(text: str) -> str:
  """Without thousands separators, blanks and dollar signs; two numbers stay apart."""
  text = re.sub(r"(?<=\d)(?:,|\{,\}|,?\\!)(?=\d{3}(?!\d))", "", text)
  text = re.sub(r"(?<=\d)[\s$,]+(?=\d)", "\0", text)
  text = re.sub(r"[\s$,]|\\!", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
  return text.lower()


ANSWER_AUGMENTATION = Method(
  "metamath.answer_augmentation", answer_augmentation, (SOLVE,), feeds_next_pass=False, repeats=True
)
REPHRASE = Method("metamath.rephrase", rephrase, ("metamath/rephrase", SOLVE))
SELF_VERIFICATION = Method(
  "metamath.self_verification",
  self_verification,
  ("metamath/declare", SOLVE_BACKWARD),
  needs_answer=True,
  feeds_next_pass=False,
)
FOBAR = Method("metamath.fobar", fobar, (SOLVE_BACKWARD,), needs_answer=True, feeds_next_pass=False)
