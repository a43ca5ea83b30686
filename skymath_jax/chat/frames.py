"""What a model is trained on: rows as token ids, which of them are trained, and the chat template that says the same.

  sft/alpaca         a frame of `prompts/`; prompt and response are encoded apart, as the recipe always did
  chat, chat:FRAME   the tokenizer's own chat template; the query (in FRAME) is the user's message
  path/to/my.jinja   a chat template from a file
  …+thoughts         any of them; what a reasoning teacher thought is trained before each answer that has a thought

In a chat template the whole conversation is encoded once. What is trained of it is each answer, from where the prompt
that asks for it ends to the first token that ends a response.
"""

import bisect
import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from skymath_jax import prompts
from skymath_jax.chat import thoughts as thoughts_lib
from skymath_jax.chat.template import (
  ChatTemplate,
  Marked,
  Messages,
  Rendered,
  Span,
  encode_messages,
  encode_rendered,
  mark,
  read,
  template_of,
)
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected
from skymath_jax.tokenizer import Tokenizer

Row: TypeAlias = Mapping[str, Any]  # query and response, or messages

CHAT = "chat"
NO_END = "the chat template writes no end token after an answer"
_ANSWER = "\ufffc"  # stands for an answer, to see where it begins
_CHECKED = ("What is 12 + 3?", "x", "Über 日本:\n\n  a_1\n")  # queries whose ids a template must get right


@dataclasses.dataclass(frozen=True)
class Example:
  """One row: `tokens`, and as many `trained`."""

  tokens: list[int]
  trained: list[bool]


class Frame(Protocol):
  """How rows become examples. `hash`, 16 hex digits, changes with the text around queries and answers."""

  @property
  def hash(self) -> str: ...

  def example(self, row: Row, where: str) -> Example | None:
    """The example of a row; None where there is no answer in it.

    Raises:
      UserError: the row lacks something, or the frame does not fit it.
    """
    ...

  def examples(self, rows: Sequence[Row], where: Sequence[str]) -> list[Example | None]:
    """`example` of each row, faster.

    Raises:
      UserError: see `example`.
    """
    ...


class Words(Protocol):
  """What a frame of ours needs of a tokenizer."""

  @property
  def eos_id(self) -> int | None: ...

  def encode(self, text: str, *, bos: bool = False) -> list[int]: ...


def load(name: str, tokenizer: Any) -> Frame:
  """The frame that `training.template` names.

  Raises:
    UserError: there is none, the tokenizer has no chat template or end token, or one that cannot be used.
  """
  thoughts, name = name.endswith(thoughts_lib.SUFFIX), name.removesuffix(thoughts_lib.SUFFIX)
  if name.partition(":")[0] == CHAT:
    template = template_of(tokenizer)
    if template is None:
      remedy = "name a frame, such as sft/alpaca, or the file of a chat template"
      raise UserError("the model's tokenizer has no chat template", where="config.training.template", remedy=remedy)
    return ChatFrame(tokenizer, template, prompts.load(name.partition(":")[2] or "raw"), thoughts=thoughts)
  if name.endswith(".jinja"):
    path = Path(os.path.expanduser(name))
    if not path.is_file():
      raise UserError("no such file", where=f"config.training.template={name}", remedy="name the file of a template")
    return ChatFrame(tokenizer, read(path.read_text(), tokenizer, where=path), prompts.load("raw"), thoughts=thoughts)
  return PromptFrame(tokenizer, prompts.load(name), thoughts=thoughts)


def dressed(tokenizer: Tokenizer, name: str) -> Tokenizer:
  """The tokenizer of a model that is trained in the frame `name`: with its chat template, and all its end tokens.

  Raises:
    UserError: see `load`.
  """
  frame = load(name, tokenizer)
  if isinstance(frame, ChatFrame):
    return tokenizer.speaking(frame.template.text, frame.end_ids)
  text = jinja_of(
    prompts.load(name.removesuffix(thoughts_lib.SUFFIX)), tokenizer, thoughts=name.endswith(thoughts_lib.SUFFIX)
  )
  return tokenizer.speaking(text, tokenizer.end_ids)


