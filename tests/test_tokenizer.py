"""Tokenizers: text comes back whole, and three libraries cut it alike."""

import functools
import json
import random

import pytest
import sentencepiece

from skymath_jax import tokenizer
from skymath_jax.errors import UserError

FIXED = ["### Response:", "The answer is ", "Question:", "Question:\nTom"]
TEXT = [
  "Below is a problem.\n### Question:\nTom has 12 apples and 345 pears. How many?\n\n### Response: 12+345=357.\n"
  "The answer is 357",
  "Ann  buys 3 pens for $5 each; $3*5=15$. été\n",
  "Question:\nTom Question:\nAnn\n\n\n  12,345.67\tüß ☃ 日本 The answer is  5 ",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tokenizer")
  tokenizer.train_sentencepiece(TEXT[:2] * 20, folder, vocab_size=360, fixed=FIXED)
  return folder


@functools.cache
def samples():
  """The texts and 500 cut and glued pieces of them, so that every border occurs."""
  draw = random.Random(0)
  pieces = list(TEXT)
  for _ in range(500):
    first, second = draw.choice(TEXT), draw.choice(TEXT)
    start, middle = draw.randrange(60), draw.randrange(60)
    pieces.append(first[start : start + draw.randrange(50)] + second[middle : middle + draw.randrange(50)])
  return pieces


def test_text_comes_back(folder):
  words = tokenizer.load(folder)
  for text in samples():
    assert words.decode([*words.encode(text, bos=True), words.eos_id]) == text


def test_sentencepiece_cuts_alike(folder, tmp_path):
  """A folder that has tokenizer.model only gives the same ids as one with tokenizer.json."""
  (tmp_path / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
  words, alone = tokenizer.load(folder), tokenizer.load(tmp_path)
  for text in samples():
    assert alone.encode(text) == words.encode(text), text
    assert alone.decode(words.encode(text)) == text
  for name in ("bos_id", "eos_id", "pad_id", "vocab_size"):
    assert getattr(alone, name) == getattr(words, name)


@pytest.mark.parametrize("config", [None, {"model_type": "llama"}, {"model_type": "mistral"}])
def test_transformers_cuts_alike(folder, tmp_path, config):
  """Also beside a config.json, from which transformers may conclude a tokenizer class of its own."""
  transformers = pytest.importorskip("transformers")
  words = tokenizer.load(folder)
  words.save(tmp_path)
  if config is not None:
    (tmp_path / "config.json").write_text(json.dumps(config))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert (theirs.bos_token_id, theirs.eos_token_id) == (words.bos_id, words.eos_id)
  assert theirs("Tom").input_ids == words.encode("Tom", bos=True)
  for text in samples():
    ids = words.encode(text)
    assert theirs(text, add_special_tokens=False).input_ids == ids, text
    assert theirs.decode(ids) == text


def test_fixed_strings_digits_and_newlines_are_single_tokens(folder):
  words = tokenizer.load(folder)
  for text in [*FIXED, "\n", "7"]:
    assert len(words.encode(text)) == 1, text
  assert len(words.encode("12345")) == 5
  assert words.encode("\n\n") == words.encode("\n") * 2
  pieces = [
    sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).id_to_piece(i) for i in range(360)
  ]
  assert not [p for p in pieces if sum(c.isdigit() for c in p) > 1 and not p.startswith("<0x")]


def test_ids_and_sizes(folder):
  words = tokenizer.load(folder)
  assert (words.bos_id, words.eos_id, words.pad_id, words.vocab_size) == (1, 2, None, 360)
  assert words.encode("a", bos=True) == [1, *words.encode("a")]
  assert words.encode("") == []
  assert words.decode([]) == ""


def test_prompt_and_response_join(folder):
  """Encoded apart and joined, they are the text: what training and serving rely on."""
  words = tokenizer.load(folder)
  prompt, response = "Below is a problem.\n\n### Response:", " He has 5.\nThe answer is 5"
  assert words.decode([1, *words.encode(prompt), *words.encode(response), 2]) == prompt + response


def test_training_is_deterministic_and_hash_tells_tokenizers_apart(folder, tmp_path):
  again = tokenizer.train_sentencepiece(TEXT[:2] * 20, tmp_path / "a", vocab_size=360, fixed=FIXED)
  other = tokenizer.train_sentencepiece(TEXT[:2] * 20, tmp_path / "b", vocab_size=350, fixed=FIXED)
  assert again.hash == tokenizer.load(folder).hash != other.hash


def test_save_copies_bytes(folder, tmp_path):
  tokenizer.load(folder).save(tmp_path / "copy")
  names = {p.name for p in folder.iterdir()}
  assert {p.name for p in (tmp_path / "copy").iterdir()} == names
  assert all((tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes() for name in names)


def test_what_cannot_be_read_is_refused(folder, tmp_path):
  with pytest.raises(UserError, match=r"tokenizer\.model"):
    tokenizer.load(tmp_path)
  for name in ("tokenizer.model", "tokenizer.json"):
    (tmp_path / name).write_bytes((folder / name).read_bytes()[:200])
    with pytest.raises(UserError, match=name):
      tokenizer.load(tmp_path)
  with pytest.raises(UserError, match="vocabulary of 5000"):
    tokenizer.train_sentencepiece(TEXT, tmp_path / "big", vocab_size=5000, fixed=[])
