"""Chat messages to one prompt: by the tokenizer's own chat template, else by a frame of `prompts/`.

A model that came out of this recipe has no chat template: it was trained on the frame `sft/alpaca`, which therefore
is the default; `raw` is for base models, whose messages are only joined.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

import jinja2
import jinja2.sandbox

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected

Messages: TypeAlias = Sequence[dict[str, str]]  # each has `role` and `content`


def renderer(template: str | None, frame: str) -> Callable[[Messages], str]:
  """A function from messages to the prompt, to which bos is still to be added.

  Args:
    template: the tokenizer's chat template (Jinja, as in transformers), if it has one.
    frame: name of the prompt frame that is used where it has none; it has one field, `query`.

  Raises:
    UserError: no such frame, or a template that cannot be read.
  """
  if template is None:
    fixed = prompts.load(frame)
    return lambda messages: fixed.render(query="\n\n".join(message["content"] for message in messages))
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
  environment.globals["raise_exception"] = _refuse
  try:
    compiled = environment.from_string(template)
  except jinja2.TemplateError as error:
    raise UserError(
      f"the chat template cannot be read ({error})", where="tokenizer_config.json", remedy="correct or remove it"
    ) from None

  def render(messages: Messages) -> str:
    try:
      # bos is added when the prompt is encoded, once
      return compiled.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token="")
    except jinja2.TemplateError as error:
      raise RequestRejected(f"the chat template refuses these messages ({error})", where="messages") from None

  return render


def _refuse(message: str) -> NoReturn:
  raise jinja2.TemplateError(message)
