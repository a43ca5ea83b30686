"""What is said in words, in figures and signs: `twenty-one`, `2.5 million`, `三分之二`, `无解`, `about 12`."""

import re

MAX_NUMERAL = 40  # characters of a Chinese numeral

_SMALL = (
  "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
  " eighteen nineteen"
).split()
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * k for k, word in enumerate(_TENS, start=2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
  "half": 2,
  "halves": 2,
  "third": 3,
  "quarter": 4,
  "fourth": 4,
  "fifth": 5,
  "sixth": 6,
  "eighth": 8,
  "tenth": 10,
}
_WORD = "|".join((*_VALUES, *_LARGE, "hundred"))
_NUMBER = re.compile(
  rf"(minus |negative )?((?:{_WORD})(?:(?:[ -]|,? and )(?:{_WORD}))*)((?: [a-z]+){{0,3}})", re.IGNORECASE
)
_PART = re.compile(rf"(one|two|three|four|five|seven|nine)[ -]({'|'.join(_PARTS)})s?", re.IGNORECASE)
_SHARE = re.compile(r"(\d+) (?:out of|in|of) (\d+)")
_MULTIPLE = re.compile(
  r"(?<=\d) ?(?:(\\(?:text|mathrm|mbox)\{ ?)?\b(hundred|thousand|million|billion|trillion|dozen)s?\b"
  r"|(\\text\{ ?)?([万亿]))"
)
_TIMES = {"hundred": "10^{2}", "dozen": "12", "万": "10^{4}", "亿": "10^{8}"} | {
  word: f"10^{{{len(str(value)) - 1}}}" for word, value in _LARGE.items()
}
_NEARLY = re.compile(
  r"^(?:approximately|approx\.?|about|around|roughly|nearly|exactly|大约|约等于|约为|约)\s*(?=[\d$\\.(-])",
  re.IGNORECASE,
)
_WRAPPED = re.compile(r"^\\(?:text|mathrm|mbox|textbf)\{([^{}]*)\}$")
_CHINESE_WORDS = {
  "无解": "no solution", "没有解": "no solution", "空集": "empty set", "不存在": "does not exist",
  "无数": "infinitely many", "无数个": "infinitely many", "无穷多": "infinitely many", "全体实数": "all real numbers",
  **dict.fromkeys(("是", "是的", "对", "正确", "真", "成立", "能", "可以"), "yes"),
  **dict.fromkeys(("否", "不是", "不对", "错", "错误", "假", "不成立", "不能", "不可以"), "no"),
}  # fmt: skip
_FIGURES = {figure: value for value, figure in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_NUMERAL = "[零〇一二两三四五六七八九十百千万亿]+"
_OF_PARTS = re.compile(rf"({_NUMERAL}|\d+)分之({_NUMERAL}|\d+)")
_COUNTED = re.compile(rf"(负?)({_NUMERAL})(?![\u4e00-\u9fff]{{3}})([\u4e00-\u9fff]{{0,2}})")


def in_figures(text: str) -> str:
  """`text` with the numbers that its words say in figures, and Chinese verdicts in English; else as it is."""
  text = _NEARLY.sub("", text)
  plain = _WRAPPED.sub(r"\1", text).strip(" .。")
  if plain in _CHINESE_WORDS:
    return _CHINESE_WORDS[plain]
  if share := _SHARE.fullmatch(plain):
    return f"\\frac{{{share[1]}}}{{{share[2]}}}"
  if part := _PART.fullmatch(plain):
    return f"\\frac{{{_VALUES[part[1].lower()]}}}{{{_PARTS[part[2].lower().removesuffix('s')]}}}"
  if number := _NUMBER.fullmatch(plain):
    return f"{'-' if number[1] else ''}{_english(number[2])}{number[3]}"
  text = _OF_PARTS.sub(lambda m: f"\\frac{{{_chinese(m[2])}}}{{{_chinese(m[1])}}}", text)
  if (counted := _COUNTED.fullmatch(plain)) and len(counted[2]) <= MAX_NUMERAL:
    return f"{'-' if counted[1] else ''}{_chinese(counted[2])}{counted[3]}"
  return _MULTIPLE.sub(lambda m: f"\\times {_TIMES[m[2] or m[4]]}{m[1] or m[3] or ''}", text)


def _english(words: str) -> int:
  """The number that `two hundred and five thousand` says."""
  total = group = 0
  for word in re.split(r"[ ,-]+", words.lower()):
    if word in _LARGE:
      total, group = total + max(group, 1) * _LARGE[word], 0
    elif word == "hundred":
      group = max(group, 1) * 100
    elif word != "and":
      group += _VALUES[word]
  return total + group


def _chinese(numeral: str) -> int:
  """The number that a Chinese numeral (or one in digits) says: `三百零五`, `二〇二六`."""
  if numeral.isdigit():
    return int(numeral)
  if not set(numeral) & (_UNITS.keys() | _MYRIADS.keys()):
    return int("".join(str(_FIGURES[figure]) for figure in numeral))
  total = group = figure = 0
  for sign in numeral:
    if sign in _FIGURES:
      figure = _FIGURES[sign]
    elif sign in _UNITS:
      group, figure = group + (figure or 1) * _UNITS[sign], 0
    else:
      total, group, figure = (total + group + figure) * _MYRIADS[sign], 0, 0
  return total + group + figure
