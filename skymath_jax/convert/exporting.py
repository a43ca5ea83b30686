"""Exports a checkpoint as a Hugging Face folder; it does not count as done before it was read back and compared."""

from collections.abc import Sequence

import jax
from etils import epath

from skymath_jax import models, sharding
from skymath_jax.convert import card, parity
from skymath_jax.convert.output import require_output
from skymath_jax.models import hf
from skymath_jax.records import Facts


def export_checkpoint(
  source: epath.PathLike,
  out: epath.PathLike,
  *,
  dtype: str,
  prompts: Sequence[str] = parity.PROMPTS,
  new_tokens: int = 0,
  tolerance: float = 1e-4,
  max_shard_gb: float = 5.0,
  logits: bool = True,
  overwrite: bool = False,
  name: str = "",
) -> Facts:
  """Checkpoint → Hugging Face folder with its model card.

  With dtype bfloat16 the comparison is with the rounded weights, so that it judges the export and not the rounding.
  `name` is ORG/NAME where the folder will be pushed, for its card.
  `auto` is the type of an imported model's own files, and bfloat16 for one that was trained here.

  Raises:
    UserError: `out` may not be written (see `require_output`), a tensor is not what it should be, or the logits differ
      by more than `tolerance` (see `parity.require_same`).
  """
  folder = models.resolve(source)
  target = require_output(out, folder, overwrite=overwrite)
  mesh = sharding.make_mesh() if jax.device_count() > 1 else None
  decoder, tokenizer = models.load_any(folder, mesh=mesh)
  if dtype == "auto":
    dtype = "bfloat16" if card.was_trained(folder) else decoder.config.param_dtype
  facts: Facts = {"folder": str(out), "dtype": dtype}
  about = card.text(folder, decoder.config, tokenizer, dtype, name=name)
  hf.save(decoder, target, tokenizer, dtype=dtype, max_shard_size=round(max_shard_gb * 1e9), card=about)
  facts["equal_tensors"] = hf.verify(decoder, target, dtype)
  facts |= parity.report(decoder, target, tokenizer, dtype=dtype, prompts=prompts, new_tokens=new_tokens, wanted=logits)
  parity.require_same(facts, out, "exported model's logits", tolerance=tolerance)
  return facts
