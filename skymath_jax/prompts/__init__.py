"""Prompts are text files: Jinja templates with named fields, identified by name and content hash.

`few_shot/STYLE/NAME` is the prompt NAME with worked examples, in the style of competition problems (`math`) or of word
problems (`word`); the plain ones serve both.

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
PLAIN = ("evol", "metamath", "raw", "sft", "xwin")  # what a run needs at least
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
    """The filled-in prompt; a field that the template needs and `fields` lacks raises `jinja2.UndefinedError`."""
    return _compiled(self.text).render(**fields)


@functools.cache
def _compiled(text: str) -> jinja2.Template:
  return _ENVIRONMENT.from_string(text)  # a millisecond each; a run renders each prompt thousands of times


@functools.cache
def load(name: str) -> Prompt:
  """The prompt `FOLDER/name.txt`; `UserError` lists the known names if there is none."""
  path = FOLDER / f"{name}.txt"
  if not path.is_file():
    raise UserError(
      f"no prompt named {name!r}", where="prompt", remedy=f"use one of: {', '.join(names(*PLAIN, 'judge'))}"
    )
  return Prompt(name, path.read_text())


def names(*parts: str) -> list[str]:
  """All prompt names below these folders (or files), sorted; without any, those of PLAIN."""
  found = (str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.txt"))
  return sorted(name for name in found if name.partition("/")[0] in (parts or PLAIN))


def few_shot(name: str, style: str) -> str:
  """The name of the prompt with examples in this style; `name` itself where there is none."""
  shown = f"few_shot/{style}/{name}"
  return shown if (FOLDER / f"{shown}.txt").is_file() else name
