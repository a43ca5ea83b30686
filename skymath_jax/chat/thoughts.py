"""What a reasoning teacher thought, in a conversation to be trained: as the chat template wants it, or left out.

A template that knows thoughts takes them by their name and puts its own marks around them. Of others the text of an
answer may begin with the thought, unless they cut that away.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from skymath_jax.chat.template import ChatTemplate
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected

SUFFIX = "+thoughts"  # of `training.template`
KEY = "reasoning_content"  # of a message, as chat templates name it; a row of ours has `thought`
MARKS = ("<think>\n", "\n</think>\n\n")  # around a thought, where the template has no marks of its own
_THOUGHT = "\ufffc"  # stands for one

Message: TypeAlias = Mapping[str, Any]


def aloud(thought: str, response: str) -> str:
  """A response behind its thought, in the marks that most models use."""
  return thought.strip().join(MARKS) + response


def without(message: Message) -> Message:
  """A message without its thought."""
  return {key: value for key, value in message.items() if key != KEY} if KEY in message else message


def _by_name(message: Message) -> Message:
  thought = message.get(KEY)
  return {**message, KEY: thought.strip()} if thought else without(message)


def _in_text(message: Message) -> Message:
  thought, plain = message.get(KEY), without(message)
  return {**plain, "content": aloud(thought, message["content"])} if thought else plain


def way(template: ChatTemplate) -> Callable[[Message], Message]:
  """How a message with a thought is given to the template.

  Raises:
    UserError: it leaves thoughts out.
  """
  asked, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", KEY: _THOUGHT}
  for found in (_by_name, _in_text):
    with contextlib.suppress(RequestRejected):
      if _THOUGHT in template.render([asked, found(answer)], answer_follows=False):
        return found
  raise UserError(
    "the chat template leaves thoughts out of an answer",
    where="config.training.template",
    remedy=f"leave {SUFFIX} away, or take sft/alpaca{SUFFIX} or the file of another template",
  )
