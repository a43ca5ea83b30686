"""A row under the names that people use → a training pair: `{"query", "response"}`, or `{"messages": [...]}`.

A conversation of one question and one answer is a pair; one with a system turn, more turns, or anything beside the
texts stays a conversation, for the chat template to lay out.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skymath_jax import records
from skymath_jax.errors import UserError
from skymath_jax.rows.formats import Row
from skymath_jax.rows.presets import Preset

CONVERSATIONS = ("messages", "conversations", "conversation")
# Columns of query and response, the surest first. The second column of a query may be missing or empty
USUAL: tuple[tuple[tuple[str, ...], str], ...] = (
  (("query",), "response"),
  (("prompt",), "completion"),
  (("instruction", "input"), "output"),
  (("problem",), "generated_solution"),
  (("question",), "generated_solution"),
  *(((name,), "") for name in CONVERSATIONS),
  (("prompt",), "response"),
  (("instruction", "context"), "response"),
  (("instruction",), "solution"),
  (("question",), "response"),
  (("problem",), "response"),
  (("question",), "solution"),
  (("problem",), "solution"),
  (("query",), "solution"),
  (("question",), "answer"),
  (("problem",), "answer"),
  (("query",), "answer"),
  (("input",), "output"),
)
ROLES = {
  **dict.fromkeys(("user", "human", "prompter"), "user"),
  **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "bard", "claude"), "assistant"),
  "system": "system",
  "developer": "system",
  **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
_ROLE, _TEXT = ("role", "from"), ("content", "value")


@dataclasses.dataclass(frozen=True)
class Reading:
  """Which columns are read: those of the query, and those of responses; none of these where they hold conversations."""

  query: tuple[str, ...]
  responses: tuple[str, ...] = ()

  def __str__(self) -> str:
    if not self.responses:
      return f"messages = {self.query[0]}"
    return f"query = {' + '.join(self.query)}, response = {' and '.join(self.responses)}"


def named(columns: str, preset: Preset | None = None) -> Reading | None:
  """What `QUERY,RESPONSE` or `MESSAGES` says, or a preset; None where nobody does, and the usual names are looked for.

  Raises:
    UserError: more than two columns.
  """
  names = [name.strip() for name in columns.split(",") if name.strip()]
  if len(names) > 2:
    remedy = "write QUERY,RESPONSE, such as problem,solution, or MESSAGES; QUERY may be several joined by +"
    raise UserError(f"{len(names)} columns", where="config.training.columns", remedy=remedy)
  if names:
    return Reading(tuple(names[0].split("+")), tuple(names[1:]))
  return Reading((preset.query,), preset.responses) if preset is not None else None


@functools.lru_cache(maxsize=4096)
def usual(keys: frozenset[str]) -> Reading | None:
  """The first usual way to read a row that has these keys, whatever their case."""
  spelled = {key.strip().lower(): key for key in sorted(keys)}
  for query, response in USUAL:
    if query[0] in spelled and (not response or response in spelled):
      present = tuple(spelled[name] for name in query if name in spelled)
      return Reading(present, (spelled[response],) if response else ())
  return None


def reading_of(row: Mapping[str, Any]) -> Reading | None:
  """The first usual way to read this row, by the columns that hold something."""
  return usual(frozenset(key for key, value in row.items() if value is not None))


def pairs(row: Row, where: str | None, reading: Reading | None = None) -> Iterator[Row]:
  """The row as `{"query", "response"}` or `{"messages"}`; several where the reading has several responses.

  Args:
    row: as it was read.
    where: file and row, for messages.
    reading: the columns; None: the usual ones.

  Raises:
    UserError: a column is missing, or holds no text.
  """
  chosen = reading or reading_of(row) or usual(frozenset(row))
  if chosen is None:
    raise UserError(
      f"no query and response under usual names (there is {', '.join(sorted(map(str, row))) or 'nothing'})",
      where=where,
      remedy="rename the columns, e.g. to query and response, or name them: --config.training.columns=QUERY,RESPONSE",
    )
  wanted = (chosen.query[0], *chosen.responses[:1])
  if missing := [name for name in wanted if name not in row]:
    what = f"no column {missing[0]!r} (there is {', '.join(sorted(map(str, row))) or 'nothing'})"
    raise UserError(what, where=where, remedy="mend the row, or name other columns: --config.training.columns")
  asked = row[chosen.query[0]]
  if not chosen.responses:
    yield conversation(asked, where, system=row.get("system"))
  elif isinstance(asked, list):  # a prompt that is a conversation, as TRL has it
    answer = row[chosen.responses[0]]
    turns = answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}]
    yield conversation([*asked, *turns], where)
  else:
    given = [(name, row.get(name)) for name in chosen.query]
    if odd := [name for name, value in given if value is not None and not isinstance(value, str)]:
      what = f"{odd[0]!r} is a {type(row[odd[0]]).__name__}, not text"
      raise UserError(what, where=where, remedy="put the value in quotes")
    query = "\n\n".join(value for _, value in given if value)
    answers = [_text(row.get(name), name, where) for name in chosen.responses]
    thought = row.get("thought") if len(answers) == 1 else None
    for answer in [answer for answer in answers if answer] or answers[:1]:
      yield {"query": query, "response": answer, **({"thought": thought} if isinstance(thought, str) else {})}


def conversation(turns: Any, where: str | None, *, system: Any = None) -> Row:
  """Messages in OpenAI's form or ShareGPT's as `{"messages"}`, or as a pair where they are no more than that.

  Raises:
    UserError: they are no list of turns, or one has an unknown role or no text.
  """
  if isinstance(turns, str) and turns.lstrip().startswith("["):  # as CSV has it
    try:
      turns = records.without_surrogates(json.loads(turns))
    except ValueError:
      raise UserError("a conversation that is no JSON", where=where, remedy="repair or remove the row") from None
  if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
    what = f"a {type(turns).__name__}, not a list of turns" if turns else "without turns"
    raise UserError(f"a conversation is {what}", where=where, remedy='write [{"role": "user", "content": …}, …]')
  messages = [_message(turn, where) for turn in turns]
  if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
    messages.insert(0, {"role": "system", "content": system})
  plain = all(message.keys() == {"role", "content"} for message in messages)
  if plain and [message["role"] for message in messages] == ["user", "assistant"]:
    return {"query": messages[0]["content"], "response": messages[1]["content"]}
  return {"messages": messages}


def _message(turn: Any, where: str | None) -> Row:
  """One turn with `role` and `content`; other keys that hold something, such as `reasoning_content`, stay."""
  if not isinstance(turn, Mapping):
    raise UserError(f"a turn is a {type(turn).__name__}", where=where, remedy='write {"role": …, "content": …}')
  role = next((turn[key] for key in _ROLE if turn.get(key) is not None), None)
  if not isinstance(role, str) or role.lower() not in ROLES:
    raise UserError(f"a turn has the role {role!r}", where=where, remedy="use system, user, assistant or tool")
  content = next((turn[key] for key in _TEXT if turn.get(key) is not None), None)
  if isinstance(content, list):
    content = "".join(_part(part, where) for part in content)
  more = {key: value for key, value in turn.items() if key not in (*_ROLE, *_TEXT) and value not in (None, [], "")}
  if content is None and more:
    content = ""  # a call of a tool
  if not isinstance(content, str):
    raise UserError(f"a turn's text is {content!r:.60}", where=where, remedy="give every turn a text")
  return {"role": ROLES[role.lower()], "content": content, **more}


def _part(part: Any, where: str | None) -> str:
  if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
    return str(part["text"])
  raise UserError("a turn has a part that is no text", where=where, remedy="leave such conversations out")


def _text(value: Any, name: str, where: str | None) -> str:
  """A value as text: numbers as they are written, nothing as nothing."""
  if value is None or isinstance(value, str):
    return value or ""
  if isinstance(value, int | float) and not isinstance(value, bool):
    return str(int(value)) if value == value and abs(value) != float("inf") and value == int(value) else repr(value)
  raise UserError(f"{name!r} is a {type(value).__name__}, not text", where=where, remedy="put the value in quotes")
