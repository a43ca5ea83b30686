"""Tokenizers without files. Nothing here loads JAX."""

from collections.abc import Iterable


class ByteTokenizer:
  """Id 1 is bos, the Latin-1 character c is id 3 + ord(c); `eos_id` as given."""

  bos_id, pad_id, vocab_size, chat_template = 1, 0, 260, None
  control_tokens: tuple[str, ...] = ()

  def __init__(self, eos_id: int | None = 2):
    self.eos_id = eos_id
    self.end_ids = () if eos_id is None else (eos_id,)

  def encode(self, text: str, *, bos: bool = False) -> list[int]:
    """One token a character."""
    return [*([self.bos_id] if bos else []), *(3 + byte for byte in text.encode("latin-1"))]

  def decode(self, ids: Iterable[int]) -> str:
    """The characters; special tokens are left out."""
    return bytes(i - 3 for i in ids if 3 <= i < 259).decode("latin-1")


class CodePointTokenizer:
  """For a server whose clients send token ids; a text is its code points."""

  bos_id = eos_id = pad_id = chat_template = None
  end_ids: tuple[int, ...] = ()
  vocab_size = 32_000

  def encode(self, text: str, *, bos: bool = False) -> list[int]:
    """Code points, those outside the vocabulary folded into it."""
    return [ord(c) % self.vocab_size for c in text]

  def decode(self, ids: Iterable[int]) -> str:
    """Letters that mean nothing, one a token."""
    return "".join(chr(97 + i % 26) for i in ids)
