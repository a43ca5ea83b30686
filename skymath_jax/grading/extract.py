"""Where the answer is in a response, and in a reference solution.

Two readings. `marked_answer` is the paper's: only what follows the last `The answer is ` counts.
`extract` reads what models write everywhere: a box, a field of JSON, an answer tag, `####`, the phrase in the languages
of the benchmarks, an `A:` line, and last a number.
"""

import re

from skymath_jax.grading.boxes import end_of_last_box, is_cut_off, last_box, last_field, last_tag, without_empty_boxes
from skymath_jax.grading.markers import CELL, FINAL, HASHES, HEADING, LINE, PHRASE, first_sentence, without_reason

MAX_RESPONSE = 200_000  # characters looked at, from the end; longer responses are loops
SHORT = 120  # characters of a response that may be nothing but an answer

_MARKER = re.compile(r"The answer is\b[ \t]*:?")
_TURN = re.compile(  # what follows is another turn
  r"<\|(?:im_start|im_end|im_msg_end|endoftext|eot_id|end)\|>|</s>|<end_of_turn>"
)
_KIND = re.compile(  # what is said of the answer before it: `the point (1, 2)`
  r"^(?:the )?(?:(?:ordered )?(?:point|pair|triple)|number|value|set|interval|vector|matrix|fraction|function"
  r"|equation|ratio) "
  r"(?=[^A-Za-z\s])"
)
_GLOSS = re.compile(
  r"(?<=\d) (?:\((?!mod\b|base\b)[a-z]{3}[^()=]{0,40}\)|of (?:the|a|an|his|her|their|its|all)\b[^=\d]*"
  r"|(?:in (?:total|all)|altogether|as \w+ed|overall)\b[^=\d]*)$"
)  # … and after it

_BOLD_INSIDE = re.compile(r"(?<![\w)])\*\*([^*]+)\*\*(?![\w(])")
_DOUBLE_BRACKETS = re.compile(r"^(?:\[\[([^\[\],]*)\]\]|【([^【】]*)】)(?=[.。]?$)")
_CHOICES = re.compile(
  r"^\W*(?:选项|選項)?([A-H](?:\s*(?:[,，、和与及&/]|and)\s*(?:and\s+)?[A-H])+)(?![A-Za-z])(?:[\u4e00-\u9fff，。].*)?\W*$",
  re.DOTALL,
)
_OPTION = re.compile(r"(?:option|choice)\s+\(?([A-Ja-j]|\d{1,2})\)?(?:[:.,]?\s.*|[:.,]?)$", re.IGNORECASE | re.DOTALL)
_CONTRAST = re.compile(r"^not\s.{1,40}?,?\s+but\s+(?:rather\s+|instead\s+)?")
_SUFFIX = re.compile(r"(?<=\d)['’][a-zıiüuğş]{2,6}(?=\W*$)")  # 42'dir, as Turkish says that it is so
_SAYS_MORE = re.compile(  # what follows a formula and says more of it
  r"[(（](?![\d$\\-])|\(\$?=|[(\[](?:[^()\[\]]*[a-z]{3})|[-–—] [a-z]{3}"
  r"|,?\s*for (?:all|any|every|each|some)\b|,\s+(?:where|which|because|since|as|with|when)\b"
)

_CHOICE = re.compile(
  r"^(?:- )?[^\w−-]*(?:(?:la|el|le|der|die)\s+)?"
  r"(?:(?:option|choice|letter|for sure|definitely|clearly|opci[oó]n|letra|lettre|вариант)\s+)?"
  r"[(\[]?((?-i:[A-Ja-h]))"
  r"(?:[\])](?:[.:,。，]?(?=\s|$)|(?=[\d\u4e00-\u9fff])).*|\s+[-–—]\s+[a-z]{3,}.*|[.:。，](?=\s|$|[^\x00-\x7f]).*|,\s+(?!and\b|or\b)[a-z]{2,}.*|\**)$",
  re.DOTALL | re.IGNORECASE,
)
_CHOICE_AND_NAME = re.compile(r"^([B-H]) +[A-Z][a-z]+(?: [a-z]+)?$", re.MULTILINE)
_CHOICE_AND_WORDS = re.compile(r"^([B-H])(?:\s+(?!and\b|or\b)[A-Za-z]{2,}\b[^=]*|[\u4e00-\u9fff].*)$", re.DOTALL)
_FIRST_LETTER = re.compile(r"^\W*([A-J])(?:[.)。:]\s*(?=\D)|[\u4e00-\u9fff]|\s*【|\s(?:because|since)\b)")
_LETTER = re.compile(
  r"(?<![\w)])\(([A-J])\)|(?:\b(?:option|choice)\s+|(?:选择|选项|选)\s*[:：]?\s*)\(?([A-J])(?![A-Za-z])", re.IGNORECASE
)
_LAST_LETTER = re.compile(
  r"\b(?:(?:is|it's|be|choose|pick|select|finali[sz]e|go(?:ing)? with|settle on)\s"
  r"|(?:[Tt]hus|[Hh]ence|[Ss]o|[Tt]herefore)[,:]?\s)"
  r"\s*\**\(?([A-J])\)?\**\W*$"
  r"|(?:^[\W_]*|\b(?:believe|think|that|say)\s+)([A-J])[\])]?\**"
  r"\s*(?:is (?:the )?(?:correct|right|best)\b|是(?:正确|对))"
)
_PLACEHOLDER = re.compile(  # of a template that was repeated instead of filled in
  r"[\[<{](?:(?:your|the|a|final|actual|correct) )*"
  r"(?:answer|content|result|value|letter|number|option|choice|expression)(?: here)?[\]>}]",
  re.IGNORECASE,
)
_UNFINISHED_BOX = re.compile(r"\\(?:boxed|f?box)\s*\{")
_BRACKETS = str.maketrans("（）［］", "()[]")
_LETTER_LINE = re.compile(r"[\W_]*([A-J])[\W_]*")
_VERDICT = re.compile(r"^[\W_]*(yes|no|true|false)(?:[\W_]*$|[,.;:!]\s|[*_]*\n)", re.IGNORECASE)
_BOLD_END = re.compile(r"(?<![\w)*])\*\*([^*\n]{1,80})\*\*\W{0,9}$")

