"""The program that renders chat templates, in a process of its own: a template is a stranger's code.

Jinja's sandbox keeps it from everything outside; the kernel ends it where it takes too long, and lets it have so much
memory. No count of loops or operators inside the language would be complete: a list that holds itself twice, forty
times over, is small until it is printed.

Started by `renderer`, never imported: it needs the standard library and Jinja alone. JSON lines in and out::

  {"template": "Hi {{ messages[0].content }}", "messages": [{"content": "you"}], "fields": {}}
  {"text": "Hi you", "spans": []}

`several` in place of `messages` is a list of [messages, whether an answer follows].
"""

import contextlib
import datetime
import functools
import json
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

SECONDS = 2.0  # of computing, for one conversation
MEMORY = 768 << 20  # bytes of address space, some 60 MB of them Python's own
CHARACTERS = 4_000_000  # of a rendered conversation
SHOWN = 500  # characters of an error
REASONING = ("reasoning_content", "thinking", "reasoning")  # what thoughts are called; templates look for the first


class TooMuchError(Exception):
  """The output has no end."""


class Generation(jinja2.ext.Extension):
  """`{% generation %} … {% endgeneration %}` marks what the assistant says; it leaves the text as it is.

  `spans` of the environment gets where each stands in the text, whose length so far is the environment's `length`.
  """

  tags = {"generation"}

  def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
    """The block as a call of `_text`."""
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

  def _text(self, caller: Callable[[], str]) -> str:
    text, state = caller(), vars(self.environment)
    state["spans"].append((state["length"], state["length"] + len(text)))
    return text


class Namespace(jinja2.utils.Namespace):
  """Jinja's, without names that mean something to Python."""

  def __init__(*args: Any, **values: Any) -> None:
    self, *rest = args
    given = dict(*rest, **values)
    for name in given:
      _require_plain(name)
    jinja2.utils.Namespace.__init__(self, given)

  def __setitem__(self, name: str, value: Any) -> None:
    _require_plain(name)
    super().__setitem__(name, value)


def _require_plain(name: str) -> None:
  if name.startswith("_"):
    raise jinja2.exceptions.SecurityError(f"a namespace may not hold {name!r}")


def _refuse(message: str) -> NoReturn:
  raise jinja2.TemplateError(message)


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)  # Jinja's own escapes HTML


def _dict(*args: Any, **values: Any) -> dict[str, Any]:
  return dict(*args, **values)  # the class itself would have more to offer


ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(
  trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
ENVIRONMENT.filters["tojson"] = _as_json
ENVIRONMENT.globals |= {
  "raise_exception": _refuse,
  "strftime_now": lambda form: datetime.datetime.now().strftime(form),
  "namespace": Namespace,
  "dict": _dict,
}
compiled = functools.lru_cache(maxsize=8)(ENVIRONMENT.from_string)


def render(template: str, messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
  """The text of a conversation, and the `spans` (from, to) of it that the template marks as the assistant's.

  Raises:
    jinja2.TemplateError: the template refuses the messages, or does what is not allowed. Other errors of its own are
      possible.
    TooMuchError: it writes more than CHARACTERS.
  """
  pieces: list[str] = []
  state = vars(ENVIRONMENT)
  state |= {"spans": [], "length": 0}
  for piece in compiled(template).generate(messages=[_told(message) for message in messages], **fields):
    pieces.append(piece)
    state["length"] += len(piece)
    if state["length"] > CHARACTERS:
      raise TooMuchError(f"it writes more than {CHARACTERS:,} characters")
  return {"text": "".join(pieces), "spans": state["spans"]}


def _told(message: Mapping[str, Any]) -> dict[str, Any]:
  """Without fields that are None, and with thoughts under the names that templates look for."""
  found = {key: value for key, value in message.items() if value is not None}
  thoughts = next((found[key] for key in REASONING if key in found), None)
  return found if thoughts is None else {"thinking": thoughts, **found, "reasoning_content": thoughts}


def render_all(template: str, several: list[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
  """`render` of each [messages, whether an answer follows], or its error in its place."""
  found = []
  for messages, follows in several:
    try:
      found.append(render(template, messages, {**fields, "add_generation_prompt": follows}))
    except MemoryError:
      raise
    except Exception as error:
      found.append({"error": _short(error)})
  return {"several": found}


def _short(error: Exception) -> str:
  return (str(error) or type(error).__name__)[:SHOWN]


def literals(template: str) -> dict[str, Any]:
  """All text that the template itself holds; compiles it, too.

  Raises:
    jinja2.TemplateError: it cannot be read.
  """
  compiled(template)
  tree = ENVIRONMENT.parse(template)
  found = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
  found += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
  return {"text": "\0".join(found)}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
  """What a request gets; `error` says why it gets nothing."""
  signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process, wherever it is
  try:
    if "several" in request:
      return render_all(**request)
    return render(**request) if "messages" in request else literals(**request)
  except MemoryError:
    return {"error": f"it takes more than {MEMORY >> 20} MB of memory", "last": True}
  except Exception as error:  # whatever a stranger's code may raise
    return {"error": _short(error)}
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
  """Answers each line of standard input until it ends."""
  signal.signal(
    signal.SIGPROF, signal.SIG_DFL
  )  # who started us may have it ignored or blocked, and children inherit that
  signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
  for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
    with contextlib.suppress(ValueError, OSError):  # macOS bounds no address space
      resource.setrlimit(limit, (most, most))
  for line in sys.stdin.buffer:
    told = answer(json.loads(line))
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    if "last" in told:
      return


if __name__ == "__main__":
  main()
