"""Chat messages as the token ids that a model was trained on: its own chat template, as transformers renders it.

A model without a template gets a frame of `prompts/`: the recipe trains on `sft/alpaca`; `raw` is for base models.
"""

from collections.abc import Callable

from skymath_jax import prompts
from skymath_jax.chat.template import ChatTemplate, Messages, encode_messages, read, template_of
from skymath_jax.errors import UserError
from skymath_jax.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Messages", "encode_messages", "encoder", "question_encoder", "read", "template_of"]


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
