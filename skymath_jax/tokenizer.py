"""Text to token ids and back: one face over SentencePiece (`tokenizer.model`) and Hugging Face's `tokenizer.json`.

Where a folder holds both, `tokenizer.json` is taken, as transformers does; and as there, its class `LlamaTokenizer`
brings rules of its own about blanks, which overrule the file's (`_blank_rule`), and text that spells a special token
is that token. A prompt and its response are always encoded apart and then joined, in training and in serving alike,
so that the border between them is the same token border.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sentencepiece
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
  "chat_template*",
  "generation_config.json",
  "LICENSE*",
  "USE_POLICY*",
  "NOTICE*",
)


class Tokenizer:
  """Immutable; made by `load`.

  Attributes:
    model_type: that of the config.json beside, None without one; transformers reads some files by it.
    vocab_size: number of ids.
    bos_id, eos_id, pad_id: ids of the special tokens, None where the model has none.
    hash: hex digest of the vocabulary's file, equal for equal tokenizers.
  """

  def __init__(
    self,
    side_files: dict[str, bytes],
    *,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
    token: Callable[[int], str | None],
    vocab_size: int,
    special: dict[str, int | None],
    model_type: str | None = None,
  ):
    self._files = side_files
    self._encode = encode
    self._decode = decode
    self._token = token
    self.model_type = model_type
    self.vocab_size = vocab_size
    self.bos_id = special["bos"]
    self.eos_id = special["eos"]
    self.pad_id = special["pad"]
    main = "tokenizer.json" if "tokenizer.json" in side_files else "tokenizer.model"
    self.hash = hashlib.sha256(side_files[main]).hexdigest()

  def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
    """Ids of `text`, with the special tokens asked for (those the tokenizer has) around them."""
    first = [self.bos_id] if bos and self.bos_id is not None else []
    last = [self.eos_id] if eos and self.eos_id is not None else []
    return [*first, *self._encode(text), *last]

  def decode(self, ids: Iterable[int]) -> str:
    """Text of `ids`; special tokens leave nothing, bytes that are not UTF-8 become U+FFFD."""
    return self._decode([int(i) for i in ids])

  def token(self, token_id: int) -> str:
    """The vocabulary's entry of an id, for messages; empty where there is none."""
    return self._token(token_id) or ""

  @property
  def chat_template(self) -> str | None:
    """The Jinja text that turns chat messages into a prompt, as transformers stores it; None if there is none."""
    if "chat_template.jinja" in self._files:
      return self._files["chat_template.jinja"].decode()
    row = json.loads(self._files.get("tokenizer_config.json", b"{}"))
    found = row.get("chat_template")
    if isinstance(found, list):  # several, by name
      found = next((entry["template"] for entry in found if entry["name"] == "default"), None)
    return found

  def save(self, folder: epath.PathLike) -> None:
    """Writes the tokenizer's files, byte for byte as they were loaded; a `config.json` only where none is."""
    folder = epath.Path(folder)
    for name, data in self._files.items():
      files.write_bytes(folder / name, data)
    if self.model_type is not None and not (folder / "config.json").exists():
      files.write_json(folder / "config.json", {"model_type": self.model_type})


def load(folder: epath.PathLike) -> Tokenizer:
  """The tokenizer of a model folder.

  Raises:
    UserError: no tokenizer there, or its file is damaged.
  """
  folder = epath.Path(folder).expanduser()
  names = sorted({path.name for pattern in SIDE_FILES for path in folder.glob(pattern) if not path.is_dir()})
  side_files = {name: (folder / name).read_bytes() for name in names}
  for name in ("tokenizer_config.json", "special_tokens_map.json"):
    if name in side_files:
      files.read_json(folder / name)  # refuses one that is empty or damaged, by its own name
  config = files.read_json(folder / "config.json") if (folder / "config.json").exists() else {}
  model_type = config.get("model_type")
  for name, build in BUILDERS.items():
    if name in side_files:
      try:
        return build(side_files, model_type)
      except UserError:
        raise
      except Exception as error:  # both libraries raise bare Exceptions and RuntimeErrors
        what, remedy = f"not a readable tokenizer ({error})", "copy the file again"
        if files.is_lfs_pointer(folder / name):
          what, remedy = files.LFS_FOUND
        raise UserError(what, where=folder / name, remedy=remedy) from error
  raise UserError("no tokenizer here", where=folder, remedy=f"put {' or '.join(BUILDERS)} into the folder")


