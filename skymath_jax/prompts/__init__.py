"""Prompts are text files: Jinja templates with named fields, identified by name and content hash.

`few_shot/STYLE/NAME` is the prompt NAME with worked examples, in the style of competition problems (`math`) or of word
problems (`word`); the plain ones serve both. `ask/NAME` puts a test question to a model that follows instructions.

`load("metamath/rephrase").render(question=...)` fills one in. A prompt ends with exactly one newline; what the model
writes starts on the next line. The same frame (`sft/alpaca`) serves training and evaluation (Skywork section 4.1.3).
"""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path

import jinja2

from skymath_jax.errors import UserError

FOLDER = Path(__file__).parent
OPTIONAL = ("few_shot", "judge", "ask")  # what a run can do without
STYLES = ("math", "word")
_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One template. `hash` is 16 hex digits of its text, stored with every instance made from it."""

  name: str
  text: str

  @property
  def hash(self) -> str:
    return hashlib.sha256(self.text.encode()).hexdigest()[:16]

  @property
  def literals(self) -> list[str]:
    """The fixed pieces of text between the fields, in order, without what is only there on a condition."""
    always = re.sub(r"\{% if .*?\{% endif %\}", "", self.text, flags=re.DOTALL)
    return [piece for piece in re.split(r"\{\{.*?\}\}", always) if piece]

  def render(self, **fields: object) -> str:
    """The filled-in prompt.

    Raises:
      jinja2.UndefinedError: `fields` lacks one that the template needs.
    """
    return _compiled(self.text).render(**fields)


@functools.cache
def _compiled(text: str) -> jinja2.Template:
  return _ENVIRONMENT.from_string(text)  # a millisecond each; a run renders each prompt thousands of times


@functools.cache
def load(name: str) -> Prompt:
  """The prompt `FOLDER/name.txt`.

  Raises:
    UserError: there is none; the known names are listed.
  """
  path = FOLDER / f"{name}.txt"
  if name not in _every_name():  # so no name leads out of the folder
    raise UserError(f"no prompt named {name!r}", where="prompt", remedy=f"use one of: {', '.join(names())}")
  return Prompt(name, path.read_text())


def names(*parts: str) -> list[str]:
  """All prompt names below these folders (or files), sorted; without any, all but the OPTIONAL ones."""
  if parts:
    return [name for name in _every_name() if name.partition("/")[0] in parts]
  return [name for name in _every_name() if name.partition("/")[0] not in OPTIONAL]


@functools.cache
def _every_name() -> tuple[str, ...]:
  return tuple(sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.txt")))


def few_shot(name: str, style: str) -> str:
  """The name of the prompt with examples in this style; `name` itself where there is none."""
  shown = f"few_shot/{style}/{name}"
  return shown if (FOLDER / f"{shown}.txt").is_file() else name
