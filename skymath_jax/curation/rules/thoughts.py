"""Drops what a reasoning teacher thought badly: without an end, in a loop, for too long, or in another script.

For data whose thoughts are trained (`training.template=…+thoughts`). A thought without an end never gets here from
`synthesize`, which rejects it (`thought_unclosed`); other people's rows may have one. Languages are told by their
script: of two in Latin letters nothing is noticed.
"""

import unicodedata
from collections import Counter

from skymath_jax.curation.row import Row
from skymath_jax.curation.rules.base import Drop, Filter
from skymath_jax.generation.visible import visible

GRAM = 12  # words, of which every run in a thought is counted
MIN_WORDS = 120  # before anything is called a loop
MAX_AGAIN = 0.5  # share of the runs that may have been there before
LONGEST_PERIOD = 200  # characters of what is repeated at the end
REPEATED = 10  # times, and ...
REPEATED_CHARACTERS = 240  # ... that many characters, that make a loop
FOREIGN = 12  # letters of a script that the query does not use
# of mathematics, as the names of its letters begin
EVERYWHERE = {
  "LATIN",
  "GREEK",
  "MATHEMATICAL",
  "MICRO",
  "MODIFIER",
  "FEMININE",
  "MASCULINE",
  "DOUBLE",
  "SCRIPT",
  "BLACK",
}


class Thoughts(Filter):
  """By the thought alone; rows without one stay."""

  name = "thoughts"

  def check(self, row: Row) -> Drop | None:
    shown = visible(row.instance.response)
    if not shown.whole:
      return Drop("thought_unclosed", {"found": shown.thought[-80:]})
    thought = "\n\n".join(filter(None, (row.instance.thought, shown.thought)))
    if len(thought) > self.settings.max_thought:
      return Drop("thought_too_long", {"found": f"{len(thought)} characters, {self.settings.max_thought} allowed"})
    if again := looping(thought):
      return Drop("thought_loops", {"found": again[:80]})
    if foreign := switched(thought, row.instance.query):
      return Drop("thought_switches_language", {"found": foreign})
    return None


def looping(text: str) -> str:
  """What the text says again and again; empty where it does not."""
  end = text.rstrip()
  for period in range(1, LONGEST_PERIOD + 1):
    length = max(REPEATED * period, REPEATED_CHARACTERS)
    if len(end) >= length + period and end[-length:] == end[-length - period : -period]:
      return end[-period:]
  words = text.split()
  if len(words) < MIN_WORDS:
    return ""
  runs = Counter(zip(*(words[start:] for start in range(GRAM)), strict=False))
  (commonest, _), total = runs.most_common(1)[0], runs.total()
  return " ".join(commonest) if total - len(runs) > MAX_AGAIN * total else ""


def switched(thought: str, query: str) -> str:
  """The script that a thought changes to, such as CJK; empty where it keeps to those of the query."""
  if thought.isascii():
    return ""
  known = {*EVERYWHERE, *_scripts(query)}
  foreign = {script: count for script, count in _scripts(thought).items() if script not in known}
  return max(foreign, key=lambda script: foreign[script]) if sum(foreign.values()) >= FOREIGN else ""


def _scripts(text: str) -> Counter[str]:
  """Script → letters of it, as Unicode names begin."""
  letters = Counter(letter for letter in text if letter.isalpha())
  found: Counter[str] = Counter()
  for letter, count in letters.items():
    found[unicodedata.name(letter, "UNKNOWN").partition(" ")[0].partition("-")[0]] += count
  if "HIRAGANA" in found or "KATAKANA" in found:  # written together
    found["CJK"] += 0
  return found
