"""Keys and tokens are shown nowhere, whatever another program says of them and wherever what it says was cut."""

import base64
import binascii
import re
import string
import urllib.parse
from collections.abc import Iterable, Iterator

LONG = 16  # characters of a secret of which any piece is hidden, too
PIECE = 8  # characters by which it is known then; 4 of its beginning where stars or dots stand for the rest
FEW = 4  # at the end of a text so many are a beginning even inside a word, and one less a word's
BEFORE = 200  # characters of a word that may belong to a secret whose beginning is not there
SHOWN = "[key]"
_WORD = re.compile(r"[^\s\"'<>,;]+")
_STARS = re.compile(r"\*|…|\.\.\.")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # `lower` may change the length


def redacted(text: str, secrets: Iterable[str]) -> str:
  """The text without the secrets: as words, any longer piece of them with what follows, and what a cut has left of one.

  Takes time in proportion to the text, whatever it says.
  """
  spelled = {form for secret in secrets if secret for form in _forms(secret)}
  long = [secret for secret in spelled if len(secret) >= LONG]
  pieces: dict[str, bool] = {}  # of all secrets → whether it is a beginning
  for secret in (secret.translate(_LOWER) for secret in long):
    for at in range(len(secret) - PIECE, -1, -1):
      piece = secret[at : at + PIECE]
      pieces[piece] = at == 0 or pieces.get(piece, False)
  beginnings = {secret[:FEW] for secret in long}
  text = _WORD.sub(lambda found: _without_pieces(found[0], pieces, beginnings), text)
  for secret in sorted(spelled, key=len, reverse=True):
    text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", SHOWN, text)
    text = _without_end(text, secret)
  return text


def _forms(secret: str) -> Iterator[str]:
  """The spellings of a secret: of a header also each long word (`Bearer KEY`), and what Basic authorization packs."""
  words = {secret, *(word for word in secret.split() if len(word) >= LONG)}
  words |= {password for word in words if len(password := _unpacked(word).partition(":")[2]) >= PIECE}
  for word in words:
    yield from (word, urllib.parse.quote(word, safe="", errors="replace"))
    if len(word) >= LONG:  # in base64 wherever it begins, without the characters that hold its neighbours' bits
      for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + word.encode(errors="replace")).decode().rstrip("=")
        yield packed[-(-shift * 8 // 6) : -1]


def _unpacked(word: str) -> str:
  try:
    return base64.b64decode(word, validate=True).decode()
  except (binascii.Error, ValueError):
    return ""


def _without_pieces(word: str, pieces: dict[str, bool], beginnings: Iterable[str]) -> str:
  lower = word.translate(_LOWER)
  for at in range(len(word) - PIECE + 1):
    begins = pieces.get(lower[at : at + PIECE])
    if begins is not None:
      return word[: at if begins else max(0, at - BEFORE)] + SHOWN
  for beginning in beginnings:
    at = word.find(beginning)
    if at >= 0 and _STARS.search(word, at):
      return word[:at] + SHOWN
  return word


def _without_end(text: str, secret: str) -> str:
  for length in range(min(len(secret), len(text)), FEW - 2, -1):
    if text.endswith(secret[:length]) and (length >= FEW or not re.search(r"[\w-]$", text[: len(text) - length])):
      return text[: len(text) - length] + SHOWN
  return text
