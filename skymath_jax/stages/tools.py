"""What stands outside a run: serve a model, import a Hugging Face folder, export a checkpoint."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from skymath_jax import files, models, serving, sharding
from skymath_jax.errors import UserError
from skymath_jax.generation.jetstream import TOKEN_VARIABLE
from skymath_jax.models import checkpoint, hf
from skymath_jax.models.families import FAMILIES
from skymath_jax.stages import parity
from skymath_jax.stages.context import Facts


def serve(*, model: str, dtype: str, **settings: Any) -> None:
  """Serves `model` until it is told to stop; prints one line `ready` when healthy."""
  for name, known in {"weights": ("as stored", "int8"), "kv": ("as computed", "int8")}.items():
    if settings[name] not in known:
      raise UserError(f"{settings[name]!r} is not known", where=f"--{name}", remedy=f"use one of: {', '.join(known)}")
  settings["token"] = os.environ.get(TOKEN_VARIABLE, "")
  decoder, tokenizer = models.load_any(model, mesh=serving_mesh(model), dtype=dtype or None)
  serving.serve(decoder, tokenizer, models.model_id(model), **settings)


def serving_mesh(model: str) -> jax.sharding.Mesh | None:
  """All devices of this machine, matrices split over them; None where there is one device."""
  if jax.device_count() == 1:
    return None
  config = models.config_of(model)
  sizes = sharding.serving_sizes(
    jax.device_count(), kv_heads=config.kv_heads, heads=config.heads, others=(config.mlp, config.vocab_size)
  )
  return sharding.make_mesh(**sizes)


def families() -> list[str]:
  """One line for each model family: its name and the Hugging Face architectures it covers."""
  return [f"{name:<10}{family.architecture}" for name, family in FAMILIES.items()]


def import_folder(folder: str, out: str) -> Facts:
  """Hugging Face folder → checkpoint folder, compared logit by logit before it counts as done."""
  decoder, tokenizer = hf.load(folder)
  with files.new_folder(out) as temporary:
    checkpoint.save(decoder, tokenizer, temporary)
  again, _ = checkpoint.load(out, dtype="float32")
  facts = parity.compare(again, folder, [[1, 2, 3, 4, 5, 6, 7]])
  return {"folder": str(out), "parameters": decoder.config.parameters, **facts}


def export_checkpoint(
  source: Any,
  folder: epath.PathLike,
  *,
  dtype: str,
  prompts: Sequence[str] = ("2 + 3 = 5", "The answer is 7"),
  new_tokens: int = 0,
  tolerance: float = 1e-4,
) -> Facts:
  """Checkpoint → Hugging Face folder, compared with what is read back from it before it counts as done.

  With dtype bfloat16 the comparison is with the rounded weights, so that it judges the export and not the rounding.

  Raises:
    UserError: the logits differ by more than `tolerance`.
  """
  decoder, tokenizer = models.load_any(source, dtype="float32")
  folder = epath.Path(folder)
  hf.save(decoder, folder, tokenizer=tokenizer, dtype=dtype)
  rounded = _rounded(decoder, dtype)
  batch = [tokenizer.encode(text, bos=True) for text in prompts]
  facts: Facts = {"folder": str(folder), "dtype": dtype}
  facts |= parity.compare(rounded, folder, batch, new_tokens=new_tokens)
  if facts["max_abs_logit_diff"] > tolerance:
    raise UserError(
      f"the exported model's logits differ by {facts['max_abs_logit_diff']:.2e} from the checkpoint's",
      where=folder,
      remedy="do not use this folder, and please report it",
    )
  return facts


def _rounded(decoder: models.Decoder, dtype: str) -> models.Decoder:
  """The decoder with weights as they are after a trip through `dtype`, computing in float32."""
  graph, params = nnx.split(decoder, nnx.Param)
  return nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params))
