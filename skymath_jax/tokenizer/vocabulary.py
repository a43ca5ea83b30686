"""A SentencePiece vocabulary in the form of `tokenizer.json`."""

from typing import Any

import sentencepiece

SPACE = "\u2581"  # SentencePiece's visible space
DECODERS = (
  {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
  {"type": "ByteFallback"},
  {"type": "Fuse"},
)


def as_json(model: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
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