def framed(frame: prompts.Prompt) -> Callable[[str], str]:
  """query → prompt. Rendering a template costs 0.4 ms, so it is rendered once around a mark that no text contains."""
  parts = _parts(frame)
  if parts is None:
    return lambda query: frame.render(query=query)
  before, after = parts
  return lambda query: f"{before}{query}{after}"


def _parts(frame: prompts.Prompt) -> tuple[str, str] | None:
  """What a frame writes before and after its query; None where that is not all."""
  found = frame.render(query="\0query\0").split("\0query\0")
  return (found[0], found[1]) if len(found) == 2 else None


class PromptFrame:
  """A frame of ours: `{query, response}` → what the tokenizer puts before a text, the prompt, the response, eos."""

  def __init__(self, tokenizer: Words, frame: prompts.Prompt, *, thoughts: bool = False):
    if tokenizer.eos_id is None:
      remedy = "set eos_token in tokenizer_config.json"
      raise UserError("the tokenizer has no EOS token", where="tokenizer", remedy=remedy)
    self._tokenizer, self._eos_id, self._framed = tokenizer, tokenizer.eos_id, framed(frame)
    self._thoughts = thoughts
    self.hash = frame.hash

  def example(self, row: Row, where: str) -> Example | None:
    """Prompt and response are encoded apart, as the server sees them; of `messages` there is one answer, the last.

    Raises:
      UserError: see `Frame`.
    """
    query, response = self._pair(row, where)
    prompt, answer = self._tokenizer.encode(self._framed(query), bos=True), self._tokenizer.encode(response)
    if not answer:
      return None
    return Example([*prompt, *answer, self._eos_id], [False] * len(prompt) + [True] * (len(answer) + 1))

  def examples(self, rows: Sequence[Row], where: Sequence[str]) -> list[Example | None]:
    """`example` of each row.

    Raises:
      UserError: see `Frame`.
    """
    return [self.example(row, place) for row, place in zip(rows, where, strict=True)]

  def _pair(self, row: Row, where: str) -> tuple[str, str]:
    messages = row.get("messages")
    if messages is None:
      return _required(row, "query", where), self._answer(_required(row, "response", where), row.get("thought"))
    *asked, last = messages
    if last["role"] != "assistant" or any(message["role"] == "assistant" for message in asked):
      what = "a conversation of several answers does not fit a frame of one question"
      raise UserError(what, where=where, remedy="set training.template=chat, or give query and response")
    return "\n\n".join(message["content"] for message in asked), self._answer(
      last["content"], last.get(thoughts_lib.KEY)
    )

  def _answer(self, response: str, thought: str | None) -> str:
    return thoughts_lib.aloud(thought, response) if self._thoughts and thought and response else response


def _required(row: Mapping[str, Any], key: str, where: str) -> str:
  if key not in row:
    raise UserError(f"the row has no key {key!r}", where=where, remedy="give query and response")
  found: str = row[key]
  return found


