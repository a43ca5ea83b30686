"""Xwin-style: a new question in the manner of the given one, verified by the teacher in the same reply, then solved.

(Skywork section 3.1; arXiv 2403.04706 section 3.) The first reply has three headed parts, of which the last is the
question; the second has a solution and a final answer, which are joined to the one response format.
"""

from skymath_jax.records import Instance, Problem
from skymath_jax.synthesis.methods import parse
from skymath_jax.synthesis.methods.base import Ask, Method, Rejected, Rejection, Reply, Worked, instance, solutions

CREATE_HEADINGS = ("CREATED QUESTION:", "VERIFICATION AND MODIFICATION:", "FINAL CREATED QUESTION:")
SOLVE_HEADINGS = ("SOLUTION:", "FINAL ANSWER:")


async def augment(problem: Problem, ask: Ask) -> list[Instance | Rejected]:
  """A new question like the problem's, with its solution."""
  created = await ask("xwin/create", question=problem.question)
  *_, final = parse.sections(created, *CREATE_HEADINGS)
  query = parse.checked_question(final, (*CREATE_HEADINGS, *SOLVE_HEADINGS, *parse.labels(created.prompt)))
  parse.require_changed(query, problem.question)
  return [
    instance(ask, problem, "xwin", query, worked, question_prompts=(created.prompt,))
    for worked in await solutions(ask, "xwin/solve", _worked, question=query)
  ]


def _worked(solved: Reply) -> Worked:
  try:
    body, answer = parse.sections(solved, *SOLVE_HEADINGS)
  except Rejection as rejection:
    if rejection.reason != "section_missing":
      raise
    return parse.solution(solved)  # some end as they always do
  return parse.worked(solved, body, answer)


XWIN = Method("xwin", augment, ("xwin/create", "xwin/solve"))
