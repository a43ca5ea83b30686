"""Keys and tokens are shown nowhere, whatever another program says of them and wherever what it says was cut."""

import re
import urllib.parse
from collections.abc import Iterable

LONG = 16  # characters of a secret whose beginning is hidden, too
BEGINNING = 8  # characters by which it is known then; 4 where stars or dots stand for the rest
FEW = 4  # at the end of a text so many are a beginning even inside a word, and one less a word's
SHOWN = "[key]"
_WORD = r"[^\s\"'<>,;]*"


def redacted(text: str, secrets: Iterable[str]) -> str:
  """The text without the secrets: as words, their beginnings with what follows, and what a cut has left of one."""
  spelled = {form for secret in secrets if secret for form in (secret, urllib.parse.quote(secret, safe=""))}
  for secret in sorted(spelled, key=len, reverse=True):
    if len(secret) >= LONG:
      text = re.sub(re.escape(secret[:BEGINNING]) + _WORD, SHOWN, text, flags=re.IGNORECASE)
      text = re.sub(r"[^\s\"'<>,;]{0,200}" + re.escape(secret[-BEGINNING:]), SHOWN, text, flags=re.IGNORECASE)
      text = re.sub(rf"{re.escape(secret[:FEW])}[\w-]*(\*|…|\.\.\.){_WORD}", SHOWN, text)
    text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", SHOWN, text)
    text = _without_end(text, secret)
  return text


def _without_end(text: str, secret: str) -> str:
  for length in range(min(len(secret), len(text)), FEW - 2, -1):
    before = text[: len(text) - length]
    if text.endswith(secret[:length]) and (length >= FEW or not re.search(r"[\w-]$", before)):
      return before + SHOWN
  return text
