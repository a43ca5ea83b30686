"""A tokenizer's chat template, rendered as transformers renders it, and its text as token ids.

A template is a Jinja text that travels with the tokenizer. It comes from whoever made the model, and the messages from
whoever asks: the former runs apart (`sandbox`), and control tokens that the latter spell stay text.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from skymath_jax.chat.renderer import RENDERER
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected
from skymath_jax.tokenizer import Tokenizer

Messages: TypeAlias = Sequence[Mapping[str, Any]]  # each has `role` and `content`
Span: TypeAlias = tuple[int, int]  # from, to: characters of a text
Rendered: TypeAlias = tuple[str, list[Span]]  # a text, and what of it is the assistant's
_PRIVATE = range(0xF0000, 0xFFFFE)  # characters that mean nothing; two that nobody uses mark what somebody spelled
_BORDERS = ("\n", "\x02")  # the second joins no token: it is one of bytes


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A chat template. `special` are the tokens it may name: `bos_token`, …; `literals` all text that it holds itself."""

  text: str
  special: Mapping[str, str]
  literals: str

  def render(self, messages: Messages, *, answer_follows: bool = True, **more: Any) -> str:
    """The conversation as text, which holds its bos token itself where the template wants one.

    Args:
      messages: each with `role` and `content`; keys that are None are not there.
      answer_follows: end with what an answer begins with (transformers' `add_generation_prompt`).
      **more: what this template takes besides, such as `enable_thinking`.

    Raises:
      RequestRejected: the template does not take these messages, or makes too much of them.
    """
    return self.render_spans(messages, answer_follows=answer_follows, **more)[0]

  def render_spans(self, messages: Messages, *, answer_follows: bool, **more: Any) -> Rendered:
    """`render`, and what of it the template marks as the assistant's (`{% generation %}`), in order.

    Raises:
      RequestRejected: see `render`.
    """
    fields = {"tools": None, "documents": None, **self.special, **more, "add_generation_prompt": answer_follows}
    told = RENDERER.ask(template=self.text, messages=list(messages), fields=fields)
    return told["text"], _spans(told)

  def render_all(self, asked: Sequence[tuple[Messages, bool]]) -> list[Rendered | RequestRejected]:
    """Text and marks, as `render_spans` has them, of each (messages, `answer_follows`); a refusal in its place.

    The way to the process that renders takes longer than rendering, so all go together.
    """
    if not asked:
      return []
    several = [[list(messages), follows] for messages, follows in asked]
    fields = {"tools": None, "documents": None, **self.special}
    try:
      told = RENDERER.ask(template=self.text, several=several, fields=fields)["several"]
    except RequestRejected as error:  # one of them asks for too much, or all do together
      if len(asked) == 1:
        return [error]
      half = len(asked) // 2
      return [*self.render_all(asked[:half]), *self.render_all(asked[half:])]
    return [_refusal(each["error"]) if "error" in each else (each["text"], _spans(each)) for each in told]


def _spans(told: Mapping[str, Any]) -> list[Span]:
  return [(start, stop) for start, stop in told["spans"]]


def _refusal(why: str) -> RequestRejected:
  return RequestRejected(f"the chat template refuses these messages ({why})", where="messages")


def read(text: str, tokenizer: Tokenizer, *, where: Any) -> ChatTemplate:
  """A chat template from its Jinja text.

  Raises:
    UserError: it cannot be read.
  """
  try:
    return ChatTemplate(text, tokenizer.special_tokens, RENDERER.ask(template=text)["text"])
  except RequestRejected as error:
    raise UserError(f"the chat template cannot be read ({error.what})", where=where, remedy="correct it") from None


def template_of(tokenizer: Tokenizer) -> ChatTemplate | None:
  """The chat template that came with the tokenizer; None if none did.

  Raises:
    UserError: it cannot be read.
  """
  text = tokenizer.chat_template
  return None if text is None else read(text, tokenizer, where="chat_template.jinja or tokenizer_config.json")


@dataclasses.dataclass(frozen=True)
class Marked:
  """A conversation in which each control token that somebody's text spells stands between two characters.

  Those are characters that occur in none of its texts, so what a user writes can neither be lost nor taken for one.
  """

  messages: Messages
  split: re.Pattern[str] | None  # finds a token between its two, or one of the two alone; None: nothing is spelled
  opening: str = ""
  closing: str = ""

  def pieces(self, text: str) -> Iterator[tuple[str, int, bool]]:
    """(piece, where it begins in `text`, whether it is text that spells a control token) of a rendered text."""
    if self.split is None:
      yield text, 0, False
      return
    at = 0
    for found in self.split.finditer(text):
      yield text[at : found.start()], at, False
      if spelled := found[1]:
        yield spelled, found.start(1), True
      at = found.end()
    yield text[at:], at, False


