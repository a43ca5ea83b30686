"""Chat messages as the token ids that a model was trained on: its own chat template, as transformers renders it.

A template is a Jinja text that travels with the tokenizer. It comes from whoever made the model, and the messages from
whoever asks: the former runs in a sandbox, and control tokens that the latter spell stay text. A model without a
template gets a frame of `prompts/`: the recipe trains on `sft/alpaca`; `raw` is for base models.
"""

import dataclasses
import datetime
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected
from skymath_jax.tokenizer import Tokenizer

Messages: TypeAlias = Sequence[Mapping[str, Any]]  # each has `role` and `content`
MAX_CHARACTERS = 4_000_000  # of a rendered conversation
# Stand around a control token of somebody's text while the template is rendered: private-use characters
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"


class _Generation(jinja2.ext.Extension):
  """`{% generation %} … {% endgeneration %}` marks what the assistant says; it leaves the text as it is."""

  tags = {"generation"}

  def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

  def _text(self, caller: Callable[[], str]) -> str:
    return caller()


def _refuse(message: str) -> NoReturn:
  raise jinja2.TemplateError(message)


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)  # Jinja's own escapes HTML


@functools.cache
def _environment() -> jinja2.Environment:
  made = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
  )
  made.filters["tojson"] = _as_json
  made.globals["raise_exception"] = _refuse
  made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
  return made


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A tokenizer's chat template, compiled. `special` are the tokens it may name: `bos_token`, `eos_token`, …"""

  template: jinja2.Template
  special: Mapping[str, str]

  def render(self, messages: Messages, *, answer_follows: bool = True, **more: Any) -> str:
    """The conversation as text, which holds its bos token itself where the template wants one.

    Args:
      messages: each with `role` and `content`; keys that are None are not there.
      answer_follows: end with what an answer begins with (transformers' `add_generation_prompt`).
      **more: what this template takes besides, such as `enable_thinking`.

    Raises:
      RequestRejected: the template does not take these messages, or makes too much of them.
    """
    rows = [{key: value for key, value in message.items() if value is not None} for message in messages]
    found: list[str] = []
    length = 0
    try:
      fields = {"tools": None, "documents": None, **self.special, **more}
      for piece in self.template.generate(messages=rows, add_generation_prompt=answer_follows, **fields):
        length += len(piece)
        if length > MAX_CHARACTERS:
          raise RequestRejected(f"the chat template writes more than {MAX_CHARACTERS:,} characters", where="messages")
        found.append(piece)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
      raise RequestRejected(f"the chat template refuses these messages ({error})", where="messages") from None
    return "".join(found)


def template_of(tokenizer: Tokenizer) -> ChatTemplate | None:
  """The chat template that came with the tokenizer; None if none did.

  Raises:
    UserError: it cannot be read.
  """
  text = tokenizer.chat_template
  if text is None:
    return None
  try:
    return ChatTemplate(_environment().from_string(text), tokenizer.special_tokens)
  except jinja2.TemplateError as error:
    what = f"the chat template cannot be read ({error})"
    raise UserError(what, where="chat_template.jinja or tokenizer_config.json", remedy="correct or remove it") from None


def encode_messages(tokenizer: Tokenizer, template: ChatTemplate, messages: Messages, **options: Any) -> list[int]:
  """Token ids of a conversation, as transformers' `apply_chat_template` gives them.

  A control token that somebody's text spells is encoded as text: nobody ends a turn by writing so.

  Raises:
    RequestRejected: the template does not take these messages.
  """
  spelled = _control_pattern(tokenizer.control_tokens)
  if spelled is None or not any(spelled.search(text) for text in _strings(messages)):
    return tokenizer.encode(template.render(messages, **options))
  marked = _mapped(messages, lambda text: spelled.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text))
  ids: list[int] = []
  for index, piece in enumerate(re.split(f"{_OPEN}(.*?){_CLOSE}", template.render(marked, **options), flags=re.DOTALL)):
    if piece:
      ids += tokenizer.encode_plain(piece) if index % 2 else tokenizer.encode(piece)
  return ids


def encoder(tokenizer: Tokenizer, frame: str) -> Callable[[Messages], list[int]]:
  """A function from messages to token ids: by the tokenizer's chat template, or in `frame` where it has none.

  Raises:
    UserError: no such frame, or a template that cannot be read.
  """
  template = template_of(tokenizer)
  if template is not None:
    return lambda messages: encode_messages(tokenizer, template, messages)
  fixed = prompts.load(frame)
  return lambda messages: tokenizer.encode(
    fixed.render(query="\n\n".join(message["content"] for message in messages)), bos=True
  )


def question_encoder(tokenizer: Tokenizer, how: str) -> Callable[[str], list[int]]:
  """A function from a prompt to token ids.

  Args:
    tokenizer: of the model that is asked.
    how: `template`: one user message in the tokenizer's chat template; `raw`: the bare text, after what the tokenizer
      itself puts before a text; `auto`: the template where there is one.

  Raises:
    UserError: `template`, and there is none or it cannot be read.
  """
  template = template_of(tokenizer) if how != "raw" else None
  if template is None and how == "template":
    raise UserError("the tokenizer has no chat template", where="chat", remedy="use raw or auto")
  if template is None:
    return lambda text: tokenizer.encode(text, bos=True)
  return lambda text: encode_messages(tokenizer, template, [{"role": "user", "content": text}])


@functools.cache
def _control_pattern(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
  return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))) if tokens else None


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
