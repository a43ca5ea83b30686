r"""Answers between braces and in fields: `\boxed{…}`, `<answer>…</answer>`, `{"answer": …}`."""

import re

_BOX = re.compile(r"\\(?:(?:begin)?boxed|f?(?:rame)?box)\s*")
_EMPTY_BOX = re.compile(r"\\(?:boxed|f?(?:rame)?box)\s*\{\s*(?:\}|$)")
_BOX_TOKENS = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.DOTALL)  # as GLM writes a box
_BETWEEN = re.compile(r"(?:\s|[,;、，$&]|\\[,;()\[\]]|\\q?quad|\\text\{\s*(?:and|or)\s*\}|and|or|和|或){1,30}")
_MINUS = re.compile(r"(?:^|[\s=$(\[{,])[-−]$")
_TAG = re.compile(r"<(/?)(?:final_?answer|answer|ans)>|\[(/?)answer\]", re.IGNORECASE)
_KEY = re.compile(
  r"[\"'](?P<name>(?P<final>(?:final|correct)[ _-]?answer|final(?:[ _-]?(?:result|value|code))?"
  r"|最终答案)|answers?|ans|答案)[\"']\s*[:：]\s*",
  re.IGNORECASE,
)
_OBJECT = re.compile(r"[\s`]*+(?:json)?\s*+\{.*\}[\s`]*", re.DOTALL)
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)(?:\"|$)|'((?:[^'\\]|\\.)*)(?:'|$)", re.DOTALL)
_WEAK_KEY = re.compile(
  r"[\"'](?:choice|option|selected(?:_option)?|correct_option|result|solution|prediction|verdict|conclusion|value|结果)[\"']\s*[:：]\s*",
  re.IGNORECASE,
)  # fields that hold the answer only where all the response is an object
_PLAIN_VALUE = re.compile(r"-?\d{1,3}(?:,\d{3})+(?!\d|,\s*\d)|[^\s,\]}\"']+")
_VALUE_FIELD = re.compile(r"\{\s*[\"'](?:value|answer|result)[\"']\s*:\s*")
_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|[nt](?![a-zA-Z])|[\"/'\\])")
_PLAIN_ESCAPES = {"n": "\n", "t": "\t"}
MAX_ITEMS = 40  # of a list in a field


def without_empty_boxes(text: str) -> str:
  r"""`text` without `\boxed{}`, and without one that is cut off before anything stands in it."""
  return _EMPTY_BOX.sub("", _BOX_TOKENS.sub(lambda m: f"\\boxed{{{m[1]}}}" if m[1].strip() else "", text))


def last_box(text: str) -> str | None:
  r"""The content of the last balanced, non-empty `\boxed{}` or `\fbox{}`; also `\boxed 5` without braces."""
  for match in reversed(list(_BOX.finditer(text))[-50:]):
    start = match.end()
    if text[start : start + 1] != "{":
      token = re.match(r"[^\s$.,{}\\]+", text[start:])
      content = token[0] if token and text[start - 1] == " " else None
    else:
      content = balanced(text, start)
    if content and content.strip():
      return _signed(text[max(0, match.start() - 2) : match.start()], content.strip())
  return None


def _signed(before: str, content: str) -> str:
  """What is boxed with the minus sign that stands right before the box: `= -\\boxed{5}` is -5, `7-\\boxed{5}` is 5."""
  if not _MINUS.search(before):
    return content
  return f"-({content})" if re.search(r"[-+]", content) else f"-{content}"


def is_cut_off(text: str) -> bool:
  """Whether `text` ends inside a box: what it was to answer is not known."""
  last = list(_BOX.finditer(text))[-1:]
  return bool(last) and text[last[0].end() : last[0].end() + 1] == "{" and balanced(text, last[0].end()) is None


def end_of_last_box(text: str) -> int:
  """Where the command of the last box ends; -1 where there is none."""
  return max((match.end() for match in _BOX.finditer(text)), default=-1)