def mark(tokenizer: Tokenizer, template: ChatTemplate, messages: Messages) -> Marked:
  """The messages with their control tokens marked.

  In everybody's text those are the special tokens. In all but the assistant's also the tokens that the template writes
  though they are not special, such as the `<think>` of some: a model writes them itself.
  """
  special = tokenizer.control_tokens
  named = tuple(token for token in tokenizer.added_tokens if token in template.literals and not token.isspace())
  patterns = {True: _any_of(special), False: _any_of(tuple({*special, *named}))}
  by_role = [(message, patterns[message.get("role") == "assistant"]) for message in messages]
  if not any(pattern.search(text) for message, pattern in by_role for text in _strings(message)):
    return Marked(messages, None)
  used = set(itertools.chain(template.text, *_strings(messages)))
  free = (chr(code) for code in _PRIVATE if chr(code) not in used)
  opening, closing = next(free, ""), next(free, "")
  if not closing:
    raise RequestRejected("the text uses every character there is", where="messages")
  instead = f"{opening}\\g<0>{closing}"
  changed = [_mapped(message, functools.partial(pattern.sub, instead)) for message, pattern in by_role]
  split = re.compile(f"{opening}({patterns[False].pattern}){closing}|[{opening}{closing}]")
  return Marked(changed, split, opening, closing)


def encode_messages(tokenizer: Tokenizer, template: ChatTemplate, messages: Messages, **options: Any) -> list[int]:
  """Token ids of a conversation, as transformers' `apply_chat_template` gives them.

  A control token that somebody's text spells is encoded as text: nobody ends a turn by writing so.

  Args:
    tokenizer: whose template it is.
    template: from `template_of` or `read`.
    messages: the conversation.
    **options: see `ChatTemplate.render`.

  Raises:
    RequestRejected: the template does not take these messages.
  """
  marked = mark(tokenizer, template, messages)
  return encode_rendered(tokenizer, marked, template.render(marked.messages, **options))[0]


def encode_rendered(tokenizer: Tokenizer, marked: Marked, text: str) -> tuple[list[int], list[Span]]:
  """Token ids of a rendered text, and which characters of it each stands for.

  Raises:
    RequestRejected: the text cannot be tokenized.
  """
  ids: list[int] = []
  spans: list[Span] = []
  try:
    if marked.split is None:
      return tokenizer.encode_spans(text)
    for piece, start, plain in marked.pieces(text):
      if piece:
        found, where = _encode_piece(tokenizer, piece, plain=plain, first=start == 0)
        ids += found
        spans += [(start + a, start + b) for a, b in where]
  except (ValueError, TypeError, UnicodeError) as error:  # such as half a surrogate pair
    raise RequestRejected(f"the text cannot be tokenized ({error})", where="messages") from None
  return ids, spans


def _encode_piece(tokenizer: Tokenizer, piece: str, *, plain: bool, first: bool) -> tuple[list[int], list[Span]]:
  """A piece that is not the first stands behind something else, since some tokenizers put a blank before a text."""
  ids, spans = tokenizer.encode_spans(piece, plain=plain)
  for border in () if first else _BORDERS:
    before = tokenizer.encode_spans(border, plain=plain)[0]
    both, where = tokenizer.encode_spans(border + piece, plain=plain)
    if both[: len(before)] == before:
      ids, spans = both[len(before) :], [(start - 1, stop - 1) for start, stop in where[len(before) :]]
      break
  if plain and tokenizer.token_id(piece) in ids and len(piece) > 1:  # some cutters look for whole words first
    letters = [_encode_piece(tokenizer, letter, plain=True, first=False) for letter in piece]
    ids = [i for found, _ in letters for i in found]
    spans = [(at + a, at + b) for at, (_, where) in enumerate(letters) for a, b in where]
  return ids, spans


@functools.cache
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
  """Finds the longest of these tokens; nothing, if there are none."""
  return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=lambda t: (-len(t), t))) or "(?!)")


def _strings(value: Any) -> list[str]:
  if isinstance(value, str):
    return [value]
  inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
  return [text for item in inner for text in _strings(item)]


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
  """The same structure with every string changed."""
  if isinstance(value, str):
    return change(value)
  if isinstance(value, Mapping):
    return {key: _mapped(item, change) for key, item in value.items()}
  return [_mapped(item, change) for item in value] if isinstance(value, list | tuple) else value
