"""Where the answer is in a response, and in a reference solution.

Two readings. `marked_answer` is the paper's: only what follows the last `The answer is ` counts (method.md section 7).
`extract` reads what models write everywhere: a box, an answer tag, `####`, the phrase, an `A:` line, and last a number.
"""

import re

MAX_RESPONSE = 200_000  # characters looked at, from the end; longer responses are loops

_MARKER = re.compile(r"The answer is\b[ \t]*:?")
_BOX = re.compile(r"\\(?:(?:begin)?boxed|f(?:rame)?box)\s*")
_EMPTY_BOX = re.compile(r"\\(?:boxed|f(?:rame)?box)\s*\{\s*(?:\}|$)")
_TURN = re.compile(r"<\|(?:im_start|im_end|endoftext|eot_id|end)\|>|</s>")  # what follows is another turn
_BETWEEN = re.compile(r"(?:\s|[,;$&]|\\[,;()\[\]]|\\q?quad|\\text\{\s*(?:and|or)\s*\}|and|or){1,30}")
_HASHES = re.compile(r"####[ \t]*:?[ \t]*([^\n]*)")
_PHRASE = re.compile(
  r"answers?\**\s*(?:(?:to|for|of)\b[^.\n]{0,80}?\s)?(?:is|are|(?:would|will|should|must|has to) be|equals|[:：=])"
  r"(?:\s+(?:therefore|thus|then|hence|simply|just|indeed|clearly|exactly|definitely|actually"
  r"|approximately|about)\b)?\**[ \t]*[:：]?\**[ \t]*"
  r"|(?:答案|réponse|respuesta|risposta|resposta|antwort|ответ)\**[ \t]*(?:[是为：:]|est|es|è|é|ist)"
  r"[ \t]*[:：]?\**[ \t]*",
  re.IGNORECASE,
)
_FINAL = re.compile(r"final\s+answer\**\s*(?:is|:)", re.IGNORECASE)
_LINE = re.compile(r"^[ \t>*]*(?:A|Ans|Answer)\**[ \t]*[:：]\**[ \t]*(\S[^\n]*)$", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.。！](?=\s|$)")
_REASON = re.compile(
  r",?\s+(?:because|since|as (?:it|the|we|this)|so that)\s|,\s+(?:as|which)\s"
  r"|,?\s+(?:and|but)\s+not\s|,?\s+(?:rather than|instead of)\s"
)
_KIND = re.compile(  # what is said of the answer before it: `the point (1, 2)`
  r"^(?:the )?(?:(?:ordered )?(?:point|pair|triple)|number|value|set|interval|vector|matrix|fraction|function"
  r"|equation|ratio) "
  r"(?=[^A-Za-z\s])"
)
_GLOSS = re.compile(
  r"(?<=\d) (?:\([a-z][a-z -]{2,40}\)|of (?:the|a|an|his|her|their|its|all)\b[^=\d]*)$"
)  # … and after it

_CHOICE = re.compile(
  r"^\W*(?:(?:option|choice|letter|for sure|definitely|clearly)\s+)?\(?([A-J])"
  r"(?:\)[.:,。，]?(?=\s|$).*|[.:。，](?=\s|$|[^\x00-\x7f]).*|,\s+(?!and\b|or\b)[a-z]{2,}.*|\**)$",
  re.DOTALL | re.IGNORECASE,
)
_CHOICE_AND_NAME = re.compile(r"^([B-H]) +[A-Z][a-z]+(?: [a-z]+)?$", re.MULTILINE)
_CHOICE_AND_WORDS = re.compile(r"^([B-H])(?:\s+(?!and\b|or\b)[A-Za-z]{2,}\b[^=]*|[\u4e00-\u9fff].*)$", re.DOTALL)
_FIRST_LETTER = re.compile(r"^\W*([A-J])(?:[.)。:]\s*(?=\D)|[\u4e00-\u9fff])")
_LETTER = re.compile(r"(?<![\w)])\(([A-J])\)|\b(?:option|choice)\s+\(?([A-J])\b", re.IGNORECASE)
_LAST_LETTER = re.compile(
  r"\b(?:is|it's|be|choose|pick|select|finali[sz]e|go(?:ing)? with|settle on)\s+\**\(?([A-J])\)?\**\W*$"
)
_LETTER_LINE = re.compile(r"\W*([A-J])\W*")
_BOLD_END = re.compile(r"(?<![\w)*])\*\*([^*\n]{1,80})\*\*\W{0,9}$")

