"""The tokenizers that real models come with, built here in small, against transformers: ids and text of 10,000 strings.

SentencePiece as Llama and Mistral use it (with the two rules of `legacy`), bytes as Qwen, Llama 3 and DeepSeek do.
"""

import functools
import io
import json
import random

import pytest
import sentencepiece

from skymath_jax import tokenizer

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

STRINGS = 10_000
WORDS = (
  "The answer is ", "\\frac{1}{2}", "$x^2 + y_3$", "\\begin{align*}\n", "\\text{ cm}", "12,345.678", "0", "7", "1999",
  " ", "  ", "       ", "\t", "\n", "\n\n\n", "\r\n", "é", "ß", "日本語", "中文数学", "等于", "是多少？", "😀",
  "\U0001f469\u200d\U0001f467", "🇩🇪", "\u200b", "\u00a0", "\u3000", "Tom's", "don't", "I'LL", "HELLO", "CamelCase",
  "[INST]", "<<SYS>>", "▁", "\x00", "a", "bc", "Question: ", "###", "=", "≤", "√2", "ﬁ", "Å", "A\u030a", "²", "½",
  "٣", "𝔸", "ب", "__init__", "->", "{{", "}}",
)  # fmt: skip
LOOK_ALIKES = (
  "<s>",
  "</s>",
  "<unk>",
  "<|endoftext|>",
  "<|im_start|>",
  "<pad>",
  "<s",
  "/s>",
  "< s >",
  "<|end",
  "<0x0A>",
)


@functools.cache
def strings():
  """Words glued at random; in every other string some that look like special tokens, or are."""
  draw, found = random.Random(0), ["", " ", "  ", "\n", "<s>", " <s> a", "▁a", "a</s> b</s>"]
  while len(found) < STRINGS:
    words = WORDS + LOOK_ALIKES if len(found) % 2 else WORDS
    found.append("".join(draw.choice(words) for _ in range(draw.randint(1, 9))))
  return found


@functools.cache
def llama_model():
  """A SentencePiece model with Llama's switches: dummy prefix, bytes, single digits, blanks kept."""
  buffer = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(strings()[:3000:2]), model_writer=buffer, vocab_size=700, model_type="bpe",
    byte_fallback=True, split_digits=True, normalization_rule_name="identity", add_dummy_prefix=True,
    remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.99, num_threads=1,
    minloglevel=2,
  )  # fmt: skip
  return buffer.getvalue()


LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def write(folder, model_type, settings=None, *, model=None, content=None):
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
  if settings is not None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  if model is not None:
    (folder / "tokenizer.model").write_bytes(model)
  if content is not None:
    (folder / "tokenizer.json").write_text(content)
  return folder


def old_llama_json(folder):
  """tokenizer.json as transformers 4 wrote it: blanks by a normalizer instead of a pre-tokenizer."""
  write(folder, "llama", LLAMA | {"legacy": False}, model=llama_model())
  transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
  content = json.loads((folder / "tokenizer.json").read_text())
  blanks = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
  ]
  return json.dumps(content | {"normalizer": {"type": "Sequence", "normalizers": blanks}, "pre_tokenizer": None})


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {  # what each family cuts text by before it merges bytes
  "qwen": (CONTRACTIONS + r"\p{N}" + REST,),
  "llama-3": (CONTRACTIONS + r"\p{N}{1,3}" + REST,),
  "deepseek": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}


