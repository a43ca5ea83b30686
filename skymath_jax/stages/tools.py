"""What stands outside a run: serve a model, import a Hugging Face folder, export a checkpoint."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from skymath_jax import files, models, records, serving
from skymath_jax.errors import UserError
from skymath_jax.models import checkpoint, hf
from skymath_jax.stages.context import Facts


def serve(*, model: str, dtype: str, **settings: Any) -> None:
  """Serves `model` until it is told to stop; prints one line `ready` when healthy."""
  decoder, tokenizer = models.load_any(model, dtype=dtype or None)
  serving.serve(decoder, tokenizer, models.model_id(model), **settings)


def families() -> list[str]:
  """One line for each model family: its name and the Hugging Face architectures it covers."""
  return [f"{name:<10}{', '.join(family.architectures)}" for name, family in models.FAMILIES.items()]


def import_folder(folder: str, out: str) -> Facts:
  """Hugging Face folder → checkpoint folder, compared logit by logit before it counts as done."""
  decoder, tokenizer = hf.load(folder)
  with files.new_folder(out) as temporary:
    checkpoint.save(decoder, tokenizer, temporary)
  again, _ = checkpoint.load(out)
  difference = compare(decoder, again, [[1, 2, 3, 4, 5, 6, 7]])
  return {"folder": str(out), "parameters": decoder.config.parameters, "max_abs_logit_diff": difference}


def export_checkpoint(
  source: Any, folder: epath.PathLike, *, dtype: str, prompts: list[str] | None = None, tolerance: float = 1e-4
) -> Facts:
  """Checkpoint → Hugging Face folder; then the folder is read back and its float32 logits compared on `prompts`.

  The comparison is against `transformers` where it is installed, otherwise against our own reader of the folder.

  Raises:
    UserError: the logits differ by more than `tolerance` (plus bfloat16's rounding, where that was asked for).
  """
  decoder, tokenizer = models.load_any(source, dtype="float32")
  folder = epath.Path(folder)
  hf.save(decoder, folder, tokenizer=tokenizer, dtype=dtype)
  reference, _ = hf.load(folder, dtype="float32")
  batch = [tokenizer.encode(text, bos=True) for text in prompts or ["2 + 3 = 5", "The answer is 7"]]
  facts: Facts = {"folder": str(folder), "prompts": len(batch), "dtype": dtype}
  facts |= {"compared_with": "skymath_jax", "max_abs_logit_diff": compare(reference, reference, batch)}
  difference = models.transformers_difference(folder, reference, batch)
  if difference is not None:
    facts |= {"compared_with": "transformers", "max_abs_logit_diff": difference}
  elif dtype == "float32":
    facts["max_abs_logit_diff"] = compare(decoder, reference, batch)
  if facts["max_abs_logit_diff"] > tolerance:
    raise UserError(
      f"the exported model's logits differ by {facts['max_abs_logit_diff']:.2e} from the checkpoint's",
      where=folder,
      remedy="do not use this folder; please report it",
    )
  return facts


def compare(left: models.Decoder, right: models.Decoder, batch: list[list[int]]) -> float:
  """Largest |Δlogits| of two decoders over the token lists of `batch`."""
  worst = 0.0
  for tokens in batch:
    array = jnp.asarray([tokens])
    worst = max(worst, float(np.max(np.abs(np.asarray(left(array)) - np.asarray(right(array))))))
  return worst


def prompts_of(path: epath.PathLike, count: int) -> list[str]:
  """The first `count` prompts that an evaluation sent."""
  return [row["prompt"] for _, row in records.read_lines(path)][:count]
