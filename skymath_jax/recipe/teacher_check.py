"""Ten small questions to the teacher of a config: what it sends, how fast, what a run will cost, what to set."""

import asyncio
import collections
import json
import re
import tempfile
import time
from typing import Any

from skymath_jax import config as config_lib
from skymath_jax import prompts
from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.generation.types import Request, RequestRejected, Response, Sampling
from skymath_jax.generation.visible import visible
from skymath_jax.recipe import seeds, stages, synthesize
from skymath_jax.recipe.teacher import Teacher
from skymath_jax.records import Facts
from skymath_jax.synthesis.methods import Rejection, Reply, parse

QUESTIONS = {
  "Mia has 5 apples and buys 3 more. How many apples has she now?": "8",
  "A box holds 12 eggs. How many eggs are in 4 boxes?": "48",
  "Tom reads 20 pages a day. In how many days has he read 140 pages?": "7",
  "What is $17 + 25$?": "42",
  "Solve $3x = 21$ for $x$.": "7",
  "A shirt costs 40 dollars. What does it cost after a discount of 25 percent, in dollars?": "30",
  "What is the area of a rectangle with sides 6 and 9?": "54",
  "What is the remainder when 29 is divided by 4?": "1",
  "A train goes 180 kilometres in 3 hours. What is its speed in kilometres per hour?": "60",
  "What is the next number: 2, 4, 8, 16, …?": "32",
}
ANSWER_FIELDS = ("reasoning_content", "reasoning")  # tried where the content is empty
MAX_CHANGES = 5  # of teacher.parameters, each told by the endpoint
_SET = re.compile(r"teacher\.parameters='(\{.*?\})'")


def check(config: Experiment) -> Facts:
  """What the teacher sends, as JSON values; `set` has the config lines that it wants beyond `config`.

  Raises:
    UserError: the teacher cannot be had, or refuses every request for a reason that no parameter mends.
  """
  with tempfile.TemporaryDirectory() as folder:
    working, responses, refused, seconds = _answers(config, folder)
    if working.teacher.backend == "openai" and not any(r.text for r in responses) and any(r.thought for r in responses):
      for field in ANSWER_FIELDS:
        other = _with_parameters(working, {"answer": field})
        again = _answers(other, folder)
        if any(response.text for response in again[1]):
          working, responses, refused, seconds = again
          break
    found = _facts(working, responses, refused, seconds)
    changed = working.teacher.parameters != config.teacher.parameters
    found["set"] = [f"teacher.parameters='{working.teacher.parameters}'"] if changed else []
    if found["ends"].get("length", 0) > len(responses) // 3:
      found["set"].append(f"synthesis.max_tokens={4 * config.synthesis.max_tokens}  # answers are cut off")
    return {**found, "run": _run(config, found, f"{folder}/run")}


def _answers(config: Experiment, folder: str) -> tuple[Experiment, list[Response], list[str], float]:
  """(the config with the parameters that the endpoint asked for, the responses, why others failed, seconds)."""
  for _ in range(MAX_CHANGES):
    try:
      with Teacher(config.teacher, config.serving, config.model.dtype, folder) as teacher:
        return config, *asyncio.run(_ask(teacher, config))
    except UserError as error:
      wanted = _SET.search(str(error))
      if wanted is None:
        raise
      config = _with_parameters(config, json.loads(wanted[1]))
  raise UserError("the endpoint refuses one parameter after another", where="teacher.parameters")


async def _ask(teacher: Teacher, config: Experiment) -> tuple[list[Response], list[str], float]:
  """(the responses, why other questions got none, seconds)."""
  client = teacher.client()
  s = config.synthesis
  sampling = Sampling(temperature=s.temperature, top_p=s.top_p, max_tokens=s.max_tokens, seed=1)
  prompt = prompts.load("metamath/solve")
  requests = [
    Request(id=str(n), prompt=prompt.render(question=question), sampling=sampling)
    for n, question in enumerate(QUESTIONS)
  ]

  async def answer(request: Request) -> Response | RequestRejected:
    try:
      return await client.complete(request)
    except RequestRejected as error:  # about this question: the others may be answered
      return error

  try:
    if isinstance(client, JetStreamGenerator):
      await client.check()
    first = await answer(requests[0])  # what is refused is told once; and connections are opened
    start = time.perf_counter()
    found = [first, *await asyncio.gather(*map(answer, requests[1:]))]
    seconds = (time.perf_counter() - start) * len(requests) / (len(requests) - 1)
  finally:
    await client.close()
  responses = [each for each in found if isinstance(each, Response)]
  refused = [each for each in found if isinstance(each, RequestRejected)]
  if not responses:
    raise refused[-1]
  return responses, list(map(str, refused)), seconds


def _with_parameters(config: Experiment, more: dict[str, Any]) -> Experiment:
  """The config with `more` in `teacher.parameters`."""
  values = json.loads(config.teacher.parameters or "{}")
  for name, value in more.items():
    old = values.get(name)
    values[name] = [*old, *value] if isinstance(old, list) else {**old, **value} if isinstance(old, dict) else value
  return config_lib.changed(config, {"teacher.parameters": json.dumps(values)})


def _facts(config: Experiment, responses: list[Response], refused: list[str], seconds: float) -> Facts:
  prompt, right, rejected = prompts.load("metamath/solve"), 0, collections.Counter[str]()
  answers = list(QUESTIONS.values())
  for response in responses:
    shown = visible(response.text)
    thought = response.thought or shown.thought
    reply = Reply(
      text=shown.text,
      thought=thought,
      finish_reason=response.finish_reason,
      prompt=prompt,
      sampling=Sampling(),
      tokens=0,
    )
    try:
      right += parse.solution(reply).answer.strip("$ ") == answers[int(response.id)]
    except Rejection as rejection:
      rejected[rejection.reason] += 1
  written = sum(response.completion_tokens for response in responses)
  return {
    "backend": config.teacher.backend,
    "dialect": "completions" if config.teacher.chat == "raw" else "chat completions",
    "answers": len(responses),
    "parsed": len(responses) - rejected.total(),
    "right": right,
    "rejected": dict(rejected),
    "refused": refused,
    "ends": dict(collections.Counter(response.finish_reason for response in responses)),
    "thoughts": sum(bool(response.thought) for response in responses),
    "thought_characters": sum(len(response.thought) for response in responses) // len(responses),
    "usage": "counted by the endpoint" if all(r.counted for r in responses) else "not told: estimated from the text",
    "completion_tokens": round(written / len(responses), 1),
    "tokens_per_second": round(written / seconds, 1),
    "seconds_per_answer": round(seconds / len(responses), 3),
    "example": responses[0].text[:200],
  }


def _run(config: Experiment, found: Facts, workdir: str) -> Facts:
  """What a run asks and costs, if the seeds can be read here; its tokens as this teacher writes them."""
  try:
    stages.perform([seeds.STAGE], config, workdir)
    with stages.opened(config, workdir) as run:
      total: Facts = synthesize.plan(run)["total"]
  except UserError as error:
    return {"unknown": str(error)}
  written = max(float(total["completion_tokens"]), total["requests"] * found["completion_tokens"])
  price_in, price_out = config.teacher.prices
  return {
    "requests": total["requests"],
    "prompt_tokens": total["prompt_tokens"],
    "completion_tokens": round(written),
    "cost": round((total["prompt_tokens"] * price_in + written * price_out) / 1e6, 2)
    if price_in or price_out
    else None,
    "hours_at_this_pace": round(written / max(found["tokens_per_second"], 1e-9) / 3600, 2),
  }
