"""Makes a vocabulary from text."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece
from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError
from skymath_jax.tokenizer.base import Tokenizer
from skymath_jax.tokenizer.folder import load
from skymath_jax.tokenizer.vocabulary import SPACE, as_json

TRAINER: dict[str, Any] = {
  "model_type": "bpe",
  "byte_fallback": True,
  "split_digits": True,
  "normalization_rule_name": "identity",
  "add_dummy_prefix": False,
  "remove_extra_whitespaces": False,
  "character_coverage": 1.0,
  "max_sentence_length": 1 << 20,
  "num_threads": 1,  # the same vocabulary on every machine
  "minloglevel": 2,
}
TOKENIZER_CONFIG = {
  "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is, in transformers 4 and 5
  "bos_token": "<s>",
  "eos_token": "</s>",
  "unk_token": "<unk>",
  "clean_up_tokenization_spaces": False,
}


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
      **TRAINER,
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
  files.write_json(folder / "tokenizer.json", as_json(sentencepiece.SentencePieceProcessor(model_proto=model)))
  files.write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
  return load(folder)
