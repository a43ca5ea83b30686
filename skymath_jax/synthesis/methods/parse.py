r"""Reading of what the teacher wrote: a reply says what was asked for, or it is rejected with a reason.

>>> solution(reply)      # "5 + 3 = 8\\nThe answer is 8." → response "5 + 3 = 8\\nThe answer is 8", answer "8"
>>> question(reply)      # the text of a new question; no label of the prompt, no answer in it
>>> sections(reply, …)   # the texts below labelled headings, each there once and in order

Real models were read for this: they greet ("Sure, here is …:"), repeat the label they were given, set headings in bold,
end with `\boxed{8}` although asked for words, solve what they were to reword, and wish good luck. What says the asked
thing in another dress is taken; the stored form has one dress. What says two different things is rejected.
"""

import re

from skymath_jax.generation.visible import flaw
from skymath_jax.grading.boxes import adjacent_boxes, last_box
from skymath_jax.grading.markers import HASHES, HEADING, PHRASE
from skymath_jax.prompts import Prompt
from skymath_jax.records import ANSWER_MARKER
from skymath_jax.synthesis.methods.base import Rejection, Reply, Worked

_MARKER = ANSWER_MARKER.strip()
_DRESS = r"[\s*_#>`]*"  # Markdown around a label
_QUOTES = "\"'“”‘’`"
# A sentence that speaks of the marker and states nothing; sought from its beginning alone, so that one pass is enough
_MENTION = re.compile(rf"(?:\A|(?<=[.!?\n]))[^.!?\n]*[{_QUOTES}]{_MARKER}[,.:]?[{_QUOTES}][^.!?\n]*[.!?]?")
_ANNOUNCED = re.compile(
  r"(?i)(?:\A|\n)[ \t*#]*(?:(?:step )?\d+[.:)][ \t]*)?"
  r"(?:[^\n\d\\]{0,60}\b(?:last|final) (?:line|answer)\b[^\n\d]{0,60})?\Z"
)
_RETRACTED = re.compile(r"(?i)[\d\\$=]|\b(?:wait|wrong|mistaken?|error|incorrect|actually|however|not|but)\b")
_SOLUTION = re.compile(rf"(?i)\A{_DRESS}solution{_DRESS}:{_DRESS}")
_SENTENCE = re.compile(r"(?s)(?<=[.!?\n])[^.!?\n]*\Z|\A[^.!?\n]*\Z")  # the beginning of one, at the end of a text
_COURTESY = re.compile(
  r"(?i)\n\s*(?:i hope|hope (?:this|that)|(?:please )?let me know|if you (?:have|need)|feel free"
  r"|is there anything|good luck|great job|well done|keep (?:up|practicing))[^\n\d\\$]*\Z"
)
_TASK = r"(?:problem|question|wording|version|statement)"
_GREETING = re.compile(
  r"(?i)\A\W*(?:(?:sure|certainly|of course|absolutely|okay|ok|great|alright|yes)\b[^\n]{0,200}?[:!.]\W*\n"
  rf"|here(?:'s|’s| is| are)\b[^\n]{{0,120}}\b{_TASK}\b[^\n]{{0,60}}:\W*\n"
  rf"|[^\n]{{0,300}}\b(?:here(?:'s|’s| is)|(?:new|re\w+|revised|final) (?:math(?:ematics)? )?{_TASK})\b[^\n]{{0,120}}:"
  r"[\s*]*\n[ \t]*\n)\s*"
)
_SOLVED = re.compile(rf"(?im)\n{_DRESS}(?:solution|answer|explanation|final answer){_DRESS}:.*\Z", re.DOTALL)
_WRAPPED = tuple(
  re.compile(form, re.DOTALL)
  for form in (
    r"\\\[(?P<inner>(?:(?!\\\[).)*)\\\]", r"\\\((?P<inner>(?:(?!\\\().)*)\\\)", r"\$\$(?P<inner>[^$]*)\$\$",
    r"```\w*\n(?P<inner>[^`]*)```", r"`(?P<inner>[^`]*)`", r"_(?P<inner>[^_]*)_", r"\$\{(?P<inner>[^{}$]*)\}\$",
    r"<(b|strong|em|i|u)>(?P<inner>.*)</\1>", r"\\text\{(?P<inner>[-\d.,]+)\}",
    r"(\$?)\\(?:fbox|framebox|bbox)\{(?P<inner>[^{}]*)\}\1", r"(\$?)\\(?:math|text)bf\{(?P<inner>[-\d.,]+)\}\1",
    r"(\$?)\{?\\color\{?\w+\}?\{(?P<inner>[^{}]*)\}\}?\1",
  )
)  # fmt: skip


