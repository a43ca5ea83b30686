"""Where the answer is in a response, and in a reference solution.

Two readings. `marked_answer` is the paper's: only what follows the last `The answer is ` counts (method.md section 7).
`extract` reads what models write everywhere: a box, an answer tag, `####`, the phrase, an `A:` line, and last a number.
"""

import re

MAX_RESPONSE = 200_000  # characters looked at, from the end; longer responses are loops

_MARKER = re.compile(r"The answer is\b[ \t]*:?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_PHRASE = re.compile(
  r"answer\**\s*(?:(?:to|for|of)\b[^.\n]{0,80}?\s)?(?:is|are|would be|will be|should be|equals|[:：=])"
  r"(?:\s+(?:therefore|thus|then|simply|just))?\**[ \t]*[:：]?\**[ \t]*|答案[是为：:][ \t]*[:：]?",
  re.IGNORECASE,
)
_LINE = re.compile(r"^[ \t>*]*(?:A|Ans|Answer)\**[ \t]*[:：]\**[ \t]*(\S[^\n]*)$", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.。](?=\s|$)")
_CHOICE = re.compile(r"^\W*(?:(?:option|choice)\s+)?\(?([A-J])(?:\)[.:,]?(?=\s|$).*|[.:](?=\s|$).*|\**)$", re.DOTALL)
_LETTER = re.compile(r"\(([A-J])\)|\b(?:option|choice)\s+\(?([A-J])\b", re.IGNORECASE)
_MATH = re.compile(
  r"(?<!\\)\$\$([^$]{1,300})\$\$|(?<!\\)\$([^$\n]{1,300}?)(?<!\\)\$(?!\d)|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]",
  re.DOTALL,
)
_PROSE = re.compile(r"[A-Za-z]{3,} [A-Za-z]{2,}")  # between two dollar signs that are money
_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?|(?<![\w.])[-−]?\.\d+")


def after_thinking(response: str) -> str:
  """The text after the last `</think>`; nothing of a thought that was never closed."""
  visible = response[-MAX_RESPONSE:].rpartition("</think>")[2]
  return visible.partition("<think>")[0]


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
      return content.strip()
  return None


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


def marked_answer(response: str) -> str | None:
  """The paper's extraction: after the last `The answer is` (with or without colon), up to a full stop + newline.

  None where the marker is missing or nothing follows it, which counts as wrong.
  """
  text = after_thinking(response)
  found = list(_MARKER.finditer(text))
  if not found:
    return None
  answer = text[found[-1].end() :].strip().partition(".\n")[0].strip()
  return answer.removesuffix(".").strip() or None


def extract(response: str, *, last_number: bool = True) -> str | None:
  """The final answer of a response, or None.

  The first that is there: the last box, the last `<answer>` tag, the last `####`, the last "answer is", the last `A:`
  line, a letter in brackets, the last `$...$`, and (with `last_number`) the last number. Only text after `</think>`.
  """
  if not isinstance(response, str):
    return None
  text = after_thinking(response).strip()
  if (box := last_box(text)) is not None:
    return box
  if tags := _TAG.findall(text):
    return _tidy(tags[-1])
  if hashes := [h for h in _HASHES.findall(text) if h.strip()]:
    return _tidy(hashes[-1])
  phrases = list(_PHRASE.finditer(text))
  for match in reversed(phrases[-20:]):
    if answer := _tidy(_first_sentence(text[match.end() :])):
      return answer
  if lines := _LINE.findall(text):
    return _tidy(lines[-1])
  if phrases:
    return None
  return _unmarked(text, last_number)


def gold_answer(text: str) -> str:
  r"""The answer of a reference: its last box, else what follows `####` or the marker, else the text itself."""
  if (box := last_box(text)) is not None:
    return box
  if hashes := [h for h in _HASHES.findall(text) if h.strip()]:
    return hashes[-1].strip()
  return marked_answer(text) or text.strip()


def _first_sentence(text: str) -> str:
  """The first line that says something, up to a full stop that ends a sentence."""
  line = text.lstrip(" \t\r\n*:").partition("\n")[0]
  return _SENTENCE_END.split(line, maxsplit=1)[0]


def _tidy(answer: str) -> str | None:
  """Without Markdown, sentence marks and `$...$` around it; a choice letter without the text that follows it."""
  answer = answer.strip().strip("*`").strip()
  answer = answer.removesuffix(".").removesuffix("。").strip().strip("*`").strip()
  for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("“", "”")):
    inner = answer[len(left) : -len(right)]
    if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right) and left not in inner:
      answer = inner.strip().removesuffix(".").strip()
  if letter := _CHOICE.match(answer):
    return letter[1]
  return answer or None


def _unmarked(text: str, last_number: bool) -> str | None:
  """The answer of a response that marks none."""
  if text and len(text) <= 60 and not re.search(r"\s", text):
    bare = _tidy(text)
    return bare if bare and (re.search(r"\d", bare) or len(bare) == 1 or "\\" in bare) else None
  if letters := _LETTER.findall(text.rpartition("\n")[2] or text):
    return (letters[-1][0] or letters[-1][1]).upper()
  maths = ["".join(found).strip() for found in _MATH.findall(text)]
  if maths := [found for found in maths if found and not _PROSE.search(found)]:
    return _tidy(maths[-1].rpartition("=")[2] or maths[-1])
  numbers = _NUMBER.findall(text) if last_number else []
  return numbers[-1].replace("$", "").replace("−", "-") if numbers else None
