"""How a question is put to a model: the bare text of a frame, or that text as a user message of the model's own chat.

  sft/alpaca       the frame that the recipe trains on
  chat:ask/boxed   the text of `ask/boxed` as one user message in the chat template that came with the tokenizer
  chat             the same, in the frame that suits benchmark and grader

Which chat template that was is told by a hash of its text; of an endpoint's, nobody knows more than that it has one.
"""

import dataclasses
import hashlib

from skymath_jax import prompts
from skymath_jax.prompts import Prompt

CHAT = "chat"
MARKED, BOXED = "ask/answer", "ask/boxed"  # frames of `chat` alone; the strict grader reads a marked answer only


@dataclasses.dataclass(frozen=True)
class Template:
  """A frame, and the identity of the chat template around it; empty where the model gets the bare text."""

  frame: Prompt
  chat: str = ""

  @property
  def name(self) -> str:
    return f"{CHAT}:{self.frame.name}" if self.chat else self.frame.name

  def render(self, question: str) -> str:
    """The text that is sent; the end of a message needs no line break."""
    text = self.frame.render(query=question)
    return text.rstrip() if self.chat else text

  def facts(self) -> dict[str, str]:
    """What a summary says of it."""
    return {"name": self.name, "hash": self.frame.hash, **({"chat": self.chat} if self.chat else {})}


def is_chat(text: str) -> bool:
  """Whether `text` asks for the model's own chat template."""
  return text.partition(":")[0] == CHAT


def template(text: str, *, chat: str = "", frame: str = MARKED) -> Template:
  """The template that `text` names.

  Args:
    text: a frame's name, `chat` or `chat:FRAME`.
    chat: identity of the chat template.
    frame: of `chat` alone.

  Raises:
    UserError: there is no such frame.
  """
  if not is_chat(text):
    return Template(prompts.load(text))
  return Template(prompts.load(text.partition(":")[2] or frame), chat or "unknown")


def chat_hash(text: str) -> str:
  """16 hex digits of a chat template's text."""
  return hashlib.sha256(text.encode()).hexdigest()[:16]