_MATH = re.compile(
  r"(?<!\\)\$\$([^$]{1,300})\$\$|(?<!\\)\$([^$\n]{1,300}?)(?<!\\)\$(?!\d)|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]",
  re.DOTALL,
)
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_PROSE = re.compile(r"[A-Za-z]{3,} [A-Za-z]{2,}")  # between two dollar signs that are money
_LINK = re.compile(
  r"(?:\b(?:is|are|was|equals|should be|must be|will be|would be)\b|=|[是为：])\s*(?:approximately |about |exactly )?"
)
_NUMBER = re.compile(
  r"(?<![A-Za-z0-9_.])[-−]?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?(?:\\?%)?|(?<![A-Za-z0-9_.])[-−]?\.\d+"
)
_SAID = re.compile(r"\b(?:so|is|we|it|he|to|thus|hence|gets?|be)\b")  # short words that make a text a sentence
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FOREIGN = re.compile(r"[^\W\d_\x00-\u03ff]")  # beyond Greek
_NOTATION = frozenset({
  "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh",
  "tanh", "coth", "sech", "csch", "max", "min", "mod", "gcd", "lcm", "inf",
})  # fmt: skip
SHORT = 120  # characters of a response that may be nothing but an answer


def after_thinking(response: str) -> str:
  """The text after the last `</think>`; nothing of a thought that was never closed."""
  visible = response[-MAX_RESPONSE:].rpartition("</think>")[2]
  return _TURN.split(visible.partition("<think>")[0], maxsplit=1)[0]


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


def adjacent_boxes(response: str) -> str | None:
  """The contents of the last boxes as a list, where nothing but a comma or `and` stands between them; else None."""
  text = after_thinking(response)
  found: list[tuple[int, int, str]] = []  # start, end, content
  for match in list(_BOX.finditer(text))[-20:]:
    content = balanced(text, match.end())
    if content is None or not content.strip():
      continue
    if found and not _BETWEEN.fullmatch(text[found[-1][1] : match.start()]):
      found.clear()
    found.append((match.start(), match.end() + len(content) + 2, content.strip()))
  return ", ".join(content for *_, content in found) if len(found) > 1 else None


