"""What an endpoint wants otherwise than OpenAI's API has it: the config key `teacher.parameters`, a JSON object.

  {"rename": {"max_tokens": "max_completion_tokens"}, "omit": ["seed", "temperature"],
   "body": {"reasoning_effort": "low"}, "headers": {"api-key": "$AZURE_KEY"}, "query": {"api-version": "2024-10-21"}}

`answer` is the field of a message that holds its text (content), `seconds` the time that one attempt may take,
`attempts` how often a request that fails alone is sent, `dialect` whose batches are meant (openai, anthropic, or files
for vLLM's offline batches). `$NAME` as the value of a header or of the query is the environment variable NAME, and the
only way to give a key: the config is kept in the workdir. A proxy comes from the environment (HTTPS_PROXY, NO_PROXY).
"""

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from skymath_jax.errors import UserError
from skymath_jax.generation.types import Request

WHERE = "teacher.parameters"
SECRET = re.compile(r"auth|key|token|secret|passw|credential|cookie|signature", re.IGNORECASE)  # in a name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
  """See the module.

  Raises:
    UserError: a value is of the wrong type or out of range.
  """

  rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
  omit: tuple[str, ...] = ()
  body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
  query: Mapping[str, str] = dataclasses.field(default_factory=dict)
  answer: str = "content"
  seconds: float = 600.0
  attempts: int = 8
  dialect: str = "openai"

  def __post_init__(self) -> None:
    texts = [*self.rename.values(), *self.headers.values(), *self.query.values(), *self.omit, self.answer]
    wanted = {
      "a text for each name of rename, headers and query, and in omit": all(isinstance(t, str) and t for t in texts),
      "seconds above 0": _is_number(self.seconds) and self.seconds > 0,
      "dialect openai, anthropic or files": self.dialect in ("openai", "anthropic", "files"),
      "attempts of 1 or more": isinstance(self.attempts, int) and self.attempts >= 1,
    }
    for what, good in wanted.items():
      if not good:
        raise UserError("a parameter of the endpoint is wrong", where=WHERE, remedy=f"it wants {what}")
    for name, value in {**self.headers, **self.query}.items():
      if SECRET.search(name) and not value.startswith("$"):
        what = f"the value of {name} would be kept in the workdir, in config.json"
        raise UserError(what, where=WHERE, remedy="put it into an environment variable NAME and give $NAME here")

  @classmethod
  def from_json(cls, text: str) -> "Parameters":
    """The parameters in a JSON object; empty text has none.

    Raises:
      UserError: it is no JSON object, holds an unknown name, or a wrong value.
    """
    try:
      values = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
      raise UserError(f"this is not JSON ({error})", where=WHERE, remedy='e.g. {"omit": ["seed"]}') from None
    if not isinstance(values, dict):
      raise UserError("this is no JSON object", where=WHERE, remedy='e.g. {"omit": ["seed"]}')
    examples = dataclasses.asdict(cls())
    for name, value in values.items():
      if name not in examples:
        near = difflib.get_close_matches(name, examples, n=1, cutoff=0.0)[0]
        raise UserError(f"there is no parameter {name!r}", where=WHERE, remedy=f"did you mean {near!r}?")
      wanted = list if name == "omit" else dict if isinstance(examples[name], dict) else (str, int, float)
      if not isinstance(value, wanted):
        raise UserError(f"{name!r} is of the wrong kind", where=WHERE, remedy='e.g. {"omit": ["seed"]}')
    return cls(**{**values, "omit": tuple(values.get("omit", ()))})

  def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with its fields renamed and left out, and the extra ones."""
    return {self.rename.get(k, k): v for k, v in body.items() if k not in self.omit} | dict(self.body)

  def body_of(self, request: Request, model: str, *, chat: bool) -> dict[str, Any]:
    """What is sent: one user message, or with `chat` False the bare prompt."""
    s = request.sampling
    body: dict[str, Any] = {"model": model}
    body |= {"messages": [{"role": "user", "content": request.prompt}]} if chat else {"prompt": request.prompt}
    body |= {"temperature": s.temperature, "max_tokens": s.max_tokens}
    optional = {"top_p": (s.top_p, 1.0), "top_k": (s.top_k, 0), "stop": (list(s.stop), [])}
    body |= {name: value for name, (value, default) in optional.items() if value != default}
    body |= {"seed": s.seed} if s.temperature > 0 else {}
    return self.applied(body)

  def model_id(self, model: str) -> str:
    """What answers are stored under: the model, and what changes what is read of it. Never an address."""
    extra = {**self.body, **({} if self.answer == Parameters.answer else {"answer": self.answer})}
    return f"{model} {json.dumps(extra, sort_keys=True)}" if extra else model


def expanded(values: Mapping[str, str]) -> dict[str, str]:
  """The values, `$NAME` replaced by the environment variable NAME.

  Raises:
    UserError: there is no such variable.
  """
  found = {}
  for name, value in values.items():
    variable = value.removeprefix("$")
    if value != variable and variable not in os.environ:
      raise UserError(
        f"the environment variable {variable} is not set", where=f"{WHERE}: {name}", remedy="set it, or give the value"
      )
    found[name] = os.environ[variable].strip() if value != variable else value
  return found


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