def _from_json(side_files: dict[str, bytes], model_type: str | None) -> Tokenizer:
  content = json.loads(side_files["tokenizer.json"])
  rule = _blank_rule(_settings(side_files), model_type)
  if rule and "ByteLevel" not in json.dumps(content["pre_tokenizer"]):
    content |= rule
  return _over_json(content, side_files, model_type)


def _from_sentencepiece(side_files: dict[str, bytes], model_type: str | None) -> Tokenizer:
  inner = sentencepiece.SentencePieceProcessor(model_proto=side_files["tokenizer.model"])
  if rule := _blank_rule(_settings(side_files), model_type):
    return _over_json(_json_of(inner) | rule, side_files, model_type)
  ids = {"bos": inner.bos_id(), "eos": inner.eos_id(), "pad": inner.pad_id()}
  return Tokenizer(
    side_files,
    encode=inner.encode,
    decode=inner.decode,
    token=lambda i: inner.id_to_piece(i) if i < inner.get_piece_size() else None,
    vocab_size=inner.get_piece_size(),
    special={kind: None if i < 0 else i for kind, i in ids.items()},
    model_type=model_type,
  )


BUILDERS = {"tokenizer.json": _from_json, "tokenizer.model": _from_sentencepiece}  # in order of preference


def _over_json(content: dict[str, Any], side_files: dict[str, bytes], model_type: str | None) -> Tokenizer:
  """A tokenizer that works as `content`, in the format of tokenizer.json, says."""
  import tokenizers  # only for folders that need it

  inner = tokenizers.Tokenizer.from_str(json.dumps(content))
  inner.no_truncation()
  inner.no_padding()
  names = _special_tokens(side_files)
  return Tokenizer(
    side_files,
    encode=lambda text: inner.encode(text, add_special_tokens=False).ids,
    decode=lambda ids: inner.decode(ids, skip_special_tokens=True),
    token=inner.id_to_token,
    vocab_size=inner.get_vocab_size(),
    special={kind: None if name is None else inner.token_to_id(name) for kind, name in names.items()},
    model_type=model_type,
  )


def _settings(side_files: dict[str, bytes]) -> dict[str, Any]:
  """What transformers wrote about the tokenizer's class and switches."""
  return json.loads(side_files["tokenizer_config.json"]) if "tokenizer_config.json" in side_files else {}


def _blank_rule(settings: dict[str, Any], model_type: str | None) -> dict[str, Any]:
  """The parts of tokenizer.json that transformers' Llama classes put in place of the file's; {} for other classes.

  A blank is put before the text unless it begins with one (`legacy`: also after each special token), and taken away
  again in decoding. For `mistral` transformers leaves the file as it is. A file of bytes has no such rule: DeepSeek's
  names the Llama class too, and means it not.
  """
  name = settings.get("tokenizer_class") or ""
  if name.removesuffix("Fast") not in ("LlamaTokenizer", "CodeLlamaTokenizer") or model_type == "mistral":
    return {}
  prefix = settings.get("add_prefix_space")
  legacy = name.startswith("Llama") and settings.get("legacy")
  scheme = "never" if prefix is False else "always" if legacy else "first"
  strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
  return {
    "normalizer": None,
    "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False},
    "decoder": {"type": "Sequence", "decoders": [*DECODERS, *([] if prefix is False else [strip])]},
  }


def _special_tokens(side_files: dict[str, bytes]) -> dict[str, str | None]:
  """The texts of bos, eos and pad from the side files that transformers writes; None where there is none."""
  found: dict[str, Any] = {}
  for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the latter wins
    if name in side_files:
      row = json.loads(side_files[name])
      found |= {key: row[key] for key in ("bos_token", "eos_token", "pad_token") if key in row}
  texts = {key.removesuffix("_token"): (v["content"] if isinstance(v, dict) else v) for key, v in found.items()}
  return {"bos": None, "eos": None, "pad": None} | texts