def bytes_json(kind):
  """A byte-level BPE vocabulary with the family's pre-tokenizer."""
  from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

  made = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama-3"))
  if kind == "qwen":
    made.normalizer = normalizers.NFC()
  bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in SPLITS[kind]]
  made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([*cuts, bytes_]), decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  made.train_from_iterator(
    strings()[:3000:2], trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
  )
  made.add_special_tokens([AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>")])
  return made.to_str()


BYTES = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
FOLDERS = {
  "llama, model": lambda f: write(f, "llama", LLAMA | {"legacy": False}, model=llama_model()),
  "llama, model, legacy": lambda f: write(f, "llama", LLAMA | {"legacy": True}, model=llama_model()),
  "llama, model, no prefix": lambda f: write(f, "llama", LLAMA | {"add_prefix_space": False}, model=llama_model()),
  "llama, json": lambda f: write(f, "llama", LLAMA | {"legacy": False}, content=old_llama_json(f)),
  "llama, json, legacy": lambda f: write(f, "llama", LLAMA | {"legacy": True}, content=old_llama_json(f)),
  "codellama, json": lambda f: write(
    f, "llama", LLAMA | {"tokenizer_class": "CodeLlamaTokenizerFast"}, content=old_llama_json(f)
  ),
  "mistral, json, legacy": lambda f: write(f, "mistral", LLAMA | {"legacy": True}, content=old_llama_json(f)),
  "qwen": lambda f: write(f, "qwen2", BYTES | {"tokenizer_class": "Qwen2Tokenizer"}, content=bytes_json("qwen")),
  "llama-3": lambda f: write(
    f,
    "llama",
    BYTES | {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>"},
    content=bytes_json("llama-3"),
  ),
  "deepseek": lambda f: write(  # says Llama's class, and is bytes
    f,
    "llama",
    BYTES | {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<|im_start|>", "legacy": True},
    content=bytes_json("deepseek"),
  ),
}


@pytest.fixture(scope="module", params=FOLDERS)
def both(request, tmp_path_factory):
  """(transformers' tokenizer, ours, ours after a trip through `save`)."""
  folder = FOLDERS[request.param](tmp_path_factory.mktemp("words"))
  ours = tokenizer.load(folder)
  ours.save(folder / "again")
  return transformers.AutoTokenizer.from_pretrained(folder), ours, tokenizer.load(folder / "again")


def test_ids_and_text_are_those_of_transformers(both):
  theirs, ours, again = both
  assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
  filled_in = 5 if type(theirs).__name__ == "CodeLlamaTokenizer" else 0  # it adds these where a vocabulary lacks them
  assert len(theirs) == ours.vocab_size + filled_in
  wanted = theirs(strings(), add_special_tokens=False).input_ids
  for text, want, said in zip(strings(), wanted, theirs.batch_decode(wanted, skip_special_tokens=True), strict=True):
    assert ours.encode(text) == want, text
    assert ours.decode(want) == said, text
  assert [again.encode(text) for text in strings()[:500]] == wanted[:500]


def test_text_comes_back(both):
  """What is not a special token, begins with no blank where blanks are added, and is in the normal form: whole."""
  theirs, ours, _ = both
  special = (*LOOK_ALIKES, "▁", "\u030a", "Å", "ﬁ", "𝔸") if theirs.backend_tokenizer.normalizer else (*LOOK_ALIKES, "▁")
  number = 0
  for text in strings():
    if text[:1] != " " and not any(mark in text for mark in special):
      assert ours.decode(ours.encode(text)) == text
      number += 1
  assert number > STRINGS / 5


def test_sentencepiece_itself_cuts_alike(tmp_path):
  """The rules above change nothing in plain text: the library that made the model says the same."""
  inner = sentencepiece.SentencePieceProcessor(model_proto=llama_model())
  ours = tokenizer.load(write(tmp_path / "m", "llama", LLAMA, model=llama_model()))
  plain = [text for text in strings() if text[:1] not in (" ", "▁") and not any(mark in text for mark in LOOK_ALIKES)]
  assert len(plain) > STRINGS / 3
  for text in plain:
    assert ours.encode(text) == inner.encode(text), text


def test_a_bare_model_is_taken_as_sentencepiece_takes_it(tmp_path):
  """No tokenizer_config.json says otherwise: special tokens in text are text."""
  inner = sentencepiece.SentencePieceProcessor(model_proto=llama_model())
  ours = tokenizer.load(write(tmp_path / "m", "llama", model=llama_model()))
  for text in strings()[:1000]:
    assert ours.encode(text) == inner.encode(text), text
