"""The tokenizer of a model folder, by the rules that transformers reads such a folder with.

Where a folder holds both vocabularies, `tokenizer.json` is taken. The class `LlamaTokenizer` brings rules of its own
about blanks, which overrule the file's (`_rules`); tokens may be named outside the vocabulary, in three places
(`_add_tokens`); and text that spells a special token is that token.
"""

import functools
import itertools
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sentencepiece
from etils import epath

from skymath_jax import files, foreign
from skymath_jax.errors import UserError
from skymath_jax.tokenizer.base import SIDE_FILES, Backend, Spans, Tokenizer
from skymath_jax.tokenizer.vocabulary import DECODERS, SPACE, as_json

if TYPE_CHECKING:
  import tokenizers

TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
CONVERT = "make a tokenizer.json of it: transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
LONG_TEXT = 2048  # characters: they take a millisecond
UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")  # normalizers that leave ASCII as it is
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# What transformers' classes name where the folder does not: by the stem of the class, without `Fast`
DEFAULTS = {
  "LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
  "GemmaTokenizer": {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"},
  "Qwen2Tokenizer": {"eos": "<|endoftext|>", "unk": "<|endoftext|>", "pad": "<|endoftext|>"},
}
LLAMA = ("LlamaTokenizer", "CodeLlamaTokenizer")
ALWAYS = {"add_bos_token": True}  # a class's own; beside a tokenizer.json those of the folder have no say
AS_THEY_ARE = ("mistral", "phi3")  # model types whose tokenizer.json no class changes
CLASS_OF_TYPE = {"qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}  # whatever class the folder names


def load(folder: epath.PathLike) -> Tokenizer:
  """The tokenizer of a model folder.

  Raises:
    UserError: no tokenizer there, or its file is damaged.
  """
  folder = epath.Path(folder).expanduser()
  names = sorted({path.name for pattern in SIDE_FILES for path in files.matching(folder, pattern) if not path.is_dir()})
  side_files = {name: foreign.read_bytes(folder / name) for name in names}
  for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
    if name in side_files:
      foreign.read_object(folder / name)  # refuses one that is empty or damaged, by its own name
  model_config = foreign.read_object(folder / "config.json") if (folder / "config.json").exists() else {}
  for name, build in BUILDERS.items():
    if name in side_files:
      try:
        return Tokenizer(side_files, build(side_files, model_config.get("model_type")), model_config)
      except UserError:
        raise
      except Exception as error:  # both libraries raise bare Exceptions and RuntimeErrors
        what, remedy = f"not a readable tokenizer ({error})", "copy the file again"
        if files.is_lfs_pointer(folder / name):
          what, remedy = files.LFS_FOUND
        elif TIKTOKEN.match(side_files[name]):
          what, remedy = "a tiktoken vocabulary, which is not read", CONVERT
        raise UserError(what, where=folder / name, remedy=remedy) from error
  if others := [name for name in ("vocab.json", "tekken.json") if name in side_files]:
    raise UserError(f"no tokenizer but {others[0]}, which is not read", where=folder, remedy=CONVERT)
  raise UserError("no tokenizer here", where=folder, remedy=f"put {' or '.join(BUILDERS)} into the folder")


def _from_json(side_files: dict[str, bytes], model_type: str | None) -> Backend:
  content, settings = json.loads(side_files["tokenizer.json"]), _settings(side_files)
  kind = _class_of(settings, model_type, in_bytes="ByteLevel" in json.dumps(content["pre_tokenizer"]))
  content |= _rules(kind, settings)
  if kind in DEFAULTS and "added_tokens_decoder" in settings:
    # these classes build themselves anew from the pieces, and take their tokens from there
    content |= {"added_tokens": []}
  return _over_json(
    content, side_files, DEFAULTS.get(kind, {}), switches=ALWAYS if kind == "CodeLlamaTokenizer" else {}
  )


def _from_sentencepiece(side_files: dict[str, bytes], model_type: str | None) -> Backend:
  inner = sentencepiece.SentencePieceProcessor(model_proto=side_files["tokenizer.model"])
  ids = {"bos": inner.bos_id(), "eos": inner.eos_id(), "pad": inner.pad_id(), "unk": inner.unk_id()}
  named = {role: inner.id_to_piece(i) for role, i in ids.items() if i >= 0}
  if settings := _settings(side_files):
    kind = _class_of(settings, model_type, in_bytes=False)
    content = as_json(inner) | _rules(kind, settings) | {"post_processor": None}
    switches = {"add_bos_token": False} | (ALWAYS if kind == "CodeLlamaTokenizer" else {}) | settings
    return _over_json(content, side_files, DEFAULTS.get(kind, {}) | named, switches=switches)
  return Backend(
    encode=inner.encode,
    encode_spans=lambda text, plain: _pieces(inner, text),
    decode=inner.decode,
    token=lambda i: inner.id_to_piece(i) if 0 <= i < inner.get_piece_size() else None,
    token_id=inner.piece_to_id,
    vocab_size=inner.get_piece_size(),
    special=named,
    before=(inner.bos_id(),) if inner.bos_id() >= 0 else (),
  )


def _pieces(inner: sentencepiece.SentencePieceProcessor, text: str) -> Spans:
  found = inner.encode_as_proto(text).pieces
  ends = [0, *itertools.accumulate(len(piece.surface) for piece in found)]
  # of the bytes of one character only the last has it as its surface
  return [piece.id for piece in found], [(start, max(stop, start + 1)) for start, stop in itertools.pairwise(ends)]


BUILDERS = {"tokenizer.json": _from_json, "tokenizer.model": _from_sentencepiece}  # in order of preference


def _over_json(
  content: dict[str, Any], side_files: dict[str, bytes], defaults: Mapping[str, str], *, switches: Mapping[str, Any]
) -> Backend:
  """A tokenizer that works as `content`, in the format of tokenizer.json, says.

  Args:
    content: the vocabulary and its rules.
    side_files: the files beside it, which may name more tokens.
    defaults: special tokens by role where the files name none.
    switches: `add_bos_token` and `add_eos_token` say what goes around a text; none: the post-processor does.
  """
  import tokenizers  # only for folders that need it

  special = _special_tokens(side_files, defaults)
  inner = tokenizers.Tokenizer.from_str(json.dumps(content))
  inner.no_truncation()
  inner.no_padding()
  _add_tokens(inner, side_files, special)
  before, after = _around(inner)
  if switches:
    ends = [inner.token_to_id(special[role]) if role in special else None for role in ("bos", "eos")]
    wanted = [switches.get("add_bos_token", False), switches.get("add_eos_token", False)]
    before, after = ((end,) if want and end is not None else () for end, want in zip(ends, wanted, strict=True))

  plain = functools.cache(lambda: _without_added(inner))
  lengths = functools.cache(lambda: _byte_lengths(inner, content))

  def spans(text: str, as_text: bool) -> Spans:
    chosen = plain() if as_text else inner
    if text.isascii() and (bytes_of := lengths()) is not None:
      ids = chosen.encode_batch_fast([text], add_special_tokens=False)[0].ids  # without places: a quarter less time
      stops = np.cumsum(bytes_of[ids]).tolist()
      if ids and stops[-1] == len(text):  # else a token takes in more, such as the blanks around it
        return ids, list(zip([0, *stops[:-1]], stops, strict=True))
    found = _encoding(chosen, text)
    return found.ids, found.offsets

  added = inner.get_added_tokens_decoder().values()
  return Backend(
    encode=lambda text: _encoding(inner, text).ids,
    encode_spans=spans,
    decode=lambda ids: inner.decode(ids, skip_special_tokens=True),
    token=inner.id_to_token,
    token_id=inner.token_to_id,
    vocab_size=inner.get_vocab_size(),
    special=special,
    control=tuple(sorted(token.content for token in added if token.special)),
    added=tuple(sorted(token.content for token in added)),
    before=before,
    after=after,
  )


def _encoding(inner: "tokenizers.Tokenizer", text: str) -> "tokenizers.Encoding":
  """What `inner.encode` gives; of the library's two ways this one lets other threads run meanwhile."""
  if len(text) < LONG_TEXT:
    return inner.encode(text, add_special_tokens=False)
  return inner.encode_batch([text], add_special_tokens=False)[0]


def _byte_lengths(inner: "tokenizers.Tokenizer", content: Mapping[str, Any]) -> np.ndarray | None:
  """Bytes of ASCII text that each token stands for `[vocabulary]`; None where the tokens are not that text cut up."""
  kinds = [(content.get(part) or {}).get("type") for part in ("model", "decoder", "normalizer")]
  trims = '"trim_offsets": true' in json.dumps(content.get("post_processor"))  # then places leave blanks out
  names = inner.get_vocab(with_added_tokens=True)
  largest = max(names.values(), default=0)
  if kinds[:2] != ["BPE", "ByteLevel"] or kinds[2] not in (None, *UNICODE_FORMS) or trims or largest > 2 * len(names):
    return None
  lengths = np.zeros(largest + 1, np.int64)
  lengths[list(names.values())] = [len(name) for name in names]  # a character of a name is a byte
  return lengths


def _without_added(inner: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
  """A copy that looks for no added tokens in text."""
  return type(inner).from_str(json.dumps(json.loads(inner.to_str()) | {"added_tokens": []}))


def _around(inner: "tokenizers.Tokenizer") -> tuple[tuple[int, ...], tuple[int, ...]]:
  """The ids that the post-processor puts before and after a text."""
  plain = inner.encode("a", add_special_tokens=False).ids
  whole = inner.encode("a", add_special_tokens=True).ids
  start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
  return tuple(whole[:start]), tuple(whole[start + len(plain) :])


def _settings(side_files: dict[str, bytes]) -> dict[str, Any]:
  """What transformers wrote about the tokenizer's class and switches."""
  found: dict[str, Any] = json.loads(side_files.get("tokenizer_config.json", b"{}"))
  return found


def _class_of(settings: Mapping[str, Any], model_type: str | None, *, in_bytes: bool) -> str:
  """The tokenizer class of transformers whose own rules hold for the folder; "" if none does.

  Some files it leaves as they are (AS_THEY_ARE), so files of bytes: DeepSeek's names the Llama class and means it not.
  """
  if model_type in CLASS_OF_TYPE:
    return CLASS_OF_TYPE[model_type]
  name = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
  return "" if name in LLAMA and (model_type in AS_THEY_ARE or in_bytes) else name


def _rules(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
  """The parts of tokenizer.json that a class of transformers puts in place of the file's.

  Llama: a blank is put before the text unless it begins with one (`legacy`: also after each special token), and taken
  away again in decoding.
  """
  if kind == "Qwen2Tokenizer":
    return {"normalizer": {"type": "NFC"}}
  if kind not in LLAMA:
    return {}
  prefix = settings.get("add_prefix_space")
  legacy = kind == "LlamaTokenizer" and settings.get("legacy")
  scheme = "never" if prefix is False else "always" if legacy else "first"
  strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
  return {
    "normalizer": None,
    "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False},
    "decoder": {"type": "Sequence", "decoders": [*DECODERS, *([] if prefix is False else [strip])]},
  }


def _text(token: Any) -> str:
  """The text of a token, which files name as a string or as an object."""
  return str(token["content"] if isinstance(token, dict) else token)


def _merged_settings(side_files: dict[str, bytes]) -> dict[str, Any]:
  """tokenizer_config.json, over which special_tokens_map.json has the say where the former lists no added tokens.

  Further special tokens are `extra_special_tokens`, by their old name `additional_special_tokens`.
  """
  settings = _settings(side_files)
  if "additional_special_tokens" in settings and not settings.get("extra_special_tokens"):
    settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
  if "added_tokens_decoder" not in settings and "special_tokens_map.json" in side_files:
    named = json.loads(side_files["special_tokens_map.json"])
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, list):
      named["extra_special_tokens"] = extra + (named.get("extra_special_tokens") or [])
    settings |= {"extra_special_tokens": named.pop("additional_special_tokens", None)} | named
  return settings


def _special_tokens(side_files: dict[str, bytes], defaults: Mapping[str, str]) -> dict[str, str]:
  """Role → text of the special tokens that the files beside the vocabulary name, else of `defaults`; null is none."""
  settings = _merged_settings(side_files)
  found = {role: settings.get(f"{role}_token", defaults.get(role)) for role in ROLES}
  return {role: _text(token) for role, token in found.items() if token is not None}


def _add_tokens(inner: "tokenizers.Tokenizer", side_files: dict[str, bytes], special: Mapping[str, str]) -> None:
  """Adds the tokens that the vocabulary's file does not name as such: each gets the next free id, or keeps its own.

  They stand in `added_tokens_decoder` of tokenizer_config.json or else in added_tokens.json, by id; among the special
  tokens by role; and as `extra_special_tokens`.
  """
  import tokenizers

  settings = _merged_settings(side_files)
  extra = settings.get("extra_special_tokens") or []
  extra_texts = [_text(v) for k, v in settings.items() if k.endswith("_token") and isinstance(v, str | dict)]
  extra_texts += [_text(token) for token in (extra.values() if isinstance(extra, dict) else extra)]
  known = {token.content: token for token in inner.get_added_tokens_decoder().values()}
  wanted: dict[str, tokenizers.AddedToken] = {}
  specials = {*special.values(), *extra_texts}
  if decoder := settings.get("added_tokens_decoder"):
    for _, entry in sorted(decoder.items(), key=lambda item: int(item[0])):
      fields = {k: v for k, v in entry.items() if k in ("single_word", "lstrip", "rstrip", "normalized")}
      is_special = bool(entry.get("special")) or entry["content"] in special.values()
      wanted[entry["content"]] = tokenizers.AddedToken(entry["content"], **fields, special=is_special)
  elif "added_tokens.json" in side_files:
    listed: dict[str, int] = json.loads(side_files["added_tokens.json"])
    for text in sorted(listed, key=lambda text: listed[text]):
      wanted[text] = tokenizers.AddedToken(text, normalized=text not in specials, special=text in specials)
  for text in [*special.values(), *extra_texts]:
    if text not in wanted and text not in known:
      wanted[text] = tokenizers.AddedToken(text, normalized=False, special=True)
  for text, token in wanted.items():
    if text not in known or (repr(token) != repr(known[text]) if decoder else token.special > known[text].special):
      (inner.add_special_tokens if token.special else inner.add_tokens)([token])