def solution(reply: Reply) -> Worked:
  """The worked solution of a reply that ends with its answer: after the marker, in words that mean it, or in a box.

  Raises:
    Rejection: it ends without an answer, or gives several.
  """
  text = _COURTESY.sub("", _ruled(whole(reply))).rstrip()
  if text.endswith("\n```") and text.count("```") == 2:
    text = re.sub(r"\n?```\w*", "", text).strip()
  text = _without_remark(_MENTION.sub("", _SOLUTION.sub("", text)).strip())
  if (box := last_box(text)) and _MARKER in box:
    text = text[: text.rfind("\\boxed")] + box
  body, marker, answer = text.rpartition(_MARKER)
  if marker:
    if body[-1:] in _QUOTES and answer.rstrip()[-1:] in _QUOTES:
      body = body[:-1]
    answer = _stated(answer)
    if "\n" in answer:
      raise Rejection("answer_not_on_last_line", text)
    return worked(reply, body, answer)
  end = text.rpartition("\n\n")[2]
  if boxed := adjacent_boxes(end) or last_box(end):
    return worked(reply, text, boxed)
  for match in (*HEADING.finditer(text), *HASHES.finditer(text), *PHRASE.finditer(text)):  # other words for the marker
    answer = _bare(text[match.end() :] or match[1])
    if answer and "\n" not in answer:
      return worked(reply, _SENTENCE.split(text[: match.start()])[0], answer)
  raise Rejection("no_answer_line", text)


def worked(reply: Reply, body: str, answer: str) -> Worked:
  """Body and answer joined to the one response format; both must say something.

  Raises:
    Rejection: one says nothing, or the body states another answer.
  """
  body, answer = body.strip(), _bare(answer)
  if not answer:
    raise Rejection("empty_answer", reply.text)
  if "\n" in answer:
    raise Rejection("answer_of_several_lines", reply.text)
  if _MARKER in body and _only_this(body, answer):
    body = _SENTENCE.split(body.partition(_MARKER)[0])[0]
  body = _ANNOUNCED.sub("", body.rstrip(" \t\n*-_>#")).strip()
  if not body:
    raise Rejection("no_solution", reply.text)
  if _MARKER in body or _MARKER in answer:
    raise Rejection("several_answer_lines", reply.text)
  return Worked(response=f"{body}\n{ANSWER_MARKER}{answer}", answer=answer, reply=reply)


def _stated(text: str) -> str:
  """The answer in what follows a marker."""
  answer = text.lstrip("*_ ").lstrip(":：")
  return _bare(answer.strip().strip(_QUOTES) if answer.count("`") < 2 else answer)


def _only_this(body: str, answer: str) -> bool:
  """Whether all markers of a body state `answer` already, and nothing is worked out behind them."""
  lines = [text.partition("\n") for text in body.split(_MARKER)[1:]]
  return not any(_stated(line) != answer or re.search(r"[\d\\$=]", more) for line, _, more in lines)


def _without_remark(text: str) -> str:
  """A text without its last paragraph, where that only follows an answer and neither works on nor takes it back."""
  before, _, last = text.rpartition("\n\n")
  end = before.rpartition("\n\n")[2]
  if _MARKER in last or _RETRACTED.search(last) or not (_stated(end.partition(_MARKER)[2]) or last_box(end)):
    return text
  return before


def _bare(answer: str) -> str:
  """The answer without what only sets it off: bold, a full stop, display mathematics, code, a box."""
  while True:
    before = answer
    answer = answer.strip().strip("*").removesuffix("</answer>").strip().removesuffix(".").removesuffix("。").strip()
    for form in _WRAPPED:
      if match := form.fullmatch(answer):
        inner = match["inner"].strip()
        formula = "\\" in inner and last_box(inner) is None and "`" not in answer
        answer = f"${inner}$" if formula else inner
    if answer.count("\\boxed") == 1 and (boxed := last_box(answer)) is not None:
      answer = boxed
    if answer == before:
      return answer


