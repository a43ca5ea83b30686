"""What a declared setting is: a field of a frozen dataclass, read for its type, bounds, freedom and meaning.

  @dataclass(frozen=True, kw_only=True)
  class Training:
    rows: Positive = 8  # packed rows an optimizer step
    keep: Free[Positive] = 2  # newest checkpoints

`Free` says that a run may go on with another value.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from skymath_jax.errors import UserError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class AtLeast:
  """Marks a number's smallest value."""

  least: float


FREE = "free"
Free = Annotated[T, FREE]
Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Amount = Annotated[float, AtLeast(0)]


@dataclasses.dataclass(frozen=True)
class Key:
  """What is known of one key, read from its declaration; `element` is of a tuple's or a mapping's values.

  `choices` are the values allowed, or a mapping's names; none says that there is no such list.
  """

  name: str
  kind: type
  element: type
  length: int | None
  default: Any
  choices: tuple[Any, ...]
  least: float | None
  free: bool
  meaning: str

  def entry(self, name: str) -> "Key":
    """The key of one entry of a mapping.

    Raises:
      UserError: the mapping has names of its own, and this is none.
    """
    if self.choices and name not in self.choices:
      remedy = f"use one of: {', '.join(self.choices)}"
      raise UserError("there is no such entry", where=f"config.{self.name}.{name}", remedy=remedy)
    return dataclasses.replace(self, name=f"{self.name}.{name}", kind=self.element, default=self.element(), choices=())

  def checked(self, value: Any) -> Any:
    """The value in the key's type.

    Raises:
      UserError: names the key, and the type, the smallest value or the values allowed.
    """
    where = f"config.{self.name}"
    if isinstance(value, ConfigDict):
      value = value.to_dict()
    if not _is(value, self.kind) or (self.length and len(value) != self.length):
      raise UserError(f"{value!r} is not of type {self.kind.__name__}", where=where, remedy=f"e.g. {self.default!r}")
    if self.kind is dict:  # in one order, so that what is made of it does not depend on who wrote it how
      return {name: self.entry(name).checked(value[name]) for name in sorted(value)}
    for part in value if self.kind is tuple else (value,):
      if not _is(part, self.element):
        raise UserError(f"{value!r} holds what is not {self.element.__name__}", where=where, remedy="mend the tuple")
      if self.choices and part not in self.choices:
        raise UserError(f"{part!r} is not known", where=where, remedy=f"use one of: {', '.join(self.choices)}")
      if self.least is not None and not part >= self.least:
        raise UserError(f"{part!r} is too small", where=where, remedy=f"give {self.least:g} or more")
    return self.kind(value)


def _is(value: Any, kind: type) -> bool:
  """Whether a value may stand where `kind` is wanted: an int does for a float, a bool for nothing else."""
  return isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)


def keys_of(part: Any, comments: Mapping[str, str], prefix: str = "") -> Iterator[Key]:
  """The keys of a tree of frozen dataclasses, in order; `comments` are those of its source."""
  hints = get_type_hints(type(part), include_extras=True)
  for field in dataclasses.fields(part):
    name, hint, default = f"{prefix}{field.name}", hints[field.name], getattr(part, field.name)
    if dataclasses.is_dataclass(default):
      yield from keys_of(default, comments, f"{name}.")
      continue
    marks: set[Any] = set()
    choices: tuple[Any, ...] = ()
    length = None
    while (origin := get_origin(hint)) is not None:
      inner = get_args(hint)
      if origin is Literal:
        choices, hint = inner, str
      elif origin is Annotated:
        marks, hint = marks | set(hint.__metadata__), inner[0]
      else:  # tuple[X, ...], tuple[X, X], Mapping[str, X] or Mapping[Literal[...], X]
        if origin is not tuple and get_origin(inner[0]) is Literal:
          choices = get_args(inner[0])
        length = len(inner) if origin is tuple and ... not in inner else None
        hint = inner[0] if origin is tuple else inner[1]
    least = next((mark.least for mark in marks if isinstance(mark, AtLeast)), None)
    meaning = comments[f"{type(part).__name__}.{field.name}"]
    yield Key(name, type(default), hint, length, default, choices, least, FREE in marks, meaning)


def comments_in(path: str) -> dict[str, str]:
  """`Class.field` → the comment behind its declaration, in the dataclasses of a source file."""
  parts = re.split(r"^class (\w+):$", Path(path).read_text(), flags=re.MULTILINE)
  bodies = zip(parts[1::2], parts[2::2], strict=True)
  line = re.compile(r"^  (\w+): .+?  # (.+)$", re.MULTILINE)
  return {f"{name}.{field}": comment for name, body in bodies for field, comment in line.findall(body)}


def built(part: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
  """`part` with the values of its keys."""
  changes = {}
  for field in dataclasses.fields(part):
    name, value = f"{prefix}{field.name}", getattr(part, field.name)
    changes[field.name] = built(value, values, f"{name}.") if dataclasses.is_dataclass(value) else values[name]
  return dataclasses.replace(part, **changes)


def bound_fields(part: Any) -> dict[str, Any]:
  """Field → JSON value of one section, without its free fields and the sections in it."""
  hints = get_type_hints(type(part), include_extras=True)
  values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
  free = {name for name, hint in hints.items() if FREE in getattr(hint, "__metadata__", ())}
  kept = {k: v for k, v in values.items() if k not in free and not dataclasses.is_dataclass(v)}
  found: dict[str, Any] = json.loads(json.dumps(kept))
  return found


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
  """(dotted key, old value, new value) of the first key, in the order of `new`, that differs; None if none does."""
  for key in [*new, *(k for k in old if k not in new)]:
    a, b = old.get(key), new.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      if found := first_difference(a, b, f"{prefix}{key}."):
        return found
    elif a != b:
      return f"{prefix}{key}", a, b
  return None
