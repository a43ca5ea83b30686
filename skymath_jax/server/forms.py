"""What may be asked of the HTTP front: the bodies of both endpoints as pydantic models, and what goes with them.

What is asked beyond it is refused by name, since leaving it out could change the answer, unless it says nothing (null,
false, 0, empty, the neutral value of other servers) or is known to be harmless.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pydantic

from skymath_jax.chat import Messages
from skymath_jax.generation import RequestRejected, Sampling

MAX_CHOICES = 128
MAX_MESSAGES = 10_000
HARMLESS = {
  *("model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "request_id"),
  "cache_prompt",
  *("parallel_tool_calls", "tool_choice", "function_call"),  # there is no tool that could be called
  *("skip_special_tokens", "spaces_between_special_tokens"),  # a response has none
}
# Fields of other servers, with the one value (beside null) that asks for nothing; of all others it is false, 0 or empty
NEUTRAL: dict[str, Any] = {
  **{"repetition_penalty": 1, "length_penalty": 1, "typical_p": 1, "tfs_z": 1, "truncate_prompt_tokens": -1},
  **{"add_special_tokens": True, "add_generation_prompt": True, "detokenize": True},
  **{"modalities": ["text"], "reasoning_effort": "none"},
}
MAX_TOP = 20  # likeliest tokens

Number = Annotated[float, pydantic.Field(ge=-1e3, le=1e3)]  # JSON has integers that no float can hold
FAIL_FAST = pydantic.Field(fail_fast=True)  # the first wrong entry of a list is enough to refuse it
Ids = Annotated[list[int], FAIL_FAST]


def reject(what: str, key: str) -> RequestRejected:
  """A refusal that names the field."""
  return RequestRejected(what, where=key, remedy="see the OpenAI API reference")


class StreamOptions(pydantic.BaseModel):
  """What a stream carries besides text."""

  include_usage: bool = False


class Options(pydantic.BaseModel, abc.ABC):
  """What both endpoints take; a key that is null is as good as missing. `Sampling` and the driver check ranges, too."""

  model_config = pydantic.ConfigDict(strict=True, extra="allow")

  max_tokens: int | None = None  # -1 is none, as other servers have it
  max_completion_tokens: int | None = None
  temperature: Number = 1.0
  top_p: Number = 1.0
  top_k: int = 0  # -1 is off, too, as other servers have it
  n: int = 1
  best_of: int | None = None
  seed: int | None = None  # -1 is none
  stop: str | Annotated[list[str], FAIL_FAST] = pydantic.Field([], description="stop must be texts")
  stop_token_ids: Ids = pydantic.Field(
    [], max_length=MAX_CHOICES, description=f"it must be a list of at most {MAX_CHOICES} token ids"
  )
  stream: bool = False
  stream_options: StreamOptions = StreamOptions()
  response_format: dict[Literal["type"], Literal["text"]] = pydantic.Field(
    {"type": "text"}, description="only the type text is supported"
  )

  @abc.abstractmethod
  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """Texts or token ids."""

  @abc.abstractmethod
  def top(self) -> int | None:
    """How many of the likeliest tokens are told with each token; None where no probabilities are wanted."""

  def check(self) -> None:
    """Refuses what does not go together.

    Raises:
      RequestRejected: names the field.
    """
    if self.best_of not in (None, -1, self.n):
      raise reject("this server takes no best of several", "best_of")
    if self.top() is not None and self.stream:
      raise reject("this server does not support it in a stream", "logprobs")
    if not 0 <= (self.top() or 0) <= MAX_TOP:
      raise reject(f"it must be between 0 and {MAX_TOP}", "logprobs")

  def sampling(self, seed: int, max_length: int) -> Sampling:
    """How to answer.

    Raises:
      RequestRejected: a value is out of range.
    """
    lengths = (self.max_completion_tokens, self.max_tokens, max_length)
    return Sampling(
      temperature=self.temperature,
      top_p=self.top_p,
      top_k=0 if self.top_k == -1 else self.top_k,
      max_tokens=next(length for length in lengths if length not in (None, -1)),
      stop=tuple(text for text in ([self.stop] if isinstance(self.stop, str) else self.stop) if text),
      seed=seed,
    )


class Completion(Options):
  """The body of `/v1/completions`."""

  prompt: str | Ids | Annotated[list[str | Ids], pydantic.Field(max_length=MAX_CHOICES, fail_fast=True)] = (
    pydantic.Field(description=f"prompt must be a text, at most {MAX_CHOICES} texts, or a list of token ids")
  )

  logprobs: int | None = pydantic.Field(None, strict=False)
  echo: bool = False

  def top(self) -> int | None:
    """`logprobs` itself."""
    return self.logprobs

  def check(self) -> None:
    """As of all options, and `echo`."""
    super().check()
    if self.echo and self.stream:
      raise reject("this server does not support it in a stream", "echo")

  def sampling(self, seed: int, max_length: int) -> Sampling:
    """As of all options; an echo alone asks for one token, which is left out."""
    if self.echo and self.max_tokens == 0:
      return self.model_copy(update={"max_tokens": 1}).sampling(seed, max_length)
    return super().sampling(seed, max_length)

  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """One, or those of a list of them."""
    if isinstance(self.prompt, str):
      return [self.prompt]
    several = [prompt for prompt in self.prompt if not isinstance(prompt, int)]
    return several or [[token for token in self.prompt if isinstance(token, int)]]


class Part(pydantic.BaseModel):
  """A piece of a message."""

  type: Literal["text", "input_text"] = "text"
  text: str


class Message(pydantic.BaseModel):
  """One message of a chat; its other fields make no difference."""

  role: str = "user"
  content: str | Annotated[list[Part], FAIL_FAST]

  def as_text(self) -> dict[str, str]:
    """Role and content, as chat templates take them."""
    content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
    return {"role": self.role, "content": content}


class ChatCompletion(Options):
  """The body of `/v1/chat/completions`."""

  messages: Annotated[list[Message], FAIL_FAST] = pydantic.Field(
    min_length=1,
    max_length=MAX_MESSAGES,
    description="messages must be a list of objects, each with a role and a text as content",
  )

  logprobs: bool = False
  top_logprobs: int = 0

  def top(self) -> int | None:
    """`top_logprobs`, if `logprobs` are wanted."""
    return self.top_logprobs if self.logprobs else None

  def prompts(self, chat_prompt: Callable[[Messages], list[int]]) -> Sequence[str | list[int]]:
    """The messages as one prompt."""
    return [chat_prompt([message.as_text() for message in self.messages])]

  def characters(self) -> int:
    """Of all messages."""
    return sum(len(message.as_text()["content"]) for message in self.messages)


def read(body: Any, form: type[Options]) -> Options:
  """A body as a `form`.

  Raises:
    RequestRejected: it is none, or asks for more than `form` has.
  """
  if not isinstance(body, dict):
    raise reject("the body is not a JSON object", "body")
  try:
    asked = form.model_validate({key: value for key, value in body.items() if value is not None})
  except pydantic.ValidationError as error:
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    wanted = form.model_fields[key].description or first["msg"]
    raise reject(f"{wanted}; this is {str(body.get(key, 'missing'))[:80]!r}", key) from None
  for key, value in (asked.model_extra or {}).items():
    if key not in HARMLESS and (value != NEUTRAL[key] if key in NEUTRAL else value):
      raise reject("this server does not support it", key)
  asked.check()
  return asked
