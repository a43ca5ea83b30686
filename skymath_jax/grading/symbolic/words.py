r"""Answers in words, and the words that stand beside an answer (`for all x`, `where k is an integer`)."""

import re

_SPELLINGS = {
  r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\to": r"\rightarrow", r"\dots": r"\ldots", r"\cdots": r"\ldots",
  r"\times": r"\cdot",
}  # fmt: skip
_JOINT = re.compile(r"\s*(?:[,;&]|\band\b|\bor\b)\s*", re.IGNORECASE)
_KIND = r"(?:\\in ?(?:\\reals|[A-Z]_\{set\}))"  # of the numbers that an unknown stands for
_QUALIFIER = re.compile(
  r"(?:[\s,;(](?:\\text\{[\s,]*)?(?:where\b|(?:for )?(?:all|any|every|each|some) integers?\b"
  r"|for (?:all|any|every|each|some|integers?)\b)"
  rf"|[,;(]\s?(?:with )?[a-z](?: ?, ?[a-z])* ?{_KIND}).*$",
  re.DOTALL,
)
_FOR_ALL = re.compile(
  r"\s*(?:\\text\{\s*)?for (?:all|every|any|each)(?: real| integers?| rational)?"
  rf"\s*\}}?\s*[a-z]\s*(?:{_KIND}\s*)?(?=,|;|\band\b|\bor\b)"
)
_INFORMATIVE = re.compile(
  r"even|odd|prime|positive|negative|except|not |multiple|divis|greater|less|distinct|coprime|[<>]|\\[lg]e|\\ne|\d"
)
_DOMAIN = re.compile(r"(?:all|any|every|each) (?:positive|negative|non-?negative) (?:integers?|reals?|numbers?)")
_YES, _NO = frozenset({"yes", "true", "y", "t"}), frozenset({"no", "false", "n", "f"})
_AFTER_VERDICT = re.compile(r"^(?:\\text\{)?(yes|no|true|false)[,.;:!] \S[^=<>\d]*$", re.IGNORECASE)  # `No, it is not`
_SUBSCRIPT = re.compile(r"_\{[^{}]*\}")


def same_truth(a: str, b: str) -> bool:
  """Whether both say yes (`Yes`, `True`), or both no; a lone letter says so only beside a word."""
  explained = [_AFTER_VERDICT.match(text) for text in (a, b)]
  if all(explained):  # two reasons may differ
    return False
  first, second = (words_of(match[1] if match else text) for match, text in zip(explained, (a, b), strict=True))
  return max(len(first), len(second)) > 1 and any({first, second} <= words for words in (_YES, _NO))


def words_of(text: str) -> str:
  r"""A text answer in one form: no `\text`, case, quotes, white space or sentence marks (marks stay beside digits)."""
  text = re.sub(r"\\[a-z]+", lambda m: _SPELLINGS[m[0]] if m[0] in _SPELLINGS else m[0], text)
  text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*", "", text).lower()
  text = re.sub(r"[\s{}\"'$*`]+", "", text)
  text = re.sub(
    r"(?:\\cdot(?!s))?\\ldots(?:\\cdot(?!s))?", r"\\ldots", text
  )  # a sign of products beside it says nothing
  return text if any(c.isdigit() for c in text) else re.sub(r"[.,;:!?()]+|(?<=\w)-+", "", text)


def parts_of(text: str) -> list[str]:
  """The items of a list in words, each in one form, in no order (but as written beside an ellipsis); one if no list."""
  text = re.sub(r"\\text(?:bf)?\s*\{([^{}]*)\}", r" \1 ", text)
  parts = [words_of(part) for part in _JOINT.split(text.strip()) if part.strip()]
  parts = [part for part in parts if part]
  return parts if any("\\ldots" in part for part in parts) else sorted(parts)


def without_qualifier(text: str) -> tuple[str, str]:
  """`text` without what it says at its end of the unknowns it contains, and that."""
  text = _FOR_ALL.sub("", text)
  match = _QUALIFIER.search(text)
  if match is None or not text[: match.start()].strip():
    return text, ""
  main = text[: match.start()].strip().rstrip(" ,;(")
  if main.count("{") != main.count("}") or main.count("(") - main.count(")") not in {0, -1, 1} or main[-1:] in "=|:":
    return text, ""
  return main, match[0]


def says_little(qualifier: str) -> bool:
  """Whether a qualifier only names the kind of number (`for all real x`), so that it may be left out."""
  return not _INFORMATIVE.search(_DOMAIN.sub("", _SUBSCRIPT.sub("", qualifier)))


def of_integers(qualifier: str) -> bool:
  """Whether a qualifier says that its unknown is an integer, whose name is then free."""
  return bool(re.search(r"integer|[ZN]_\{set\}|\bZ\b", qualifier))