class ChatFrame:
  """A chat template: `{query, response}` or `{messages}` → the conversation as the template renders it.

  Attributes:
    end_ids: ids that end a response; the first is the one that the template writes after an answer.
  """

  def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, frame: prompts.Prompt, *, thoughts: bool = False):
    self.template = template
    self._tokenizer, self._framed = tokenizer, framed(frame)
    self._ends = {*tokenizer.end_ids, end := self._end_of_answers()}
    self.end_ids = (end, *(i for i in tokenizer.end_ids if i != end))
    self.hash = hashlib.sha256(template.text.encode()).hexdigest()[:16]
    self._think = thoughts_lib.way(template) if thoughts else thoughts_lib.without

  def example(self, row: Row, where: str) -> Example | None:
    """All of the conversation in one encoding.

    Raises:
      UserError: see `Frame`.
    """
    return self.examples([row], [where])[0]

  def examples(self, rows: Sequence[Row], where: Sequence[str]) -> list[Example | None]:
    """Each conversation in one encoding; the template renders all of them together, then all prompts in them.

    Raises:
      UserError: see `Frame`.
    """
    found: list[Example | None] = [None] * len(rows)
    held: dict[int, Marked] = {}
    for at, row in enumerate(rows):
      messages = self._messages(row, where[at])
      if any(message.get("role") == "assistant" and message.get("content") for message in messages):
        with _told(where[at]):
          held[at] = mark(self._tokenizer, self.template, messages)
    whole = dict(zip(held, self.template.render_all([(m.messages, False) for m in held.values()]), strict=True))
    turns = [(at, turn) for at, text in whole.items() for turn in self._to_find(held[at], text)]
    prompts_ = self.template.render_all([(held[at].messages[:turn], True) for at, turn in turns])
    before = dict(zip(turns, prompts_, strict=True))
    for at, marked in held.items():
      with _told(where[at]):
        text, spans = _accepted(whole[at])
        starts = [
          self._start(marked, text, turn, _accepted(before[at, turn])[0]) for turn in self._to_find(marked, whole[at])
        ]
        found[at] = self._encoded(marked, text, spans, starts)
    return found

  def _messages(self, row: Row, where: str) -> Messages:
    if "messages" in row:
      return [self._think(message) for message in row["messages"]]
    asked, said = self._framed(_required(row, "query", where)), _required(row, "response", where)
    answer = {"role": "assistant", "content": said, thoughts_lib.KEY: row.get("thought")}
    return [{"role": "user", "content": asked}, self._think(answer)]

  def _to_find(self, marked: Marked, rendered: Rendered | RequestRejected) -> list[int]:
    """The answers (by their turn) whose place in the text the template does not mark."""
    if isinstance(rendered, RequestRejected) or rendered[1]:
      return []
    return [at for at, message in enumerate(marked.messages) if message.get("role") == "assistant"]

  def _encoded(self, marked: Marked, text: str, spans: Sequence[Span], starts: Sequence[int]) -> Example:
    tokens, places = encode_rendered(self._tokenizer, marked, text)
    trained = [False] * len(tokens)
    for span in spans:
      self._train(trained, tokens, places, span)
    for start, bound in zip(starts, [*starts[1:], len(text)][: len(starts)], strict=True):
      self._train(trained, tokens, places, (start, self._end(tokens, places, start, bound)))
    return Example(tokens, trained)

  def _train(self, trained: list[bool], tokens: Sequence[int], places: Sequence[Span], span: Span) -> None:
    """Marks the tokens of a span, and the end token right behind it where the span has none."""
    first, after = _tokens_of(places, span)
    if not self._ends.intersection(tokens[first:after]):
      after += 1
      if after > len(tokens) or tokens[after - 1] not in self._ends:
        raise RequestRejected(NO_END, where="messages")
    trained[first:after] = [True] * (after - first)

  def _start(self, marked: Marked, text: str, turn: int, before: str) -> int:
    """Where in the text the answer of a turn begins: behind `before`, the prompt that asks for it.

    A template may render a prompt otherwise once more follows. Then the answer begins where another one would differ.
    """
    if text.startswith(before):
      return len(before)
    other = [*marked.messages]
    other[turn] = {**other[turn], "content": _ANSWER}
    instead = self.template.render(other, answer_follows=False)
    if instead == text:
      raise RequestRejected("the chat template leaves out an answer", where="messages")
    differs = (at for at, (one, two) in enumerate(zip(text, instead, strict=False)) if one != two)
    return next(differs, min(len(text), len(instead)))

  def _end(self, tokens: Sequence[int], places: Sequence[Span], start: int, bound: int) -> int:
    """Where the first end token from `start` on ends."""
    first, after = _tokens_of(places, (start, bound))
    ends = [tokens.index(token, first, after) for token in self._ends.intersection(tokens[first:after])]
    if not ends:
      raise RequestRejected(NO_END, where="messages")
    return places[min(ends)][1]

  def _end_of_answers(self) -> int:
    """The first control token that the template writes after an answer.

    Raises:
      UserError: it writes none, so a model would not learn to end.
    """
    asked: Messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
    try:
      text = self.template.render(asked, answer_follows=False)
      tokens, places = encode_rendered(self._tokenizer, Marked(asked, None), text)
    except RequestRejected as error:
      raise UserError(error.what, where="config.training.template", remedy="give another template") from None
    tail = tokens[_tokens_of(places, (text.rfind(_ANSWER) + 1, len(text)))[0] :] if _ANSWER in text else []
    control = {*map(self._tokenizer.token_id, self._tokenizer.control_tokens), *self._tokenizer.end_ids}
    if (end := next((i for i in tail if i in control), None)) is not None:
      return end
    raise UserError(
      f"{NO_END}: a model trained so never ends",
      where="config.training.template",
      remedy="write {{ eos_token }} after each answer",
    )


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
  """Names the row that a template does not take."""
  try:
    yield
  except RequestRejected as error:
    remedy = "leave the row out, or give another training.template"
    raise UserError(error.what, where=where, remedy=remedy) from None


