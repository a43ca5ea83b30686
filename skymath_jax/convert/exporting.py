"""Exports a checkpoint as a Hugging Face folder; it does not count as done before it was read back and compared."""

import dataclasses
from collections.abc import Sequence

import jax
from etils import epath
from flax import nnx

from skymath_jax import distributed, files, hub, models, sharding
from skymath_jax.convert import card, parity
from skymath_jax.convert.output import require_output
from skymath_jax.errors import UserError
from skymath_jax.models import adapter_folder, hf, lora, peft, training_prompt
from skymath_jax.records import Facts


def export_checkpoint(
  source: epath.PathLike,
  out: epath.PathLike,
  *,
  dtype: str,
  prompts: Sequence[str] = parity.PROMPTS,
  new_tokens: int = 0,
  max_shard_gb: float = 5.0,
  logits: bool = True,
  overwrite: bool = False,
  name: str = "",
) -> Facts:
  """Checkpoint → Hugging Face folder with its model card.

  With dtype bfloat16 the comparison is with the rounded weights, so that it judges the export and not the rounding.
  `name` is ORG/NAME where the folder will be pushed, for its card.
  Adapters are merged, and it is shown first, in float32, that this changes no logit. `auto` is the type of an imported
  model's own files, and bfloat16 for one that was trained here.

  Raises:
    UserError: `out` may not be written (see `require_output`), a tensor is not what it should be, or the logits differ,
      merged from unmerged or on both sides (see `parity.require_same`).
  """
  folder = models.resolve(source)
  target = require_output(out, folder, overwrite=overwrite)
  mesh = sharding.make_mesh() if jax.device_count() > 1 else None
  decoder, tokenizer = models.load_any(folder, mesh=mesh)
  if dtype == "auto":
    dtype = "bfloat16" if card.was_trained(folder) else decoder.config.param_dtype
  facts: Facts = {"folder": str(out), "dtype": dtype, **_merged(folder, prompts, wanted=logits)}
  about = card.text(folder, decoder.config, tokenizer, dtype, name=name)
  hf.save(decoder, target, tokenizer, dtype=dtype, max_shard_size=round(max_shard_gb * 1e9), card=about)
  if distributed.is_writer():
    training_prompt.write(target, training_prompt.read(folder))
  facts["equal_tensors"] = hf.verify(decoder, target, dtype)
  facts |= parity.report(decoder, target, tokenizer, dtype=dtype, prompts=prompts, new_tokens=new_tokens, wanted=logits)
  parity.require_same(facts, out, "exported model's logits")
  return facts


def _merged(folder: epath.Path, prompts: Sequence[str], *, wanted: bool) -> Facts:
  """How far merged adapters are from unmerged ones; nothing where there are none, or it is not to be compared."""
  if adapter_folder.reference(folder) is None or not wanted or parity.reason_to_skip(models.config_of(folder)):
    return {}
  config = dataclasses.replace(models.config_of(folder), dtype="float32")
  decoder, tokenizer, _ = models.load_adapted(folder, prepare=lambda base: models.laid_out(base, config))
  encoded = [tokenizer.encode(text, bos=True) or [0] for text in prompts]
  facts = parity.merge_difference(decoder, encoded)
  parity.require_same(facts, folder, "merged model's logits")
  return {"merge_max_abs_logit_diff": facts["max_abs_logit_diff"]}


def export_adapter(source: epath.PathLike, out: epath.PathLike, *, overwrite: bool = False) -> Facts:
  """The adapters of a checkpoint as a folder of PEFT's, with the tokenizer beside them; the base is not read.

  Raises:
    UserError: `out` may not be written, or the checkpoint has no adapters.
  """
  folder = models.resolve(source)
  target, kept = require_output(out, folder, overwrite=overwrite), adapter_folder.reference(folder)
  if kept is None:
    remedy = "leave --adapter away: the whole model is exported then"
    raise UserError("this model was trained as a whole, so there are no adapters", where=source, remedy=remedy)
  config = models.config_of(folder)
  decoder = nnx.eval_shape(lambda: lora.attach(models.Decoder(config), kept.adapters))
  adapter_folder.read(folder, decoder)
  if distributed.is_writer():
    base = kept.base if hub.is_id(kept.base) else str(models.resolve(kept.base))
    with files.new_folder(target) as new:
      peft.save(decoder, new, kept.adapters, base=base)
      models.tokenizer_of(folder).save(new)
      files.write_text(new / "README.md", card.of_adapter(base))
      training_prompt.write(new, training_prompt.read(folder))
  distributed.barrier("the exported adapters", seconds=hf.WRITE_SECONDS)
  return {"folder": str(out), "base": kept.base, "rank": kept.adapters.rank, "alpha": kept.adapters.alpha}
