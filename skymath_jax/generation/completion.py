"""Reads what an OpenAI-compatible endpoint answers: servers agree on the outline and differ in all the rest.

Text may be null, missing, a list of parts or in a field of another name; a thought may have a field of its own or stand
in the text; only some finish reasons mean that the model has said all; token counts may be missing or absurd.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from skymath_jax.generation.limits import CHAT_OVERHEAD
from skymath_jax.generation.types import Request, Response, cut_at_stop
from skymath_jax.generation.visible import visible

# What servers call the end that a model chose itself; all else ("length", "content_filter", nothing) cut it off.
TRUE_ENDS = {
  "stop", "stopped", "eos", "eos_token", "end", "end_turn", "end_of_text", "endoftext", "stop_sequence", "stop_token",
  "complete", "completed", "finished",
}  # fmt: skip
BROKEN_OFF = {"error", "abort", "aborted", "cancelled", "canceled"}  # by the server's own trouble
CUT_OFF = {"length", "max_tokens", "max_output_tokens", "model_length", "max_length", "incomplete"}
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "thinking", "thought")
THOUGHT_PARTS = {"thinking", "reasoning", "thought", "redacted_thinking"}
MAX_TOKENS_COUNTED = 10_000_000  # a count beyond it is none
BYTES_PER_TOKEN = 3.0  # of prompts and answers in English and LaTeX, rather too few: an estimate is rather too high


class NotACompletion(Exception):
  """The body is no answer to a completion request; the message says what it is."""


def parse(data: bytes) -> dict[str, Any]:
  """The JSON object in a body.

  Raises:
    NotACompletion: there is none.
  """
  try:
    found = json.loads(data, parse_int=_integer)
  except (ValueError, RecursionError):
    raise NotACompletion("the answer is not JSON") from None
  if not isinstance(found, dict):
    raise NotACompletion("the answer is no JSON object")
  return found


def _integer(digits: str) -> int | float:
  return int(digits) if len(digits) < 20 else float(digits)  # thousands of digits would be an error


def error_in(answer: Mapping[str, Any]) -> tuple[int | None, str] | None:
  """(status, message) of an error that came as an answer, or as its only choice; None where there is none."""
  error, choices = answer.get("error"), answer.get("choices")
  if choices:
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    error = choice.get("error") or (choice if str(choice.get("finish_reason")).lower() in BROKEN_OFF else None)
  if not error:
    return None
  code = str(error.get("code") or error.get("status")) if isinstance(error, dict) else ""
  status = int(code) if re.fullmatch(r"[45]\d\d", code) else None
  return status, json.dumps(error, ensure_ascii=False)


def response(request: Request, answer: Mapping[str, Any], *, answer_field: str) -> Response:
  """The response in an answer to `request`.

  Args:
    answer_field: of a message, that holds its text.

  Raises:
    NotACompletion: there is no choice in it.
  """
  choices = answer.get("choices")
  choice = choices[0] if isinstance(choices, list) and choices else None
  if not isinstance(choice, dict):
    raise NotACompletion("the answer has no choices")
  message = choice.get("message")
  if not isinstance(message, dict):
    message = choice  # of /completions, where it is `text`
  said, thoughts = _text(message.get(answer_field, message.get("text", "")))
  for field in THOUGHT_FIELDS:
    if field != answer_field:
      thought, more = _text(message.get(field))
      thoughts += [thought, *more]
  refusal = "" if said else _text(message.get("refusal"))[0]
  said = said or refusal
  shown = visible(said)
  text, stopped = cut_at_stop(shown.text, request.sampling.stop)
  reason = "stop" if stopped else "refusal" if refusal else _finish_reason(choice, answer)
  if not shown.whole and reason == "stop":
    reason = "length"
  thought = "\n\n".join(dict.fromkeys(filter(None, [*thoughts, shown.thought])))  # some send it twice
  prompt_tokens, completion_tokens, counted = _tokens(answer.get("usage"), request, said + thought)
  return Response(
    id=request.id,
    text=text,
    thought=thought,
    finish_reason=reason,
    prompt_tokens=prompt_tokens,
    completion_tokens=completion_tokens,
    counted=counted,
  )


def _text(content: Any) -> tuple[str, list[str]]:
  """(the text, the thoughts) of a content that is a text, a part, a list of parts or nothing."""
  if isinstance(content, str):
    return content, []
  if isinstance(content, dict):
    inner = next((content[key] for key in ("text", "content", "thinking", "summary") if content.get(key)), "")
    text, thoughts = _text(inner)
    return ("", [*thoughts, text]) if content.get("type") in THOUGHT_PARTS else (text, thoughts)
  if isinstance(content, list):
    parts = [_text(part) for part in content]
    return "".join(text for text, _ in parts), [thought for _, thoughts in parts for thought in thoughts]
  return "", []


def _finish_reason(choice: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
  """`stop` where the model ended by itself, `length` where it ran out of tokens, else what the endpoint calls it."""
  said = choice.get("finish_reason") or answer.get("stop_reason") or answer.get("done_reason")
  name = str(said).lower() if said else "none"
  return "stop" if name in TRUE_ENDS else "length" if name in CUT_OFF else name[:40]


def _tokens(usage: Any, request: Request, said: str) -> tuple[int, int, bool]:
  """(prompt, response) tokens as the endpoint counts them; what it does not count, or absurdly, is estimated.

  The third value says whether both are counted.
  """
  counts = usage if isinstance(usage, dict) else {}
  asked, wrote = (len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN for text in (request.prompt, said))
  prompt = _count(counts.get("prompt_tokens", counts.get("input_tokens")), least=1)
  completion = _count(counts.get("completion_tokens", counts.get("output_tokens")), least=1 if said else 0)
  total = _count(counts.get("total_tokens"), least=1)
  # some leave the tokens of the thought to the sum
  if total is not None and prompt is not None and completion is not None:
    completion = max(completion, total - prompt)
  return (
    round(asked) + CHAT_OVERHEAD if prompt is None else prompt,
    round(wrote) + 1 if completion is None else completion,
    None not in (prompt, completion),
  )


def _count(value: Any, *, least: int) -> int | None:
  if isinstance(value, str) and value.isdecimal():
    value = _integer(value)
  good = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= MAX_TOKENS_COUNTED
  return int(value) if good else None
