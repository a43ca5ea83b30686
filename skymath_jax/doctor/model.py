"""A model folder by itself: do its parts belong together, and does an answer in its own template ever end?

No weight is loaded, but by `audit_text`; the names and shapes in the files tell enough.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from skymath_jax import files, models
from skymath_jax.chat import frames
from skymath_jax.convert import parity
from skymath_jax.doctor.finding import Finding
from skymath_jax.errors import UserError
from skymath_jax.models import families, weight_files
from skymath_jax.tokenizer import Tokenizer

NEW_TOKENS = 16
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TEXTS = (  # on which ids are compared
  "The answer is 42.", " two  blanks", "a\n\nb\tc", "12,345.678 - 0.5", "\\frac{1}{2} x^2 + y_3", "日本語 Übung é",
  "😀", "<s> </s> <|im_start|>user\nq<|im_end|>", "",
)  # fmt: skip


def audit_model(path: str) -> list[Finding]:
  """The findings of a Hugging Face folder, hub id or checkpoint.

  Raises:
    UserError: there is no such model.
  """
  folder = models.resolve(path)
  found: list[Finding] = []
  try:
    tokenizer = models.tokenizer_of(path)
  except UserError as error:
    return [_of_error("tokenizer", error)]
  if (folder / "config.json").exists():
    try:
      config = files.read_json(folder / "config.json")
      found += _weights(folder, config, tokenizer)
    except UserError as error:
      found.append(_of_error("weights", error))
    found += _ids(folder, tokenizer)
  else:
    found += _checkpoint(folder)
  return [*found, *_ends(folder, tokenizer)]


def audit_text(path: str) -> list[Finding]:
  """Whether the model computes and writes the same here and in transformers; loads its weights twice.

  Raises:
    UserError: there is no such model, or its weights cannot be read.
  """
  folder = models.resolve(path)
  if not (folder / "config.json").exists():
    return [Finding("note", "text", "not compared with transformers, which reads no checkpoints: export it first")]
  decoder, tokenizer = models.load_any(folder)
  dtype = decoder.config.param_dtype
  facts = parity.report(decoder, folder, tokenizer, dtype=dtype, new_tokens=NEW_TOKENS)
  told = f"compared with {facts['compared_with']}"
  try:
    parity.require_same(facts, folder, "logits")
  except UserError as error:
    return [Finding("error", "text", f"{error.what} ({told})", "please report it, with config.json")]
  if facts["same_greedy_text"] is False:
    return [Finding("warning", "text", f"greedy text is another ({told}), though logits are near", "see both texts")]
  return [Finding("note", "text", f"{facts['prompts']} prompts, {NEW_TOKENS} greedy tokens each: {told}")]


def _of_error(check: str, error: UserError) -> Finding:
  return Finding("error", check, f"{error.what} ({error.where})", error.remedy or "")


def _weights(folder: epath.Path, hf: Mapping[str, Any], tokenizer: Tokenizer) -> Iterator[Finding]:
  config = families.config_from_hf(hf, where=folder / "config.json")
  tensors = weight_files.scan(folder)
  if EMBEDDING in tensors:
    rows, largest = tensors[EMBEDDING].shape[0], _largest_id(tokenizer)
    if largest >= rows:
      what = f"the tokenizer has the id {largest:,} ({tokenizer.token(largest)!r}), the embedding {rows:,} rows"
      yield Finding("error", "embedding", what, "take the tokenizer that the model came with, or enlarge the embedding")
    if rows != config.vocab_size:
      what = f"vocab_size is {config.vocab_size:,}, the embedding has {rows:,} rows"
      yield Finding("error", "embedding", what, "take config.json and weights from one place")
  tied = config.tie_embeddings
  if not tied and EMBEDDING in tensors and HEAD not in tensors:
    what = "tie_word_embeddings is false, and there is no lm_head.weight: others make up a random head"
    yield Finding("error", "head", what, "set tie_word_embeddings to true if the head is the embedding")
  if tied and HEAD in tensors and tensors[HEAD].shape != tensors[EMBEDDING].shape:
    yield Finding(
      "error", "head", "tie_word_embeddings is true, but lm_head.weight has another shape", "see its origin"
    )


def _checkpoint(folder: epath.Path) -> Iterator[Finding]:
  """Whether a checkpoint, or the model that adapters are for, says what it is and has a finished step."""
  try:
    models.config_of(folder)
    models.weights_hash(folder)
  except UserError as error:
    yield _of_error("weights", error)


def _largest_id(tokenizer: Tokenizer) -> int:
  known = (tokenizer.token_id(text) for text in tokenizer.control_tokens)
  return max([tokenizer.vocab_size - 1, *(i for i in known if i is not None)])


def _ids(folder: epath.Path, tokenizer: Tokenizer) -> Iterator[Finding]:
  """Compares ids with transformers', where it is installed."""
  if importlib.util.find_spec("transformers") is None:
    yield Finding("note", "ids", "not compared with transformers, which is not installed")
    return
  import transformers

  try:
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    for text in TEXTS:
      wanted, ours = theirs(text).input_ids, [*tokenizer.before, *tokenizer.encode(text)]
      if ours != wanted[: len(ours)] or len(wanted) > len(ours) + 1:  # it may put an end token behind
        what = f"{text!r} is {wanted[:12]} to transformers and {ours[:12]} to us"
        yield Finding("error", "ids", what, "please report it, with the tokenizer's files")
        return
  except Exception as error:  # whatever a stranger's files make of it
    yield Finding("warning", "ids", f"transformers cannot read the tokenizer ({_line(error)})", "see its files")


def _ends(folder: epath.Path, tokenizer: Tokenizer) -> Iterator[Finding]:
  """Whether answers end: an end token is known, listed for servers, and written by the template."""
  if not tokenizer.end_ids:
    yield Finding("error", "end", "no end token is known", "set eos_token_id in generation_config.json")
    return
  listed = _listed(folder / "generation_config.json") or _listed(folder / "config.json")
  if tokenizer.chat_template is None:
    yield Finding("note", "template", "there is no chat template: a base model, or it is asked in a frame of its own")
    return
  try:
    frame = frames.load(frames.CHAT, tokenizer)
  except UserError as error:
    yield _of_error("template", error)
    return
  if isinstance(frame, frames.ChatFrame) and listed and frame.end_ids[0] not in listed:
    end = tokenizer.token(frame.end_ids[0])
    what = f"the chat template ends an answer with {end!r} ({frame.end_ids[0]}), for servers it ends with {listed}"
    yield Finding("error", "end", what, "list it as eos_token_id in generation_config.json, or answers never end")


def _listed(path: epath.Path) -> list[int]:
  """The end tokens that servers look for."""
  try:
    found = json.loads(path.read_text()).get("eos_token_id")
  except (OSError, ValueError, AttributeError):
    return []
  return found if isinstance(found, list) else [] if found is None else [found]


def _line(error: Exception) -> str:
  return " ".join(str(error).split())[:200]