_NEXT_QUESTION = re.compile(
  r"\n\s*(?:[#*]*\s*)?(?:problem|question|q|human|user|example|exercise|题目|问题|例)\b", re.IGNORECASE
)
_SIMPLE = re.compile(r"[A-J]|-?\d[\d,.]*")
_BOLD = re.compile(r"(?<![\w)*])\*\*([^*\n]{1,80})\*\*(?!\*)")
_MATH = re.compile(
  r"(?<!\\)\$\$([^$]{1,300})\$\$|(?<!\\)\$([^$\n]{1,300}?)(?<!\\)\$(?!\d)|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]",
  re.DOTALL,
)
_FORMULA = re.compile(r"(?<!\\)(?:\$\$[^$]*\$\$|\$[^$\n]+\$)")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_PROSE = re.compile(r"[A-Za-z]{3,} [A-Za-z]{2,}")  # between two dollar signs that are money
_LINK = re.compile(
  r"(?:\b(?:is|are|was|equals|should be|must be|will be|would be)\b|=|[是为：])\s*(?:approximately |about |exactly )?"
)
_AFTER_EQUALS = re.compile(r"(?<![<>!:=\\])=\s*([^=$\\\n]{1,60}?)\.?$")
_NUMBER = re.compile(
  r"(?<![A-Za-z0-9_.])[-−]?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?(?:\\?%)?|(?<![A-Za-z0-9_.])[-−]?\.\d+"
)
_SAID = re.compile(
  r"\b(?:[Ss]o|is|[Ww]e|[Ii]t|[Hh]e|to|[Tt]hus|[Hh]ence|gets?|be)\b"
)  # short words that make a text a sentence
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FOREIGN = re.compile(r"[^\W\d_\x00-\u03ff]")  # beyond Greek
_NOTATION = frozenset({
  "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh",
  "tanh", "coth", "sech", "csch", "max", "min", "mod", "gcd", "lcm", "inf",
})  # fmt: skip
_NUMBER_LIST = re.compile(
  r"(?:\b(?:are|were|answers?|values?|roots?|solutions?)\s*[:=]?\s*|[:=∈]\s*)"
  rf"((?:{_NUMBER.pattern})(?:(?:\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+)(?:{_NUMBER.pattern}))+)\W*$"
)
_JOINT = re.compile(r"\s*(?:,|;|、|,?\s*(?:and|or|和|或))\s*")
_ASSIGNED = r"[a-zA-Z](?:_\{?\d\}?)?\s*=\s*[^\s,;=$]+"
_ASSIGNED_LIST = re.compile(rf"({_ASSIGNED}(?:(?:\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+){_ASSIGNED})+?)[\s.!]*$")


