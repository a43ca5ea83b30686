"""The wording tables turned into a parser of single sentences.

Every word of the lexicon is replaced by its class ("Mia finds 9 more shells." becomes "N G # more O."); the result, the
skeleton, is looked up in a table made from the same templates that render. Templates' own words that happen to be in
the lexicon ("sells" in a price) are checked literally.
"""

import dataclasses
import re

from skymath_jax.problems.micro_gsm import lexicon, wording

_PRONOUNS = {"she", "he", "her", "him"}
_SUBJECTS = (lexicon.GENERAL, *lexicon.SUBJECTS)
_CLASSES: dict[str, set[str]] = {
  "N": set(lexicon.PERSONS) | _PRONOUNS,
  "C": {subject.container for subject in _SUBJECTS},
  "V": {verb for subject in _SUBJECTS for verb in (*subject.gains, *subject.losses)},
  "u": set(lexicon.UNITS),
  "U": {unit + "s" for unit in lexicon.UNITS},
}
_GAINS = {verb for subject in _SUBJECTS for verb in subject.gains}
_LOSSES = {verb for subject in _SUBJECTS for verb in subject.losses}


NUMBER = r"[1-9][0-9]{0,8}"


def _either(words: set[str]) -> str:
  return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_LEXEME = re.compile(
  r"\b(?:"
  + "|".join(f"(?P<{name}>{_either(words)})" for name, words in _CLASSES.items())
  + rf"|(?P<O>(?:(?:{_either(set(lexicon.ADJECTIVES))}) )?(?:{_either(set(lexicon.SUBJECT_OF))}))"
  + rf"|(?P<F>{_either(set(lexicon.FRACTION_WORDS))}|(?:[1-9][0-9]?|X)%)"
  + rf"|(?P<n>{NUMBER}|X))(?![\w%])"
)
_SPLIT = re.compile(r"(?<=[.?]) ")

# template slot → (class in the skeleton, what may fill it; None: anything of the class)
_SLOTS: dict[str, tuple[str, frozenset[str] | None]] = {
  "N": ("N", lexicon.PERSONS),
  "M": ("N", lexicon.PERSONS),
  "P": ("N", lexicon.PERSONS | {"she", "he"}),
  "H": ("N", lexicon.PERSONS | {"her", "him"}),
  "O": ("O", None),
  "C": ("C", None),
  "G": ("V", frozenset(_GAINS)),
  "L": ("V", frozenset(_LOSSES)),
  "u": ("u", None),
  "U": ("U", None),
  "F": ("F", None),
  "a": ("n", None),
  "b": ("n", None),
}


@dataclasses.dataclass(frozen=True)
class Rule:
  """One template ready for matching: `slots[i]` names the i-th lexeme, or is a literal word in quotes."""

  kind: str
  both: bool
  slots: tuple[str, ...]

  def match(self, values: list[str]) -> dict[str, str] | None:
    """The slots' contents, or None where a word does not fit its slot."""
    found: dict[str, str] = {}
    for slot, value in zip(self.slots, values, strict=True):
      if slot[0] == "'":
        if value != slot[1:]:
          return None
        continue
      allowed = _SLOTS[slot][1]
      if allowed is not None and value not in allowed:
        return None
      found[slot] = value
    if "u" in found and found["u"] + "s" != found["U"]:
      return None
    return found


Rules = dict[str, list[Rule]]


def lexemes(text: str) -> tuple[str, list[str]]:
  """The skeleton of a text and the lexicon words in it."""
  values: list[str] = []

  def classify(match: re.Match[str]) -> str:
    values.append(match.group())
    return f"<{match.lastgroup}>"

  return _LEXEME.sub(classify, text), values


def _rule(template: str, kind: str, both: bool) -> tuple[str, Rule]:
  skeleton, slots = "", []
  template = template[0].lower() + template[1:]
  for i, piece in enumerate(re.split(r"\{(\w)\}", template)):
    if i % 2:
      skeleton += f"<{_SLOTS[piece][0]}>"
      slots.append(piece)
    else:
      shape, words = lexemes(piece)
      skeleton += shape
      slots += ["'" + word for word in words]
  return skeleton, Rule(kind, both, tuple(slots))


def _rules(*tables: tuple[dict[str, tuple[str, ...]], bool]) -> Rules:
  found: Rules = {}
  for table, both in tables:
    for kind, templates in table.items():
      for template in templates:
        skeleton, rule = _rule(template, kind, both)
        found.setdefault(skeleton, []).append(rule)
  return found


def _half(table: dict[str, tuple[tuple[str, str], ...]], which: int) -> dict[str, tuple[str, ...]]:
  return {kind: tuple(pair[which] for pair in pairs) for kind, pairs in table.items()}


BODY = _rules((wording.BODY, False), (wording.CONDITION, False), (wording.CONDITION_BOTH, True))
QUESTIONS = _rules((_half(wording.QUESTION, 0), False), (_half(wording.QUESTION_BOTH, 0), True))
STATEMENTS = _rules((_half(wording.QUESTION, 1), False), (_half(wording.QUESTION_BOTH, 1), True))


def sentences(text: str) -> list[str]:
  """Splits after full stops and question marks that a space follows."""
  return _SPLIT.split(text)


def parse(sentence: str, rules: Rules) -> list[tuple[Rule, dict[str, str]]]:
  """All readings of one sentence (rarely more than one)."""
  if not sentence or not (sentence[0].isupper()):
    return []
  shape, values = lexemes(sentence)
  if not shape.startswith("<"):  # not a name: the first word is written small in the tables
    shape, values = lexemes(sentence[0].lower() + sentence[1:])
  candidates = rules[shape] if shape in rules else []
  readings = ((rule, rule.match(values)) for rule in candidates)
  return [(rule, found) for rule, found in readings if found is not None]
