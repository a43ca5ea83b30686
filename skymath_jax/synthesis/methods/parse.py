"""Strict reading of what the teacher wrote: a reply has the asked form, or it is rejected with a reason.

>>> solution(reply)      # "5 + 3 = 8\\nThe answer is 8." → response "5 + 3 = 8\\nThe answer is 8", answer "8"
>>> question(reply)      # the text of a new question; no label of the prompt, no answer in it
>>> sections(reply, …)   # the texts below labelled headings, each there once and in order

Tolerated everywhere: Markdown asterisks or hashes around a label or the last line, a colon after the marker, one
closing full stop. The stored form has none of these.
"""

import re

from skymath_jax.generation.visible import flaw
from skymath_jax.prompts import Prompt
from skymath_jax.records import ANSWER_MARKER
from skymath_jax.synthesis.methods.base import Rejection, Reply, Worked

_MARKER = ANSWER_MARKER.strip()
_LAST_LINE = re.compile(rf"\s*\**\s*{_MARKER}\b\**:?\**(?P<answer>.*)", re.DOTALL)


def solution(reply: Reply) -> Worked:
  """The worked solution of a reply whose last line, and no other place, holds the answer marker."""
  text = whole(reply)
  body, _, last = text.rpartition("\n")
  match = _LAST_LINE.fullmatch(last)
  if _MARKER not in text:
    raise Rejection("no_answer_line", text)
  if text.count(_MARKER) > 1:
    raise Rejection("several_answer_lines", text)
  if match is None:
    raise Rejection("answer_not_on_last_line", text)
  return worked(reply, body, match["answer"])


def worked(reply: Reply, body: str, answer: str) -> Worked:
  """Body and answer joined to the one response format; both must say something."""
  body, answer = body.strip(), _bare(answer)
  if not answer:
    raise Rejection("empty_answer", reply.text)
  if "\n" in answer:
    raise Rejection("answer_of_several_lines", reply.text)
  if not body:
    raise Rejection("no_solution", reply.text)
  if _MARKER in body or _MARKER in answer:
    raise Rejection("several_answer_lines", reply.text)
  return Worked(response=f"{body}\n{ANSWER_MARKER}{answer}", answer=answer, reply=reply)


def _bare(answer: str) -> str:
  return answer.strip().strip("*").strip().removesuffix(".").strip().strip("*").strip()


def question(reply: Reply, *, labels_refused: bool = True) -> str:
  """The question a reply consists of; rejected where it holds an answer or (if refused) a label of its prompt."""
  return checked_question(whole(reply), (*labels(reply.prompt), "Solution:") if labels_refused else ())


def checked_question(text: str, refused: tuple[str, ...]) -> str:
  """`text` as a question: not empty, no answer marker, none of the `refused` labels."""
  text = text.strip()
  if not text:
    raise Rejection("empty", text)
  if _MARKER in text:
    raise Rejection("answer_in_question", text)
  for label in refused:  # as it is anywhere, in any case at the beginning of a line
    if re.search(rf"\b{re.escape(label)}|(?mi:^\W*{re.escape(label)})", text):
      raise Rejection("label_in_question", text)
  return text


def labels(prompt: Prompt) -> tuple[str, ...]:
  """The headings of a prompt, such as `New problem:`: what may not turn up in the text it asks for."""
  lines = (line.strip() for line in prompt.text.splitlines())
  return tuple(line for line in lines if line.endswith(":") and len(line.split()) <= 4)


def sections(reply: Reply, *headings: str) -> list[str]:
  """The texts below `headings`, each of which must begin exactly one line, in this order, first in the reply."""
  text, found = whole(reply), []
  for heading in headings:
    matches = list(re.finditer(rf"^[ \t#*]*{re.escape(heading)}[ \t*]*", text, re.MULTILINE))
    if len(matches) != 1:
      raise Rejection("section_missing" if not matches else "section_repeated", text)
    found.append(matches[0])
  ends = [match.start() for match in found[1:]] + [len(text)]
  if found[0].start() != 0 or any(match.end() > end for match, end in zip(found, ends, strict=True)):
    raise Rejection("sections_out_of_order", text)
  texts = [text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)]
  if not all(texts):
    raise Rejection("empty_section", text)
  return texts


def whole(reply: Reply) -> str:
  """The reply's text, stripped, with plain line ends.

  Raises:
    Rejection: it was cut off, says nothing, or holds what may not become data.
  """
  text = reply.text.replace("\r\n", "\n").strip()
  if reply.finish_reason != "stop":
    raise Rejection("truncated" if reply.finish_reason == "length" else f"unfinished: {reply.finish_reason}", text)
  if not text:
    raise Rejection("only_thought" if reply.thought else "empty", reply.thought)
  if found := flaw(text):
    raise Rejection(found, text)
  return text
