"""`skymath import` and `skymath export`: Hugging Face folder ⇄ checkpoint, outside a run."""

import json
from collections.abc import Sequence

from skymath_jax import hub
from skymath_jax.cli.flags import PUSH, Flag, parse, require_repository
from skymath_jax.errors import UsageError

OVERWRITE = Flag("overwrite", False, "replaces --out, if an earlier import or export has made it")
LOGITS = Flag("logits", True, "beside every tensor, compare logits with transformers' where memory allows")


def export(argv: Sequence[str]) -> int:
  """`skymath export`; a `UsageError` names a type or repository that cannot be."""
  checkpoint = Flag("checkpoint", None, "checkpoint folder, such as WORKDIR/checkpoints/stage2", required=True)
  out = Flag("out", None, "Hugging Face folder to write", required=True)
  dtype = Flag("dtype", "auto", "float32 | bfloat16 | float16 | auto = the imported files' own, bfloat16 if trained")
  size = Flag("max_shard_gb", 5.0, "largest file of weights, in 10^9 bytes")
  adapter = Flag("adapter", False, "writes what training.lora_rank trained in PEFT's format, not the merged model")
  values = parse(argv, checkpoint, out, dtype, size, adapter, LOGITS, OVERWRITE, PUSH)
  require_repository(values.push)
  if values.dtype not in (known := ("auto", "float32", "bfloat16", "float16")):
    raise UsageError(f"--dtype={values.dtype} is not known; use one of {', '.join(known)}.")
  from skymath_jax import distributed
  from skymath_jax.convert.exporting import export_adapter, export_checkpoint

  distributed.initialize()
  if values.adapter:
    facts = export_adapter(values.checkpoint, values.out, overwrite=values.overwrite)
  else:
    facts = export_checkpoint(
      values.checkpoint,
      values.out,
      dtype=values.dtype,
      max_shard_gb=values.max_shard_gb,
      logits=values.logits,
      overwrite=values.overwrite,
      name=values.push,
    )
  if distributed.is_writer():
    if values.push:
      facts["pushed"] = hub.push(values.out, values.push)
    print(json.dumps(facts, indent=2))
  return 0


def import_(argv: Sequence[str]) -> int:
  """`skymath import`; a `UsageError` says which folder is missing."""
  hf = Flag("hf", None, "Hugging Face folder (safetensors)")
  out = Flag("out", None, "checkpoint folder to write")
  families = Flag("list", False, "list the model families that can be imported and exported")
  values = parse(argv, hf, out, families, LOGITS, OVERWRITE)
  from skymath_jax import distributed
  from skymath_jax.convert import importing

  if values.list:
    print("\n".join(importing.families()))
    return 0
  if values.hf is None or values.out is None:
    raise UsageError("give --hf=FOLDER and --out=FOLDER. See skymath import --help.")
  distributed.initialize()
  facts = importing.import_folder(values.hf, values.out, logits=values.logits, overwrite=values.overwrite)
  if distributed.is_writer():
    print(json.dumps(facts, indent=2))
  return 0
