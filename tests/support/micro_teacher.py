"""A scripted teacher behind an OpenAI-compatible endpoint: it answers from the micro world, slowly and not always well.

What a request gets in the end depends on its prompt and seed only: `reply` gives a worked answer, a truncated one, a
refusal, nonsense, nothing, or (`Refused`) an HTTP 400. On the way there an attempt may fail by chance: a 500, a 429, a
connection that drops, an answer that is not JSON.

  python micro_teacher.py PORT LOG SECONDS CHANCE    serves; LOG gets `time key asked`, then `time key KIND`
"""

import asyncio
import hashlib
import os
import random
import sys
import time
from collections import Counter

from aiohttp import web

from skymath_jax.generation.types import Request, RequestRejected, Response
from skymath_jax.problems.micro_gsm import oracle, rewriting, solution
from skymath_jax.problems.micro_gsm.story import Story
from skymath_jax.testing.teacher import template_of

KINDS = {"refused": 1, "truncated": 3, "sorry": 2, "nonsense": 2, "silent": 1}  # percent; the rest is "good"
CHANCES = ("error 500", "busy 429", "dropped", "no JSON")


class Refused(Exception):
  """The endpoint says 400."""


def key_of(prompt: str, seed: int) -> str:
  return hashlib.sha256(f"{seed}\0{prompt}".encode()).hexdigest()[:20]


def kind_of(prompt: str, seed: int) -> str:
  """What becomes of a request, drawn by its content."""
  lot = int(key_of(prompt, seed)[:8], 16) % 100
  for kind, percent in KINDS.items():
    if lot < percent:
      return kind
    lot -= percent
  return "good"


def reply(prompt: str, seed: int) -> tuple[str, str]:
  """(text, finish reason) of the answer; `Refused` where there is none."""
  kind = kind_of(prompt, seed)
  if kind == "refused":
    raise Refused
  if kind == "sorry":
    return "I am sorry, but I cannot help with that.", "stop"
  if kind == "nonsense":
    return " ".join(random.Random(f"{seed} {prompt}").choices("blue seven the of to green =".split(), k=12)), "stop"
  if kind == "silent":
    return "", "content_filter"
  text = _good(template_of(prompt), prompt, random.Random(f"{seed} {prompt}"))
  return (text[: len(text) // 2], "length") if kind == "truncated" else (text, "stop")


def _good(name: str, prompt: str, rng: random.Random) -> str:
  """The answer by the oracle; where the question is none of its world, an honest shrug in the asked form."""
  if name == "metamath/declare":
    question, answer = (prompt.partition(f"{label}:\n")[2].partition("\n")[0] for label in ("Question", "Answer"))
    return f"{question.rstrip('?')} is answered by {answer}."
  question = prompt.partition("roblem:\n")[2] or prompt.partition("uestion:\n")[2]
  question = question.rpartition("\n\n")[0].strip() or question.strip()
  parsed = oracle.parse(question)
  solve = name.partition("/")[2].startswith("solve")
  if parsed is None or oracle.solve_parsed(parsed) is None:
    text = "It cannot be said.\nThe answer is 0" if solve else f"Take this: {question}"
  elif solve:
    told = parsed.told
    forward = told is None
    text = (
      solution.solution(parsed.program, parsed.scene, rng)
      if forward
      else solution.backward_solution(parsed.program, parsed.scene, told) or "Hard.\nThe answer is 1"
    )
  elif parsed.told is not None:
    text = f"Once more: {question}"
  else:
    text = _rewritten(name, Story.draw(parsed.program, parsed.scene, rng), rng)
  if name == "xwin/solve":
    body, _, answer = text.rpartition("\nThe answer is ")
    return f"SOLUTION:\n{body}\nFINAL ANSWER: {answer}"
  if name == "xwin/create":
    return f"CREATED QUESTION: {text}\nVERIFICATION AND MODIFICATION: fine\nFINAL CREATED QUESTION: {text}"
  return text


def _rewritten(name: str, story: Story, rng: random.Random) -> str:
  operation = name.partition("/")[2]
  if operation == "rephrase":
    return story.retold(rng).question
  rewrite = rewriting.new_problem if operation == "create" else getattr(rewriting, operation)
  found = rewrite(story, rng)
  return (found or story).question


class Undisturbed:
  """The same teacher in process and always at hand."""

  def __init__(self, model_id: str = "scripted"):
    self.model_id, self.kinds = model_id, Counter()

  async def complete(self, request: Request) -> Response:
    self.kinds[kind_of(request.prompt, request.sampling.seed)] += 1
    try:
      text, reason = reply(request.prompt, request.sampling.seed)
    except Refused:
      raise RequestRejected("no", where="scripted") from None
    usage = usage_of(request.prompt, text)
    return Response(id=request.id, text=text, finish_reason=reason, **usage)


def usage_of(prompt: str, text: str) -> dict[str, int]:
  return {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}


def serve(port: int, log_path: str, seconds: float, chance: float) -> None:
  """Serves for ever; `seconds` is the mean time an answer takes, `chance` the share of attempts that fail by chance."""
  rng, log = random.Random(), os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

  async def completions(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    prompt, seed = asked["messages"][0]["content"], asked["seed"]
    key = key_of(prompt, seed)
    note(key, "asked")
    await asyncio.sleep(rng.expovariate(1 / seconds))
    if rng.random() < chance:
      bad = rng.choice(CHANCES)
      note(key, bad)
      if bad == "dropped" and request.transport is not None:
        request.transport.close()
      headers = {"Retry-After": "0.02"} if bad == "busy 429" else {}
      return web.Response(status={"error 500": 500, "busy 429": 429}.get(bad, 200), headers=headers, text="{")
    try:
      text, reason = reply(prompt, seed)
    except Refused:
      note(key, "refused")
      return web.json_response({"error": "no"}, status=400)
    note(key, kind_of(prompt, seed))
    choice = {"message": {"content": text or None}, "finish_reason": reason}
    return web.json_response({"choices": [choice], "usage": usage_of(prompt, text)})

  def note(key: str, kind: str) -> None:
    os.write(log, f"{time.time()} {key} {kind}\n".encode())

  app = web.Application()
  app.router.add_post("/v1/chat/completions", completions)
  web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, reuse_address=True)


if __name__ == "__main__":
  serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