def after_thinking(response: str) -> str:
  """The text after the last `</think>`; nothing of a thought that was never closed."""
  visible = response[-MAX_RESPONSE:].rpartition("</think>")[2]
  return _TURN.split(visible.partition("<think>")[0], maxsplit=1)[0]


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

  The first that is there: an `answer` field of JSON after the last box, the last box (unless a "final answer is"
  follows), the last `<answer>` tag, the last `####`, the last "answer is" in any language, the line below a heading
  `Final answer`, the last `A:` line, a letter in brackets, and the last `$...$` or, where it comes later and
  `last_number` allows it, the last number; a list where several are named side by side. Only text after `</think>` is
  looked at.
  """
  if not isinstance(response, str):
    return None
  text = without_empty_boxes(after_thinking(response)).strip()
  box_end = end_of_last_box(text)
  if (field := last_field(text)) and (field[0] > box_end or text.lstrip("`json \n").startswith("{")):
    return last_box(field[1]) or _marked(field[1], list(PHRASE.finditer(field[1]))) or _in_field(field[1])
  if (box := last_box(text)) is not None and FINAL.search(text, box_end) is None:
    return _corrected(text[box_end:]) or box
  if is_cut_off(text) and FINAL.search(text, box_end) is None:
    return None
  if tagged := last_tag(text):
    return _tidy(tagged)
  phrases = list(PHRASE.finditer(text))[-20:]
  hashes = [h for h in HASHES.finditer(text) if h[1].strip(" .*")]
  if hashes and not _is_heading(hashes[-1], phrases):
    return _said(hashes[-1][1].strip().removesuffix("answer.").removesuffix("answer"))
  return _marked(text, phrases) or (None if phrases else _unmarked(text, last_number))


def _in_field(value: str) -> str | None:
  """The answer in a field that announces none: as it stands, but for a short sentence about a number."""
  return _said(value) if len(value) <= SHORT // 2 and re.search(r"\d", value) else _tidy(value)


def _corrected(rest: str) -> str | None:
  """A letter or number that what follows the last box says is the answer, before any other question begins."""
  phrases = list(PHRASE.finditer(_NEXT_QUESTION.split(rest, maxsplit=1)[0]))
  answer = _said(first_sentence(rest[phrases[-1].end() :][:2_000], SHORT)) if phrases else None
  return answer if answer and _SIMPLE.fullmatch(answer) else None


def _marked(text: str, phrases: list[re.Match[str]]) -> str | None:
  """The answer that words announce."""
  headings = list(HEADING.finditer(text))[-1:]
  for match in sorted((*headings, *phrases), key=lambda m: m.end(), reverse=True):
    if answer := _said(first_sentence(text[match.end() : match.end() + 2_000], SHORT)):
      return answer
  for pattern in (CELL, LINE):
    if found := pattern.findall(text):
      return _said(found[-1])
  return None


def _is_heading(hashes: re.Match[str], phrases: list[re.Match[str]]) -> bool:
  """Whether a `####` only heads a paragraph, since it is followed by words and the answer is told further on."""
  return len(_prose(hashes[1])) > 1 and bool(phrases) and phrases[-1].start() > hashes.end()


def gold_answer(text: str) -> str:
  r"""The answer of a reference: its last box, else what follows `####` or the marker, else the text itself."""
  if (box := last_box(text)) is not None:
    return box
  if hashes := [h for h in HASHES.findall(text) if h.strip()]:
    return str(hashes[-1]).strip()
  return marked_answer(text) or text.strip()


def announced_answer(solution: str) -> str | None:
  """The answer of a solution that words announce: after the paper's marker, else in the last line with words."""
  if (marked := marked_answer(solution)) is not None:
    return marked
  last = solution.rstrip().rpartition("\n")[2]
  return _marked(last, list(PHRASE.finditer(last))[-20:])


def _tidy(answer: str) -> str | None:
  """Without Markdown, sentence marks and `$...$` around it; a choice letter without the text that follows it."""
  answer = answer.strip().strip("*`").strip()
  if _PLACEHOLDER.fullmatch(answer) or _UNFINISHED_BOX.match(answer):
    return None
  answer = _DOUBLE_BRACKETS.sub(r"\1\2", _BOLD_INSIDE.sub(r"\1", answer) if len(answer) <= SHORT else answer)
  answer = answer.removesuffix("?").removesuffix(".").removesuffix("。").strip().strip("*`").strip()
  for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("“", "”")):
    inner = answer[len(left) : -len(right)]
    if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right) and left not in inner:
      answer = inner.strip().removesuffix(".").strip()
  if answer[:1] == "}":
    answer = answer[1:].strip()
  if answer[-1:] in {")", "]", "}"} and not re.search(r"[(\[{]", answer):  # it closes what the marker stood in
    answer = answer[:-1].strip()
  if several := _CHOICES.match(answer):
    return ", ".join(re.findall("[A-H]", several[1]))
  if option := _OPTION.match(answer):
    return option[1].upper()
  answer = answer.translate(_BRACKETS) if len(answer) <= SHORT else answer
  if letter := _CHOICE.match(answer) or _CHOICE_AND_WORDS.match(answer):
    return letter[1].upper()
  return answer or None


