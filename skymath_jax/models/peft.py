"""Adapters in the format of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, in and out.

Taken is plain LoRA of one rank on linear layers of the blocks; a layer that a folder does not adapt gets a factor b of
zeros, which is the same. What would change the forward pass otherwise is refused by name.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jax import numpy as jnp

from skymath_jax import files, foreign
from skymath_jax.errors import UserError
from skymath_jax.models import families, lora, weight_files
from skymath_jax.models.decoder import Block, Decoder
from skymath_jax.models.layouts import Linear
from skymath_jax.models.lora import Adapters

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MUST_BE: dict[str, tuple[Any, ...]] = {  # what else would be another forward pass; an absent key is the first
  "peft_type": ("LORA",),
  "bias": ("none",),
  **dict.fromkeys(("use_dora", "fan_in_fan_out", "lora_bias"), (False, None)),
  **dict.fromkeys(("modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices"), (None, [])),
  **dict.fromkeys(("rank_pattern", "alpha_pattern"), ({}, None)),
}


def is_folder(folder: epath.Path) -> bool:
  """Whether adapters lie here and no model: a config.json may be there for the tokenizer's sake."""
  weights = (weight_files.SINGLE, weight_files.INDEX)
  return (folder / CONFIG).exists() and not any((folder / name).exists() for name in weights)


def adapters_of(values: Mapping[str, Any], *, where: object) -> Adapters:
  """Rank and scale that an `adapter_config.json` says.

  Raises:
    UserError: it is of another method than plain LoRA, or makes no sense.
  """
  for key, allowed in MUST_BE.items():
    if (value := values.get(key, allowed[0])) not in allowed:
      remedy = "merge it with PEFT (merge_and_unload, save_pretrained), and start from the merged model"
      raise UserError(f"{key} = {value!r} is not supported", where=where, remedy=remedy)
  rank, alpha = values.get("r"), values.get("lora_alpha")
  if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or not math.isfinite(alpha):
    raise UserError(f"r = {rank!r}, lora_alpha = {alpha!r} make no sense", where=where, remedy=foreign.COPY)
  return Adapters(rank=rank, alpha=float(alpha) * (math.sqrt(rank) if values.get("use_rslora") else 1.0))


def _places(decoder: Decoder) -> Iterator[tuple[str, int, Block, str, int | None, Linear]]:
  """PEFT's name of a layer's weight, and where its adapter is: block, attribute, place in the stack, layout.

  Raises:
    UserError: the family keeps several of our weights, each with factors of its own, in one tensor.
  """
  for row in families.rows(decoder.config):
    if row.joined:
      what = f"{decoder.config.family} keeps several of our weights in one tensor, which PEFT adapts as one"
      raise UserError(what, where="PEFT", remedy="export the merged model: leave --adapter away")
    if isinstance(row.layout, Linear) and "*" in row.theirs:
      attribute = row.ours.rpartition(".")[2]
      for layer, (block, place) in enumerate(_layers(decoder)):
        if isinstance(getattr(block, attribute), lora.Adapted):
          name = PREFIX + row.theirs.replace("*", str(layer)).removesuffix(".weight")
          yield name, layer, block, attribute, place, row.layout


def _layers(decoder: Decoder) -> Sequence[tuple[Block, int | None]]:
  """Block and place in its stack of each layer."""
  blocks = [decoder.layers] if isinstance(decoder.layers, Block) else list(decoder.layers)
  if not decoder.config.scan_layers:
    return [(block, None) for block in blocks]
  stacks = zip(blocks, decoder.config.segments, strict=True)
  return [(block, place) for block, segment in stacks for place in range(len(segment.layers))]


def save(decoder: Decoder, folder: epath.Path, adapters: Adapters, *, base: str) -> None:
  """Writes both files into `folder`, which is there; of `decoder` only the factors are read.

  Args:
    decoder: adapted, its factors float32.
    folder: gets the files.
    adapters: as they were attached.
    base: by which PEFT finds the model that they adapt: a folder, or ORG/NAME[@REVISION].

  Raises:
    UserError: the family keeps several of our weights in one tensor.
  """
  sources: dict[str, weight_files.Source] = {}
  for name, _, block, attribute, place, layout in _places(decoder):
    adapted: lora.Adapted = getattr(block, attribute)
    for letter, factor, form in (("A", adapted.a, layout), ("B", adapted.b, Linear())):
      ours = np.asarray(factor[...] if place is None else factor[...][place], np.float32)
      theirs = form.to_theirs(ours)
      sources[f"{name}.lora_{letter}.weight"] = weight_files.Source(theirs.shape, functools.partial(np.asarray, theirs))
  weight_files.write_file(folder / WEIGHTS, sources, np.dtype("float32"))
  identity, _, revision = base.partition("@")
  targets = sorted({name.rpartition(".")[2] for name, *_ in _places(decoder)})
  values = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": identity,
    "revision": revision or None,
    "r": adapters.rank,
    "lora_alpha": int(adapters.alpha) if adapters.alpha == int(adapters.alpha) else adapters.alpha,
    "lora_dropout": 0.0,
    "target_modules": targets,
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "use_rslora": False,
    "inference_mode": True,
  }
  files.write_json(folder / CONFIG, values)


def read(folder: epath.Path, decoder: Decoder) -> None:
  """Puts the adapters of a folder into an adapted decoder of the same rank; only its factors change.

  Raises:
    UserError: the file is damaged, a tensor has another shape, or is of no layer of this decoder.
  """
  tensors = {stored.name: stored for stored in weight_files.list_file(folder / WEIGHTS)}
  for name, layer, block, attribute, place, layout in _places(decoder):
    adapted: lora.Adapted = getattr(block, attribute)
    pair = [tensors.pop(f"{name}.lora_{letter}.weight", None) for letter in "AB"]
    if None in pair and pair != [None, None]:
      raise UserError(f"{name} has one of its two factors only", where=folder / WEIGHTS, remedy=foreign.COPY)
    for stored, factor, form in zip(pair, (adapted.a, adapted.b), (layout, Linear()), strict=True):
      if stored is not None:
        shape = factor[...].shape if place is None else factor[...].shape[1:]
        if stored.shape != form.shape(shape):
          what = f"{stored.name} is {list(stored.shape)}, layer {layer} asks for {list(form.shape(shape))}"
          raise UserError(what, where=folder / WEIGHTS, remedy="adapter and base must belong together")
        with stored.open() as tensor:
          theirs = np.asarray(tensor[tuple(slice(size) for size in stored.shape)], np.float32)
        ours = jnp.asarray(form.to_ours(theirs, shape))
        factor.set_value(ours if place is None else factor[...].at[place].set(ours))
  if tensors:
    what = f"{len(tensors)} tensors are of no linear layer of this model, such as {min(tensors)}"
    raise UserError(what, where=folder / WEIGHTS, remedy="adapter and base must belong together")
