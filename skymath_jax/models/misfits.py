"""Tensors that do not fit a config.json: what their names and types tell of where they come from."""

import re
from collections.abc import Collection, Sequence

from skymath_jax.models.weight_files import DTYPES

WRAPPERS = {  # what programs wrap a model or its layers in, by what they put into the names of its tensors
  "_orig_mod.": "saved from under torch.compile; save model._orig_mod instead",
  "_fsdp_wrapped_module.": "saved from under FSDP; save its full state dict instead",
  "_checkpoint_wrapped_module.": "saved from under activation checkpointing; save the module inside instead",
  "module.": "saved from under DistributedDataParallel; save model.module instead",
  "base_model.model.": "saved from under PEFT; save model.merge_and_unload() instead",
}
WRAPPED = re.compile("|".join(map(re.escape, WRAPPERS)))
SCALES = re.compile(r"qweight|qzeros|g_idx|\w*scales?(_inv)?|SCB|\w*absmax|quant_(map|state.*)")  # beside weights
LOOKED_AT = 20  # names


def remedy(wanted: Collection[str], unexpected: Sequence[str], codes: set[str]) -> str:
  """What to do, where it can be told.

  Args:
    wanted: names that the config asks for.
    unexpected: names that are there instead, or besides.
    codes: safetensors' names of the types of all tensors.
  """
  some = unexpected[:LOOKED_AT]
  if wrapped := next((name for name in some if WRAPPED.search(name) and WRAPPED.sub("", name) in wanted), ""):
    inside = WRAPPED.findall(wrapped)
    how = "begin with" if wrapped.startswith(inside[0]) else "hold"
    return f"the names {how} {''.join(inside)}: {WRAPPERS[inside[0]]}"
  if any(f"model.{name}" in wanted for name in some):
    return "the names lack model. at their beginning: saved without its head; save AutoModelForCausalLM instead"
  before = {name.removesuffix(end) for name in some for end in wanted if name.endswith(f".{end}")}
  if len(before) == 1:
    return f"the names begin with {before.pop()}, which another program put there: save the model inside of it instead"
  quantized = sorted(code for code in codes if code not in DTYPES and code[:2] in ("F8", "F4", "I8", "U8", "I4"))
  if quantized or any(SCALES.fullmatch(name.rpartition(".")[2]) for name in some):
    kinds = ", ".join(quantized) or "these"
    return f"{kinds} are quantized weights, whose scales lie elsewhere: take the model before that"
  return "weights and config.json must be of one model; take both from one place"
