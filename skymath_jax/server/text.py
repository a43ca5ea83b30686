"""Text in pieces: what can be shown of a token sequence that is still growing."""

from collections.abc import Callable, Sequence

from skymath_jax.generation.types import cut_at_stop


class TextStream:
  """Turns tokens into pieces of text whose sum is the final text.

  A piece ends before anything that may still change: bytes of an unfinished character, or the beginning of a stop text.

  Args:
    decode: all tokens to text.
    stop: texts that end the response and are not shown.
  """

  def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()):
    self._decode, self._stop = decode, tuple(stop)
    self._tokens: list[int] = []
    self._shown = 0
    self._hold = max((len(text) - 1 for text in self._stop), default=0)

  def feed(self, tokens: Sequence[int]) -> str:
    """The text that new tokens make certain."""
    self._tokens += tokens
    text, stopped = cut_at_stop(self._decode(self._tokens), self._stop)
    if not stopped:
      text = text.rstrip("\ufffd")
      text = text[: len(text) - self._hold] if self._hold else text
    return self._show(text)

  def end(self) -> str:
    """The rest, when no tokens follow."""
    return self._show(cut_at_stop(self._decode(self._tokens), self._stop)[0])

  def _show(self, text: str) -> str:
    piece = text[self._shown :]
    self._shown = max(self._shown, len(text))
    return piece