def adjacent_boxes(text: str) -> str | None:
  """The contents of the last boxes as a list, where nothing but a comma or `and` stands between them; else None."""
  found: list[tuple[int, int, str]] = []  # start, end, content
  for match in list(_BOX.finditer(text))[-20:]:
    content = balanced(text, match.end())
    if content is None or not content.strip():
      continue
    if found and not _BETWEEN.fullmatch(text[found[-1][1] : match.start()]):
      found.clear()
    found.append((match.start(), match.end() + len(content) + 2, content.strip()))
  return ", ".join(content for *_, content in found) if len(found) > 1 else None


def balanced(text: str, start: int) -> str | None:
  """What stands between the brace at `start` and its partner; None if there is no partner."""
  depth = 0
  for index in range(start, min(len(text), start + 20_000)):
    if text[index] == "\\" or (index and text[index - 1] == "\\"):
      continue
    if text[index] == "{":
      depth += 1
    elif text[index] == "}":
      depth -= 1
      if depth == 0:
        return text[start + 1 : index]
  return None


def last_tag(text: str) -> str:
  """The content of the last `<answer>…</answer>`, or what follows one that is not closed, up to the end of the line."""
  tags = list(_TAG.finditer(text))
  closing = next((i for i in range(len(tags) - 1, 0, -1) if _closes(tags[i]) and not _closes(tags[i - 1])), None)
  if closing is not None:
    return text[tags[closing - 1].end() : tags[closing].start()]
  if tags and not _closes(tags[-1]):
    return text[tags[-1].end() :].strip().partition("\n")[0]
  return ""


def _closes(tag: re.Match[str]) -> bool:
  return bool(tag[1] or tag[2])


def last_field(text: str) -> tuple[int, str] | None:
  """Where it begins, and the value of the last `answer` field of what is, or was meant to be, JSON; None without one.

  A field that is said to be final counts before others. Back-slashes may be doubled, as JSON has it, or not.
  """
  keys = list(_KEY.finditer(text))[-50:]
  for key in [k for k in reversed(keys) if k["final"]] + [k for k in reversed(keys) if not k["final"]]:
    value = _value(text, key.end())
    if value:
      return key.start(), value
  if keys or not _OBJECT.fullmatch(text):
    return None
  return next(((0, value) for key in _WEAK_KEY.finditer(text) if (value := _value(text, key.end()))), None)


def _value(text: str, start: int) -> str:
  """The value of a field: a string, a number, a list of these, or the `value` of an object."""
  if field := _VALUE_FIELD.match(text, start):
    start = field.end()
  if text[start : start + 2] == "[[" and (end := text.find("]]", start)) > 0:
    return text[start : end + 2]
  if text[start : start + 1] == "[":
    items: list[str] = []
    start += 1
    while len(items) < MAX_ITEMS and (item := _STRING.match(text, start) or _PLAIN_VALUE.match(text, start)):
      items.append(_unescaped(item))
      separator = re.compile(r"\s*,?\s*").match(text, item.end())
      start = separator.end() if separator else item.end()
    return ", ".join(items)
  item = _STRING.match(text, start) or _PLAIN_VALUE.match(text, start)
  value = _unescaped(item) if item else ""
  return "" if value.lower() in {"null", "none", "___", "{"} else value


def _unescaped(item: re.Match[str]) -> str:
  if item.re is _PLAIN_VALUE:
    return item[0]
  text = item[1] if item[1] is not None else item[2]
  if "\\\\" not in text and re.search(r"\\[a-zA-Z]{2,}", text):  # LaTeX as it is, in what is no JSON
    return text.replace('\\"', '"').strip()
  return _ESCAPED.sub(_character, text).strip()


def _character(escaped: re.Match[str]) -> str:
  if escaped[1][0] == "u":
    return chr(int(escaped[1][1:], 16))
  return _PLAIN_ESCAPES.get(escaped[1], escaped[1])
