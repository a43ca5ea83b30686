"""The face that all of the project sees of a tokenizer."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError

# What travels with a model, unread and byte for byte: from the imported folder through checkpoints to the exported one
SIDE_FILES = (
  "tokenizer*.json",
  "tokenizer.model*",
  "tekken.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  *(f"{name}{ending}" for name in ("LICENSE", "USE_POLICY", "NOTICE") for ending in ("", ".txt", ".md")),
)

Spans: TypeAlias = tuple[list[int], list[tuple[int, int]]]  # ids, and from where to where in the text each stands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backend:
  """What a vocabulary's library does.

  `special` holds the texts of the special tokens by role (`bos`, `eos`, `pad`, …). `before` and `after` are the ids
  that the tokenizer itself puts around a text: its post-processor's, or those of `add_bos_token` and `add_eos_token`.
  """

  encode: Callable[[str], list[int]]
  encode_spans: Callable[[str, bool], Spans]  # the second: text that spells an added token is only text
  decode: Callable[[list[int]], str]
  token: Callable[[int], str | None]
  token_id: Callable[[str], int | None]
  vocab_size: int
  special: Mapping[str, str]
  control: tuple[str, ...] = ()  # texts of the tokens that are marked as special
  added: tuple[str, ...] = ()  # texts of all tokens that are looked for before a text is cut
  before: tuple[int, ...] = ()
  after: tuple[int, ...] = ()


class Tokenizer:
  """Immutable; made by `load`.

  Attributes:
    model_type: that of the config.json beside, None without one; transformers reads some files by it.
    vocab_size: number of ids.
    bos_id, eos_id, pad_id: ids of the special tokens, None where the model has none.
    before, after: ids that the tokenizer itself puts around a text. A model may name a bos token and want none.
    end_ids: ids that end a response: eos, and those of generation_config.json and config.json.
    special_tokens: role (`bos_token`, …) → text, as chat templates see them.
    control_tokens: texts that are control tokens wherever `encode` meets them.
    added_tokens: these, and others that are one token each but not marked as special.
    hash: hex digest of the vocabulary's file, equal for equal tokenizers.
  """

  def __init__(self, side_files: dict[str, bytes], backend: Backend, model_config: Mapping[str, Any]):
    self._files = side_files
    self._backend = backend
    self._model_config = {k: model_config[k] for k in ("model_type", "eos_token_id") if model_config.get(k) is not None}
    self.model_type: str | None = model_config.get("model_type")
    self.vocab_size = backend.vocab_size
    self.bos_id = self._id_of("bos")
    self.eos_id = self._id_of("eos")
    self.pad_id = self._id_of("pad")
    self.before = backend.before
    self.after = backend.after
    self.end_ids = self._end_ids()
    self.control_tokens = backend.control
    self.added_tokens = backend.added
    self.special_tokens = {f"{role}_token": text for role, text in backend.special.items()}
    main = "tokenizer.json" if "tokenizer.json" in side_files else "tokenizer.model"
    self.hash = hashlib.sha256(side_files[main]).hexdigest()

  def _id_of(self, role: str) -> int | None:
    text = self._backend.special.get(role)
    return None if text is None else self._backend.token_id(text)

  def _end_ids(self) -> tuple[int, ...]:
    named = [json.loads(self._files.get("generation_config.json", b"{}")).get("eos_token_id")]
    named.append(self._model_config.get("eos_token_id"))
    found = [] if self.eos_id is None else [self.eos_id]
    for ids in named:
      found += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return tuple(dict.fromkeys(i for i in found if type(i) is int and 0 <= i))

  def encode(self, text: str, *, bos: bool = False) -> list[int]:
    """Ids of `text`.

    Args:
      text: what to encode; where it spells a special token, it is that token.
      bos: put before it what the tokenizer itself puts there, which may be nothing.
    """
    first = self.before if bos else ()
    return [*first, *self._backend.encode(text)]

  def encode_spans(self, text: str, *, plain: bool = False) -> Spans:
    """Ids of `text`, and which of its characters each stands for; where `plain`, added tokens in it are only text."""
    return self._backend.encode_spans(text, plain)

  def decode(self, ids: Iterable[int]) -> str:
    """Text of `ids`; special tokens leave nothing, bytes that are not UTF-8 become U+FFFD."""
    return self._backend.decode([int(i) for i in ids])

  def token_id(self, text: str) -> int | None:
    """The id of a token of the vocabulary; None where there is none."""
    return self._backend.token_id(text)

  def token(self, token_id: int) -> str:
    """The vocabulary's entry of an id, for messages; empty where there is none."""
    return self._backend.token(token_id) or ""

  @property
  def chat_template(self) -> str | None:
    """The Jinja text that turns chat messages into a prompt, as transformers stores it; None if there is none.

    Raises:
      UserError: it is not UTF-8.
    """
    if "chat_template.jinja" in self._files:
      try:
        return self._files["chat_template.jinja"].decode()
      except UnicodeDecodeError as error:
        raise UserError(f"no UTF-8 ({error})", where="chat_template.jinja", remedy="write it again in UTF-8") from None
    found = json.loads(self._files.get("tokenizer_config.json", b"{}")).get("chat_template")
    if isinstance(found, list):  # several, by name
      found = next((entry["template"] for entry in found if entry["name"] == "default"), None)
    return found

  def speaking(self, template: str | None, end_ids: Sequence[int]) -> "Tokenizer":
    """The same vocabulary, its files with this chat template and no other, and these tokens to end a response."""
    kept = dict(self._files)
    if template != self.chat_template:
      kept = {name: data for name, data in kept.items() if not name.startswith("chat_template")}
      settings = json.loads(kept.get("tokenizer_config.json", b"{}"))
      if settings.pop("chat_template", None) is not None:
        kept["tokenizer_config.json"] = json.dumps(settings, indent=2, ensure_ascii=False).encode()
      if template is not None:
        kept["chat_template.jinja"] = template.encode()
    if {*end_ids} != {*self.end_ids}:
      ids = {"bos_token_id": self.bos_id, "pad_token_id": self.pad_id, "do_sample": False}
      settings = ids | json.loads(kept.get("generation_config.json", b"{}")) | {"eos_token_id": [*end_ids]}
      kept["generation_config.json"] = json.dumps(settings, indent=2).encode()
    return Tokenizer(kept, self._backend, self._model_config)

  @property
  def fingerprint(self) -> str:
    """16 hex digits over all its files: vocabulary, special tokens, chat template, end tokens."""
    digest = hashlib.sha256(json.dumps(self._model_config, sort_keys=True).encode())
    for name, data in sorted(self._files.items()):
      digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]

  def save(self, folder: epath.PathLike) -> None:
    """Writes the tokenizer's files, byte for byte as they were loaded; a `config.json` only where none is."""
    folder = epath.Path(folder)
    for name, data in self._files.items():
      files.write_bytes(folder / name, data)
    if self._model_config and not (folder / "config.json").exists():
      files.write_json(folder / "config.json", self._model_config)