def _accepted(rendered: Rendered | RequestRejected) -> Rendered:
  if isinstance(rendered, RequestRejected):
    raise rendered
  return rendered


def _tokens_of(places: Sequence[Span], span: Span) -> tuple[int, int]:
  """The tokens (from, to) that stand for any of these characters."""
  first = bisect.bisect_right(places, span[0], key=lambda place: place[1])
  after = bisect.bisect_left(places, span[1], lo=first, key=lambda place: place[0])
  return first, after


def jinja_of(frame: prompts.Prompt, tokenizer: Tokenizer, *, thoughts: bool = False) -> str | None:
  """A chat template that writes what a model was trained on in a frame of ours; None where a template cannot.

  What stands before an answer is one query, its messages two lines apart.
  """
  parts, prompt = _parts(frame), framed(frame)
  if parts is None or tokenizer.eos_id is None:
    return None
  before = "".join(tokenizer.token(i) for i in tokenizer.before)
  for blank in ("", " "):  # some tokenizers put one before a text, but not behind a control token
    text = _jinja(f"{before}{blank if before else ''}", parts, tokenizer.token(tokenizer.eos_id), thoughts)
    template = read(text, tokenizer, where="the frame's chat template")
    if all(
      encode_messages(tokenizer, template, [{"role": "user", "content": query}])
      == tokenizer.encode(prompt(query), bos=True)
      for query in _CHECKED
    ):
      return text
  return None


def _jinja(start: str, parts: tuple[str, str], end: str, thoughts: bool) -> str:
  before, after = map(_literal, parts)
  opening, closing = map(_literal, thoughts_lib.MARKS)
  thought = f"message['{thoughts_lib.KEY}']"
  thinks = f"({opening} + {thought} + {closing} if {thought} else '') + " if thoughts else ""
  return f"""{{%- set frame = namespace(query=none) %}}
{{{{- {_literal(start)} }}}}
{{%- for message in messages %}}
  {{%- if message['role'] == 'assistant' %}}
    {{{{- {before} + (frame.query or '') + {after} + {thinks}message['content'] + {_literal(end)} }}}}
    {{%- set frame.query = none %}}
  {{%- elif frame.query is none %}}
    {{%- set frame.query = message['content'] %}}
  {{%- else %}}
    {{%- set frame.query = frame.query + '\\n\\n' + message['content'] %}}
  {{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
  {{{{- {before} + (frame.query or '') + {after} }}}}
{{%- endif %}}
"""


@functools.cache
def _literal(text: str) -> str:
  """A string in Jinja."""
  return "'" + text.encode("unicode_escape").decode().replace("'", "\\'") + "'"
