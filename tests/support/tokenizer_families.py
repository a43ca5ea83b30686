"""The tokenizers that real models come with, built in small: folders that transformers and we read.

SentencePiece as Llama and Mistral use it (with the two rules of `legacy`), bytes as Qwen, Llama 3, SmolLM and DeepSeek
do, bytes only where the vocabulary ends as Gemma does; and tokens that are named beside the vocabulary, in each place.
"""

import functools
import io
import json
import random

import sentencepiece

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
  "<|im_end|>",
  "<think>",
  "<|end|> ",
  "<bos>",
  "<start_of_turn>",
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


LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LLAMA = LLAMA_TOKENS | {"tokenizer_class": "LlamaTokenizer"}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}


def write(folder, model_type, settings=None, *, model=None, content=None, **others):
  folder.mkdir(exist_ok=True)
  for name, values in others.items():  # such as added_tokens={…}
    (folder / f"{name}.json").write_text(json.dumps(values))
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
  import transformers  # the tests ask whether it is there

  transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
  content = json.loads((folder / "tokenizer.json").read_text())
  blanks = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
  return json.dumps(content | {"normalizer": {"type": "Sequence", "normalizers": blanks}, "pre_tokenizer": None})


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {  # what each family cuts text by before it merges bytes
  "qwen": (CONTRACTIONS + r"\p{N}" + REST,),
  "llama-3": (CONTRACTIONS + r"\p{N}{1,3}" + REST,),
  "smollm": (),
  "deepseek": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}


def bytes_json(kind):
  """A byte-level BPE vocabulary with the family's pre-tokenizer."""
  from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

  made = Tokenizer(models.BPE(ignore_merges=kind == "llama-3"))
  if kind == "qwen":
    made.normalizer = normalizers.NFC()
  bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in SPLITS[kind]]
  if kind == "smollm":
    cuts, bytes_ = [pre_tokenizers.Digits(individual_digits=True)], pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([*cuts, bytes_]), decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  made.train_from_iterator(
    strings()[:3000:2], trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
  )
  made.add_special_tokens([AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>")])
  return made.to_str()


def gemma_json():
  """BPE over characters, bytes where the vocabulary has no such character, blanks as they stand, bos before a text."""
  from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

  made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
  made.normalizer = normalizers.Replace(" ", "▁")
  made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
  made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
  special = [AddedToken(text, special=True) for text in ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>")]
  alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
  learn = trainers.BpeTrainer(vocab_size=700, special_tokens=special, limit_alphabet=60, show_progress=False)
  made.train_from_iterator([text.replace("😀", "") for text in strings()[:3000:2]], learn)
  content = json.loads(made.to_str())
  vocab = content["model"]["vocab"]
  content["model"]["vocab"] = vocab | {byte: len(vocab) + at for at, byte in enumerate(alphabet)}
  made = Tokenizer.from_str(json.dumps(content))
  made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
  return made.to_str()


def decoder(*texts, first, **flags):
  """`added_tokens_decoder` for these tokens, from id `first` on."""
  plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
  return {str(first + at): {"content": text, **plain, **flags} for at, text in enumerate(texts)}


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
  "smollm": lambda f: write(
    f,
    "llama",
    BYTES | {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "bos_token": "<|im_start|>"},
    content=bytes_json("smollm"),
  ),
  "gemma": lambda f: write(
    f, "gemma3_text", GEMMA | {"tokenizer_class": "GemmaTokenizer", "backend": "tokenizers"}, content=gemma_json()
  ),
  "qwen 3, thoughts": lambda f: write(
    f,
    "qwen3",
    BYTES
    | {
      "tokenizer_class": "Qwen2Tokenizer",
      "eos_token": "<|im_end|>",
      "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
      "added_tokens_decoder": decoder("<|endoftext|>", "<|im_start|>", "<|im_end|>", first=800)
      | decoder("<think>", "</think>", first=803, special=False),
    },
    content=bytes_json("qwen"),
  ),
  "mistral, model, ChatML": lambda f: write(
    f,
    "mistral",
    LLAMA | {"eos_token": "<|im_end|>"},
    model=llama_model(),
    added_tokens={"<|im_end|>": 700, "<|im_start|>": 701},
  ),
  "llama, model, extra tokens": lambda f: write(
    f, "llama", LLAMA | {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"], "legacy": False}, model=llama_model()
  ),
  "llama, json, tokens in a map": lambda f: write(
    f,
    "llama",
    {"tokenizer_class": "LlamaTokenizer"},
    content=old_llama_json(f),
    special_tokens_map=LLAMA_TOKENS | {"pad_token": "<pad>", "additional_special_tokens": ["<|im_start|>"]},
  ),
  "phi-3": lambda f: write(
    f,
    "phi3",
    LLAMA
    | {
      "legacy": False,
      "eos_token": "<|end|>",
      "added_tokens_decoder": decoder("<unk>", "<s>", first=0)
      | decoder("</s>", first=2, special=False, rstrip=True)
      | decoder("<|end|>", "<|user|>", "<|assistant|>", first=700, rstrip=True),
    },
    content=old_llama_json(f),
  ),
  "llama, model, bos and eos": lambda f: write(
    f, "llama", LLAMA | {"add_bos_token": True, "add_eos_token": True, "legacy": False}, model=llama_model()
  ),
  "qwen, additional tokens": lambda f: write(
    f,
    "qwen2",
    BYTES | {"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": ["<|im_end|>", "<pad>"]},
    content=bytes_json("qwen"),
  ),
  "llama-3, bos by a switch": lambda f: write(
    f,
    "llama",
    BYTES | {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "add_bos_token": True},
    content=bytes_json("llama-3"),
  ),
  "gemma, bos switched off": lambda f: write(
    f, "gemma2", GEMMA | {"tokenizer_class": "GemmaTokenizerFast", "add_bos_token": False}, content=gemma_json()
  ),
}
