"""Is an exported folder the model it claims to be? Compared logit by logit and greedy token by greedy token.

The judge is `transformers` where it is installed (it is no dependency of ours), otherwise our own reader of the folder.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from skymath_jax.engine import memory
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, hf, lora
from skymath_jax.records import Facts
from skymath_jax.tokenizer import Tokenizer

PROMPTS = ("2 + 3 = 5", "The answer is 7", "Tom has 12 apples.\nHe eats 5.\n\nHow many are left?")
TOLERANCE = 1e-4  # of a logit, relative to the largest: float32 has seven digits
SHARE = 0.7  # of the free memory that both models in float32 may take

Logits = Callable[[np.ndarray], np.ndarray]  # tokens [batch length] → float32 logits [batch length vocab]
GREEDY_PROMPTS = len(PROMPTS)  # after so many of them, greedy tokens are compared: each is a pass over the whole text
ROWS = 4  # prompts at a time: the logits of one are 30 to 100 MB
LENGTH_STEP = 32  # padded lengths are multiples of it, so that few shapes are compiled


def report(
  decoder: Decoder,
  folder: epath.PathLike,
  tokenizer: Tokenizer,
  *,
  dtype: str,
  prompts: Sequence[str] = PROMPTS,
  new_tokens: int = 0,
  wanted: bool = True,
) -> Facts:
  """What `compare` says of the decoder with weights as `dtype` holds them, or why it was not asked."""
  if reason := reason_to_skip(decoder.config) if wanted else "not compared: not wanted":
    return {"compared_with": reason, "prompts": 0, "max_abs_logit_diff": None, "same_greedy_text": None}
  graph, params = nnx.split(decoder.replace(dtype="float32"), nnx.Param)
  rounded = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params))
  encoded = [tokenizer.encode(text, bos=True) or [0] for text in prompts]
  return compare(rounded, folder, encoded, new_tokens=new_tokens)


def require_same(facts: Facts, where: epath.PathLike, what: str) -> None:
  """Compares the difference that `report` found with what rounding explains: NaN is no small one.

  Args:
    facts: of `report`.
    where: the folder, for the message.
    what: was made, for the message.

  Raises:
    UserError: the difference is above TOLERANCE times the largest logit, where that is above 1.
  """
  difference = facts["max_abs_logit_diff"]
  if difference is not None and not difference <= TOLERANCE * max(1, facts["max_abs_logit"]):
    remedy = "do not use this folder, and please report it"
    raise UserError(f"the {what} differ by {difference:.2e} from the original's", where=where, remedy=remedy)


def reason_to_skip(config: DecoderConfig) -> str | None:
  """Why logits are not compared: several processes, or a model whose float32 copies would not fit; None if they are."""
  if jax.process_count() > 1:
    return "not compared: several processes"
  copies = 2 if jax.default_backend() == "cpu" else 1  # ours lies in device memory otherwise
  needed, free = 4 * copies * config.parameters, memory.ram()
  if free is not None and needed > SHARE * free:
    return f"not compared: {needed / 1e9:.1f} GB for both models in float32, {free / 1e9:.1f} GB are free"
  return None


def compare(
  decoder: Decoder, folder: epath.PathLike, prompts: Sequence[Sequence[int]], *, new_tokens: int = 0
) -> Facts:
  """Compares `decoder` with what another program reads from `folder`.

  Args:
    decoder: the model before export, computing in float32.
    folder: the exported Hugging Face folder.
    prompts: token lists; each is right-padded, which a causal model does not see.
    new_tokens: how many greedy tokens to compare after each of the first prompts; 0 = none.

  Returns:
    `compared_with`, `prompts`, `max_abs_logit_diff`, `max_abs_logit` and, with `new_tokens`, `same_greedy_text`.

  Raises:
    UserError: the other program cannot read the folder.
  """
  name, other = _judge(folder)
  ours = _ours(decoder)
  facts: Facts = {"compared_with": name, "prompts": len(prompts)}
  facts |= difference(zip(live(ours, prompts), live(other, prompts), strict=True))
  if new_tokens:
    some = prompts[:GREEDY_PROMPTS]
    facts["same_greedy_text"] = would_write(other, some, greedy(ours, some, new_tokens))
  return facts


def rows_read(prompts: int, new_tokens: int) -> int:
  """How many rows as long as a prompt `compare` runs through the two models together."""
  return 2 * prompts + GREEDY_PROMPTS * (new_tokens + 1)


def merge_difference(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Facts:
  """What `require_same` judges, of an adapted decoder before and after merging.

  It computes in float32 and is merged afterwards; `prompts` are token lists.
  """
  before = list(live(_ours(decoder), prompts))
  return difference(zip(live(_ours(lora.merge(decoder, "float32")), prompts), before, strict=True))


def difference(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Facts:
  """The largest difference in pairs of logits `[tokens vocab]` and the largest of the second; NaN if there is one."""
  found = [(np.abs(left - right).max(), np.abs(right).max()) for left, right in pairs]
  apart, largest = np.max(found, axis=0)
  return {"max_abs_logit_diff": float(apart), "max_abs_logit": float(largest)}


def live(logits: Logits, prompts: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
  """Logits `[tokens vocab]` of the tokens that are no padding, of `ROWS` prompts at a time."""
  tokens, lengths = _pad(prompts)
  read = np.arange(tokens.shape[1])[None, :] < lengths[:, None]
  for start in range(0, len(tokens), ROWS):
    part = slice(start, start + ROWS)
    yield logits(tokens[part])[read[part]]


def greedy(logits: Logits, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
  """`new_tokens` greedy tokens after each prompt, running the whole text again each time: slow, hard to get wrong."""
  texts = [list(prompt) for prompt in prompts]
  for _ in range(new_tokens):
    tokens, lengths = _pad(texts)
    best = logits(tokens)[np.arange(len(texts)), lengths - 1].argmax(-1)
    texts = [[*text, int(token)] for text, token in zip(texts, best, strict=True)]
  return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def would_write(logits: Logits, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> bool:
  """Whether greedy decoding writes each text after its prompt; seen in one pass: each token is the best one there."""
  tokens, _ = _pad([[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)])
  best = logits(tokens).argmax(-1)
  return all(
    [*row[len(prompt) - 1 :][: len(text)]] == [*text] for row, prompt, text in zip(best, prompts, texts, strict=True)
  )


def _pad(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """(tokens [batch length], lengths [batch])."""
  lengths = np.array([len(text) for text in texts])
  tokens = np.zeros((len(texts), -(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP), np.int32)
  for row, text in zip(tokens, texts, strict=True):
    row[: len(text)] = text
  return tokens, lengths


def _ours(decoder: Decoder) -> Logits:
  graph, state = nnx.split(decoder)
  forward = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens))
  return lambda tokens: np.asarray(forward(state, jnp.asarray(tokens)))


def _judge(folder: epath.PathLike) -> tuple[str, Logits]:
  if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
      model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    except Exception as error:  # it raises whatever it meets, such as KeyError for an index without metadata
      what = f"transformers cannot read this folder ({type(error).__name__}: {str(error)[:200]})"
      remedy = "--logits=false leaves the comparison with it away; every tensor is compared all the same"
      raise UserError(what, where=folder, remedy=remedy) from None

    def forward(tokens: np.ndarray) -> np.ndarray:
      with torch.no_grad():
        return model(torch.from_numpy(tokens).long()).logits.float().numpy()

    return f"transformers {transformers.__version__}", forward
  reread, _ = hf.load(folder, dtype="float32")
  return "skymath_jax's own reader", _ours(reread)