def _said(sentence: str) -> str | None:
  """The answer in what follows a marker: tidied, and without the words of a whole sentence around it."""
  sentence = _CONTRAST.sub("", sentence.strip().strip("*").strip())
  sentence = _SUFFIX.sub("", sentence)
  if formula := _MATH.match(sentence):  # what follows a formula in brackets says more of it
    rest = sentence[formula.end() :].strip(" *")
    if not rest or _SAYS_MORE.match(rest):
      return _tidy(formula[0])
  head = without_reason(sentence)
  answer = _tidy(head)
  answer = answer and _tidy(_GLOSS.sub("", _KIND.sub("", answer)))
  if answer is None or (head == sentence and len(_prose(answer)) < 2):
    return answer
  link = list(_LINK.finditer(head))
  if link and len(_prose(tail := head[link[-1].end() :])) < 3:
    return _tidy(tail)
  if len(_prose(head)) < 3:
    return answer
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
  if len(text) <= SHORT and (several := _several(text)):
    return several
  bold = _BOLD_END.search(text) or _only_bold(text)
  if bold and re.search(r"\d", bold[1]) and not _prose(bold[1]):
    return _tidy(bold[1])
  quoted = text.startswith(("$", r"\(")) and len(_prose(text)) < 3
  if text[-1:] in {"、", "．"} and (letter := _LETTER_LINE.fullmatch(text)):
    return letter[1]
  if verdict := _VERDICT.match(text):
    return verdict[1]
  if text and len(text) <= SHORT and "\n" not in text and (quoted or not (_prose(text) or _SAID.search(text))):
    bare = _tidy(text.lstrip("# _").rstrip("_")) if text[-1] != ":" else None
    return (
      bare
      if bare and (re.search(r"\d", bare) or (len(bare) == 1 and bare.isalpha()) or "\\" in bare or "=" in bare)
      else None
    )
  last_line = (text.rpartition("\n")[2] or text)[-1_000:]
  if several := _several(last_line):
    return several
  if choices := _several_letters(last_line):
    return choices
  if letters := _LETTER.findall(last_line):
    return (letters[-1][0] or letters[-1][1]).upper()
  if "\n" in text and (letter := _LETTER_LINE.fullmatch(last_line)):
    return letter[1]
  if "\n" in text and (letter := _LETTER_LINE.fullmatch(text.partition("\n")[0])):
    return letter[1]
  if letter := _LAST_LETTER.search(last_line) or _FIRST_LETTER.match(text) or _CHOICE_AND_NAME.match(text):
    return str(next(filter(None, letter.groups())))
  if _breaks_off(text):
    return None
  maths = _maths(text)
  numbers = list(_NUMBER.finditer(text)) if last_number else []
  if (value := _AFTER_EQUALS.search(last_line)) and re.search("[a-zA-Z]", value[1]) and not _prose(value[1]):
    return _tidy(value[1])
  if maths and not (numbers and numbers[-1].start() >= maths[-1][0]):
    assigned = _ASSIGNED_LIST.fullmatch(re.sub(r"\\q?quad|\\[,;]", " ", maths[-1][1]).strip())
    return _tidy((assigned and assigned[1]) or _EQUALS.split(maths[-1][1])[-1] or maths[-1][1])
  return _bare(numbers[-1][0]) if numbers else None


def _several_letters(line: str) -> str | None:
  """The choices that a line names side by side: `选项A和D是正确的`."""
  match = re.search(r"(?:[选選][项項]|options)\s*([A-H](?:\s*(?:[,，、和与及]|and)\s*[A-H])+)", line)
  return ", ".join(re.findall("[A-H]", match[1])) if match else None


def _only_bold(text: str) -> re.Match[str] | None:
  """The one number in bold in the last line of a response in several lines: `Kim pays **64** for 16 glasses.`"""
  found = list(_BOLD.finditer(text.strip().rpartition("\n")[2])) if "\n" in text else []
  return found[0] if len(found) == 1 else None


def _breaks_off(text: str) -> bool:
  """Whether a response ends inside a formula: what it wrote last is no answer but part of a thought."""
  rest = _FORMULA.sub("", text).rpartition("\n")[2]
  opened = re.search(r"(?<!\\)\$(?!\d)(.*)$", rest)
  return opened is not None and not re.search(r"(?<![\\a-z{])[a-z]{2,}[ ,]", opened[1])


def _several(line: str) -> str | None:
  """The values that a line names side by side at its end: `$x = 5$ and $x = -3$`, `the roots are 5 and -3`."""
  formulas = list(_MATH.finditer(line))
  run = formulas[-1:]
  while len(run) < len(formulas) and _JOINT.fullmatch(line[formulas[-len(run) - 1].end() : run[0].start()]):
    run.insert(0, formulas[-len(run) - 1])
  if len(run) > 1 and len(line) - run[-1].end() < 3:
    return ", ".join(content for _, content in _maths(line[run[0].start() :]))
  if found := _NUMBER_LIST.search(line) or _ASSIGNED_LIST.search(line):
    return _tidy(found[1])
  return None