def train_sentencepiece(
  sentences: Iterable[str], folder: epath.PathLike, *, vocab_size: int, fixed: Sequence[str]
) -> Tokenizer:
  """Trains a BPE vocabulary with byte fallback and writes it to `folder`, as `tokenizer.model` and `tokenizer.json`.

  Text is kept as it is (no normalisation, no dummy prefix, newlines and runs of spaces kept), digits stand alone, and
  each of `fixed` and the newline is one token. Ids: 0 unknown, 1 bos, 2 eos.

  Raises:
    UserError: the sentences do not yield so many tokens.
  """
  fixed = list(dict.fromkeys(["\n", *fixed]))
  buffer = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(sentences),
      model_writer=buffer,
      vocab_size=vocab_size,
      user_defined_symbols=[text.replace(" ", SPACE) for text in fixed],
      model_type="bpe",
      byte_fallback=True,
      split_digits=True,
      normalization_rule_name="identity",
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      character_coverage=1.0,
      max_sentence_length=1 << 20,
      num_threads=1,  # the same vocabulary on every machine
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:  # the message ends with what the text would bear
    reason = str(error).splitlines()[-1]
    raise UserError(
      f"no vocabulary of {vocab_size} tokens could be made ({reason})",
      where=folder,
      remedy="give more text or another vocab_size",
    ) from None
  folder, model = epath.Path(folder), buffer.getvalue()
  files.write_bytes(folder / "tokenizer.model", model)
  files.write_json(folder / "tokenizer.json", _json_of(sentencepiece.SentencePieceProcessor(model_proto=model)))
  files.write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
  return load(folder)


SPACE = "\u2581"  # SentencePiece's visible space
DECODERS = (
  {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
  {"type": "ByteFallback"},
  {"type": "Fuse"},
)
TOKENIZER_CONFIG = {
  "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is, in transformers 4 and 5
  "bos_token": "<s>",
  "eos_token": "</s>",
  "unk_token": "<unk>",
  "clean_up_tokenization_spaces": False,
}


def _json_of(model: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
  """`tokenizer.json` that cuts text as a SentencePiece BPE model does.

  transformers can read `tokenizer.model` alone, but then looks for fixed pieces with visible spaces in plain text and
  never finds those that hold a space; here they are written with plain spaces.
  """
  ids = range(model.get_piece_size())
  special = [i for i in ids if model.is_control(i) or model.is_unknown(i)]
  # the trainer puts user-defined pieces after the special ones and before the bytes
  fixed = list(range(max(special) + 1, next(i for i in ids if model.is_byte(i))))
  pieces = {i: model.id_to_piece(i) for i in ids}
  names = pieces | {i: pieces[i].replace(SPACE, " ") for i in fixed}
  ordinary = {piece: i for i, piece in pieces.items() if i not in special and i not in fixed and not model.is_byte(i)}
  merges = [
    [piece[:cut], piece[cut:]]
    for piece in sorted(ordinary, key=ordinary.__getitem__)
    for cut in range(1, len(piece))
    if piece[:cut] in ordinary and piece[cut:] in ordinary
  ]
  plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
  bos = names[model.bos_id()]
  return {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": i, "content": names[i], **plain, "special": i in special} for i in [*special, *fixed]],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    "pre_tokenizer": None,
    "post_processor": {
      "type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {bos: {"id": bos, "ids": [model.bos_id()], "tokens": [bos]}},
    },
    "decoder": {"type": "Sequence", "decoders": list(DECODERS)},
    "model": {
      "type": "BPE",
      "dropout": None,
      "unk_token": names[model.unk_id()],
      "continuing_subword_prefix": None,
      "end_of_word_suffix": None,
      "fuse_unk": True,
      "byte_fallback": True,
      "vocab": {names[i]: i for i in ids},
      "merges": merges,
    },
  }