def _last_tag(text: str) -> str:
  """The content of the last `<answer>…</answer>`."""
  end = text.lower().rfind("</answer>")
  start = text.lower().rfind("<answer>", 0, max(end, 0))
  return text[start + len("<answer>") : end] if start >= 0 else ""


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

  The first that is there: the last box (unless a "final answer is" follows it), the last `<answer>` tag, the last
  `####`, the last "answer is", the last `A:` line, a letter in brackets, and the last `$...$` or, where it comes
  later and `last_number` allows it, the last number. Only text after `</think>` is looked at.
  """
  if not isinstance(response, str):
    return None
  text = _EMPTY_BOX.sub("", after_thinking(response)).strip()
  phrases = list(_PHRASE.finditer(text))[-20:]
  if (box := last_box(text)) is not None and not _said_after_box(text):
    return box
  if tagged := _last_tag(text):
    return _tidy(tagged)
  hashes = [h for h in _HASHES.finditer(text) if h[1].strip()]
  if hashes and not _is_heading(hashes[-1], phrases):
    return _tidy(hashes[-1][1])
  for match in reversed(phrases):
    if answer := _said(_first_sentence(text[match.end() :])):
      return answer
  if lines := _LINE.findall(text):
    return _said(lines[-1])
  if phrases:
    return None
  return _unmarked(text, last_number)


def _is_heading(hashes: re.Match[str], phrases: list[re.Match[str]]) -> bool:
  """Whether a `####` only heads a paragraph, since it is followed by words and the answer is told further on."""
  return len(_prose(hashes[1])) > 1 and bool(phrases) and phrases[-1].start() > hashes.end()


def _said_after_box(text: str) -> bool:
  """Whether a "final answer is" comes after the last box, as in responses that box their intermediate results."""
  last = list(_BOX.finditer(text))[-1].end()
  return _FINAL.search(text, last) is not None


def gold_answer(text: str) -> str:
  r"""The answer of a reference: its last box, else what follows `####` or the marker, else the text itself."""
  if (box := last_box(text)) is not None:
    return box
  if hashes := [h for h in _HASHES.findall(text) if h.strip()]:
    return str(hashes[-1]).strip()
  return marked_answer(text) or text.strip()


def _first_sentence(text: str) -> str:
  """The first line that says something, up to a full stop that ends a sentence."""
  line = text.lstrip(" \t\r\n*:").partition("\n")[0]
  if line.strip() in {r"\[", "$$"}:
    line = text.lstrip(" \t\r\n*:")[:SHORT].replace("\n", " ")
  return _SENTENCE_END.split(line, maxsplit=1)[0]


def _tidy(answer: str) -> str | None:
  """Without Markdown, sentence marks and `$...$` around it; a choice letter without the text that follows it."""
  answer = answer.strip().strip("*`").strip()
  answer = answer.removesuffix(".").removesuffix("。").strip().strip("*`").strip()
  for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("“", "”")):
    inner = answer[len(left) : -len(right)]
    if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right) and left not in inner:
      answer = inner.strip().removesuffix(".").strip()
  if letter := _CHOICE.match(answer) or _CHOICE_AND_WORDS.match(answer):
    return letter[1].upper()
  return answer or None


def _said(sentence: str) -> str | None:
  """The answer in what follows a marker: tidied, and without the words of a whole sentence around it."""
  answer = _tidy(sentence)
  answer = answer and _tidy(_GLOSS.sub("", _KIND.sub("", answer)))
  if answer is None or ((head := _REASON.split(answer, maxsplit=1)[0]) == answer and len(_prose(answer)) < 2):
    return answer
  link = list(_LINK.finditer(head))
  if link and len(_prose(tail := head[link[-1].end() :])) < 3:
    return _tidy(tail)
  if len(_prose(head)) < 3:
    return _tidy(head)
  if maths := _maths(head):
    return _tidy(maths[-1][1])
  numbers = _NUMBER.findall(head)
  return _bare(numbers[0]) if len(numbers) == 1 else answer


def _prose(text: str) -> list[str]:
  r"""Words outside `$...$`, `\text{...}` and the notation of mathematics."""
  text = re.sub(r"\\text\w*\{[^{}]*\}|(?<!\\)\$[^$]*\$", " ", text)
  return [word for word in _WORD.findall(text) if word.lower() not in _NOTATION] + _FOREIGN.findall(text)


def _maths(text: str) -> list[tuple[int, str]]:
  """(end, content) of what stands between math delimiters and is not prose between two amounts of money."""
  found = [(match.end(), "".join(group or "" for group in match.groups()).strip()) for match in _MATH.finditer(text)]
  return [(end, content) for end, content in found if content and not _PROSE.search(content)]


def _bare(number: str) -> str:
  return number.replace("$", "").replace("−", "-")


def _unmarked(text: str, last_number: bool) -> str | None:
  """The answer of a response that marks none."""
  bold = _BOLD_END.search(text)
  if bold and re.search(r"\d", bold[1]) and not _prose(bold[1]):
    return _tidy(bold[1])
  quoted = text.startswith(("$", r"\(")) and len(_prose(text)) < 3
  if text and len(text) <= SHORT and "\n" not in text and (quoted or not (_prose(text) or _SAID.search(text))):
    bare = _tidy(text.lstrip("# ")) if text[-1] != ":" else None
    return (
      bare
      if bare and (re.search(r"\d", bare) or (len(bare) == 1 and bare.isalnum()) or "\\" in bare or "=" in bare)
      else None
    )
  last_line = text.rpartition("\n")[2] or text
  if letters := _LETTER.findall(last_line):
    return (letters[-1][0] or letters[-1][1]).upper()
  if "\n" in text and (letter := _LETTER_LINE.fullmatch(last_line)):
    return letter[1]
  if letter := _LAST_LETTER.search(last_line) or _FIRST_LETTER.match(text) or _CHOICE_AND_NAME.match(text):
    return str(letter[1])
  maths = _maths(text)
  numbers = list(_NUMBER.finditer(text)) if last_number else []
  if maths and not (numbers and numbers[-1].start() >= maths[-1][0]):
    return _tidy(_EQUALS.split(maths[-1][1])[-1] or maths[-1][1])
  return _bare(numbers[-1][0]) if numbers else None
