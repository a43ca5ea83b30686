"""Imports a Hugging Face folder; it does not count as done before it was read back and compared."""

import jax
from etils import epath

from skymath_jax import distributed, files, models, sharding
from skymath_jax.convert import parity
from skymath_jax.convert.output import require_output
from skymath_jax.models import hf, orbax_folder, training_prompt
from skymath_jax.models.families import FAMILIES
from skymath_jax.records import Facts


def families() -> list[str]:
  """One line for each model family: its name, the Hugging Face architecture it covers, and who is of it."""
  return [f"{name:<10}{family.architecture:<20}{family.members}" for name, family in FAMILIES.items()]


def import_folder(
  source: epath.PathLike, out: epath.PathLike, *, logits: bool = True, overwrite: bool = False
) -> Facts:
  """Hugging Face folder → checkpoint folder in the folder's own dtype.

  Every tensor is compared bit for bit; `logits` with transformers' too, where there is memory for both models.
  All processes of a job call this; devices share the weights.

  Raises:
    UserError: the source cannot be read, `out` may not be written (see `require_output`) or is an odd name, or logits
      differ by more than rounding explains.
  """
  folder = models.resolve(source)
  target = require_output(out, folder, overwrite=overwrite)
  files.require_plain_name(target)
  trained = training_prompt.read(folder)
  mesh = sharding.make_mesh() if jax.device_count() > 1 else None
  dtype = hf.stored_dtype(folder)
  decoder, tokenizer = hf.load(folder, mesh=mesh, dtype=dtype)
  if dtype == "float16":  # bfloat16's rival in range, but TPUs have no arithmetic for it
    decoder = decoder.replace(dtype="bfloat16")
  orbax_folder.save(decoder, tokenizer, target)
  if distributed.is_writer():
    training_prompt.write(target, trained)
  parameters = decoder.config.parameters
  del decoder
  again, _ = orbax_folder.load(target, mesh=mesh)
  facts: Facts = {"folder": str(out), "parameters": parameters, "dtype": dtype}
  facts["equal_tensors"] = hf.verify(again, folder, dtype)
  facts |= parity.report(again, folder, tokenizer, dtype=dtype, wanted=logits)
  parity.require_same(facts, out, "imported model's logits")
  return facts
