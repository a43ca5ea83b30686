"""Imports a Hugging Face folder, exports a checkpoint; neither counts as done before it was read back and compared."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from skymath_jax import models, sharding
from skymath_jax.convert import card, parity
from skymath_jax.errors import UserError
from skymath_jax.models import hf, orbax_folder
from skymath_jax.models.families import FAMILIES
from skymath_jax.records import Facts
from skymath_jax.tokenizer import Tokenizer

PROMPTS = ("2 + 3 = 5", "The answer is 7", "Tom has 12 apples.\nHe eats 5.\n\nHow many are left?")


def families() -> list[str]:
  """One line for each model family: its name, the Hugging Face architecture it covers, and who is of it."""
  return [f"{name:<10}{family.architecture:<20}{family.members}" for name, family in FAMILIES.items()]


def import_folder(folder: str, out: str, *, logits: bool = True) -> Facts:
  """Hugging Face folder → checkpoint folder in the folder's own dtype, read back and compared before it counts.

  Every tensor is compared bit for bit; `logits` with transformers' too, where there is memory for both models.
  All processes of a job call this; devices share the weights.
  """
  mesh = _mesh()
  dtype = hf.stored_dtype(folder)
  decoder, tokenizer = hf.load(folder, mesh=mesh, dtype=dtype)
  if dtype == "float16":  # bfloat16's rival in range, but TPUs have no arithmetic for it
    decoder = decoder.replace(dtype="bfloat16")
  orbax_folder.save(decoder, tokenizer, out)
  parameters = decoder.config.parameters
  del decoder
  again, _ = orbax_folder.load(out, mesh=mesh)
  facts: Facts = {"folder": str(out), "parameters": parameters, "dtype": dtype}
  facts["equal_tensors"] = hf.verify(again, folder, dtype)
  return facts | _logits(again, folder, dtype, _encoded(tokenizer, PROMPTS), 0, wanted=logits)


def export_checkpoint(
  source: Any,
  folder: epath.PathLike,
  *,
  dtype: str = "auto",
  prompts: Sequence[str] = PROMPTS,
  new_tokens: int = 0,
  tolerance: float = 1e-4,
  max_shard_gb: float = 5.0,
  logits: bool = True,
) -> Facts:
  """Checkpoint → Hugging Face folder with its model card, read back and compared before it counts as done.

  With dtype bfloat16 the comparison is with the rounded weights, so that it judges the export and not the rounding.
  `auto` is the type of an imported model's own files, and bfloat16 for one that was trained here.

  Raises:
    UserError: a tensor is not what it should be, or the logits differ by more than `tolerance` (times the largest of
      them, where that is above 1: float32 has seven digits).
  """
  folder, path = epath.Path(folder), models.resolve(source)
  decoder, tokenizer = models.load_any(source, mesh=_mesh())
  if dtype == "auto":
    dtype = "bfloat16" if card.was_trained(path) else decoder.config.param_dtype
  facts: Facts = {"folder": str(folder), "dtype": dtype}
  about = card.text(path, decoder.config, dtype)
  hf.save(decoder, folder, tokenizer, dtype=dtype, max_shard_size=round(max_shard_gb * 1e9), card=about)
  facts["equal_tensors"] = hf.verify(decoder, folder, dtype)
  facts |= _logits(decoder, folder, dtype, _encoded(tokenizer, prompts), new_tokens, wanted=logits)
  if facts["max_abs_logit_diff"] is not None and facts["max_abs_logit_diff"] > tolerance * max(
    1, facts["max_abs_logit"]
  ):
    raise UserError(
      f"the exported model's logits differ by {facts['max_abs_logit_diff']:.2e} from the checkpoint's",
      where=folder,
      remedy="do not use this folder, and please report it",
    )
  return facts


def _mesh() -> Any:
  return sharding.make_mesh() if jax.device_count() > 1 else None


def _encoded(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
  return [tokenizer.encode(text, bos=True) or [0] for text in prompts]


def _logits(
  decoder: models.Decoder, folder: Any, dtype: str, prompts: list[list[int]], new_tokens: int, *, wanted: bool
) -> Facts:
  """What `parity.compare` says of the decoder with weights as `dtype` holds them, or why it was not asked."""
  if reason := parity.hindrance(decoder.config) if wanted else "not compared: not wanted":
    return {"compared_with": reason, "prompts": 0, "max_abs_logit_diff": None, "same_greedy_text": None}
  graph, params = nnx.split(decoder.replace(dtype="float32"), nnx.Param)
  rounded = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params))
  return parity.compare(rounded, folder, prompts, new_tokens=new_tokens)