def question(reply: Reply, *, labels_refused: bool = True) -> str:
  """The question a reply consists of, without a greeting, the label that asked for it, and a solution behind it.

  Raises:
    Rejection: it holds an answer, or (if refused) a label of its prompt.
  """
  own = labels(reply.prompt)
  text = whole(reply)
  for label in own[-1:]:
    text = re.sub(rf"(?i)\A{_DRESS}{re.escape(label[:-1])}{_DRESS}:{_DRESS}", "", _GREETING.sub("", text))
  return checked_question(text, (*own, "Solution:") if labels_refused else ())


def checked_question(text: str, refused: tuple[str, ...]) -> str:
  """`text` as a question: not empty, no answer marker, none of the `refused` labels; a solution behind it is cut off.

  Raises:
    Rejection: it is none.
  """
  if refused:
    text = _SOLVED.sub("", text)
  text = text.strip()
  if text[:1] + text[-1:] in ('""', "“”"):
    text = text[1:-1].strip()
  if text.startswith("**") and text.endswith("**") and text.count("**") == 2:
    text = text[2:-2].strip()
  if not text:
    raise Rejection("empty", text)
  if _MARKER in text or "\\boxed" in text:
    raise Rejection("answer_in_question", text)
  for label in refused:  # as it is anywhere, in any case at the beginning of a line
    if re.search(rf"\b{re.escape(label)}|(?mi:^\W*{re.escape(label)})", text):
      raise Rejection("label_in_question", text)
  return text


def require_changed(question: str, given: str) -> None:
  """Raises a `Rejection` where `question` is the given one: its answer would pass for that of a new problem."""
  if question.casefold().split() == given.casefold().split():
    raise Rejection("unchanged", question)


def labels(prompt: Prompt) -> tuple[str, ...]:
  """The headings of a prompt, such as `New problem:`: what may not turn up in the text it asks for."""
  lines = (line.strip() for line in prompt.text.splitlines())
  return tuple(line for line in lines if line.endswith(":") and len(line.split()) <= 4)


def sections(reply: Reply, *headings: str) -> list[str]:
  """The texts below `headings`, each of which must begin exactly one line, in this order, first in the reply.

  Raises:
    Rejection: one is missing, empty, out of order or there twice.
  """
  text, found = _GREETING.sub("", whole(reply)), []
  for heading in headings:
    name = re.escape(heading.removesuffix(":"))
    form = rf"(?im)^[ \t#*_>]*(?:\d+[.)][ \t*_]*)?{name}[ \t*_]*(?:[:：][ \t*_]*|$)"
    matches = list(re.finditer(form, text))
    if len(matches) != 1:
      raise Rejection("section_missing" if not matches else "section_repeated", text)
    found.append(matches[0])
  ends = [match.start() for match in found[1:]] + [len(text)]
  if found[0].start() != 0 or any(match.end() > end for match, end in zip(found, ends, strict=True)):
    raise Rejection("sections_out_of_order", text)
  texts = [_ruled(text[match.end() : end]) for match, end in zip(found, ends, strict=True)]
  if not all(texts):
    raise Rejection("empty_section", text)
  return texts


def _ruled(text: str) -> str:
  """A section without the rule that Markdown draws below it."""
  return re.sub(r"\n\s*-{3,}\s*\Z", "", text.strip()).strip()


def whole(reply: Reply) -> str:
  """The reply's text, stripped, with plain line ends.

  Raises:
    Rejection: it was cut off, says nothing, or holds what may not become data.
  """
  text = reply.text.replace("\r\n", "\n").strip()
  if reply.finish_reason == "length" and reply.thought and not text:
    raise Rejection("thought_unclosed", reply.thought)
  if reply.finish_reason != "stop":
    raise Rejection("truncated" if reply.finish_reason == "length" else f"unfinished: {reply.finish_reason}", text)
  if not text:
    raise Rejection("only_thought" if reply.thought else "empty", reply.thought)
  if found := flaw(text):
    raise Rejection(found, text)
  return text
