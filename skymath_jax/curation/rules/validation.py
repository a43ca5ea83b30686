r"""Is one instance well formed? Answer line, empty parts, leftovers of a prompt, length.

A response ends with the literal line `The answer is ANSWER`, and ANSWER is the instance's `answer`:

  "3 + 4 = 7.\nThe answer is 7"  with answer "7"  → no finding

Rows of a user's own file that came without an answer (`method == "user"`) need not have that line.
"""

import re
from collections.abc import Iterator

from skymath_jax.curation.row import Row
from skymath_jax.curation.rules.base import Drop, Rule
from skymath_jax.records import ANSWER_MARKER, USER_METHOD, Instance

# What our own prompt frames print around the text; a teacher that echoes them has not written a clean problem.
_FRAME = r"^#{2,4} ?(?:instruction|input|response)\b|#(?:given|rewritten|created|new) (?:prompt|problem)#"
_HEADING = r"^(?:final )?created question:|^verification and modification:"
_LABEL = "given question|new problem|new wording|problem|question|statement"
_QUERY_LABELS = re.compile(rf"{_FRAME}|{_HEADING}|^(?:{_LABEL}|solution|answer):[ \t]*$", re.MULTILINE | re.IGNORECASE)
_RESPONSE_LABELS = re.compile(rf"{_FRAME}|{_HEADING}|^(?:{_LABEL}):[ \t]*$", re.MULTILINE | re.IGNORECASE)


class Validation(Rule):
  """Drops what is not well formed, or too long."""

  name = "validation"
  step = "validation"

  def check(self, row: Row) -> Drop | None:
    limits = {"max_characters": self.settings.max_characters, "max_tokens": self.settings.max_tokens}
    return next(findings(row.instance, **limits), None)


def findings(instance: Instance, *, max_characters: int = 0, max_tokens: int = 0) -> Iterator[Drop]:
  """Yields every fault of `instance`, cheapest check first; nothing for a good one.

  Args:
    instance: what to check.
    max_characters: longest query + response; 0 = no limit.
    max_tokens: most that `instance.tokens` may be; 0 = no limit.
  """
  query, response = instance.query.strip(), instance.response.strip()
  if not query:
    yield _drop("empty_query")
  if not response:
    yield _drop("empty_response")
  yield from _answer_line(instance, response)
  for field, text, labels in (("query", query, _QUERY_LABELS), ("response", response, _RESPONSE_LABELS)):
    if found := labels.search(text):
      yield _drop("prompt_label", f"{field} holds {found.group().strip()!r}")
  characters = len(instance.query) + len(instance.response)
  if max_characters and characters > max_characters:
    yield _drop("too_many_characters", f"{characters} characters, {max_characters} allowed")
  if max_tokens and (instance.tokens or 0) > max_tokens:
    yield _drop("too_many_tokens", f"{instance.tokens} tokens, {max_tokens} allowed")


def _answer_line(instance: Instance, response: str) -> Iterator[Drop]:
  if instance.method == USER_METHOD and not instance.answer:
    return
  head, _, last = response.rpartition("\n")
  if not last.startswith(ANSWER_MARKER):
    yield _drop("no_answer_line", f"the last line is {last[:80]!r}")
  elif not instance.answer.strip():
    yield _drop("empty_answer")
  elif last.removeprefix(ANSWER_MARKER).strip() != instance.answer.strip():
    yield _drop("answer_mismatch", f"the last line says {last[:80]!r}, the answer is {instance.answer[:80]!r}")
  elif not head.strip():
    yield _drop("no_solution", "the response is nothing but the answer line")


def _drop(reason: str, found: str = "") -> Drop:
  return Drop(reason, {"found": found} if found else {})
