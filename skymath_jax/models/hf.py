"""Hugging Face folders in and out: `load` and `save`, safetensors only, by the tables of `families`.

Tensors are read lazily and straight to where they live, so the host never holds more than one weight of the model::

  decoder, tokenizer = hf.load("Mistral-7B-v0.1", mesh=mesh, dtype="float32")
  hf.save(decoder, "export/stage2", tokenizer, dtype="bfloat16")
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax import nnx
from jax import numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from skymath_jax import files, sharding
from skymath_jax import tokenizer as tokenizers
from skymath_jax.errors import UserError
from skymath_jax.models import families
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.families import Row
from skymath_jax.tokenizer import Tokenizer

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": np.dtype("float32"), "F16": np.dtype("float16"), "BF16": np.dtype(ml_dtypes.bfloat16)}
COPY_AGAIN = "copy the file again from its origin"
# Buffers that old transformers versions wrote beside the weights; they follow from the config
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def load(folder: epath.PathLike, mesh: Mesh | None = None, dtype: Any = None) -> tuple[Decoder, Tokenizer]:
  """A decoder and its tokenizer from a Hugging Face folder.

  Args:
    folder: holds config.json, safetensors (one file, or several with an index) and the tokenizer's files.
    mesh: where the weights go, as `sharding.RULES` say; None = the default device.
    dtype: of weights and compute, default float32; `decoder.replace(dtype=…)` changes compute alone.

  Raises:
    UserError: a missing, damaged or unsupported file, or tensors missing, left over or mis-shaped (all are named).
  """
  folder = epath.Path(folder)
  config = families.config_from_hf(files.read_json(folder / "config.json"), where=folder / "config.json")
  dtype = jnp.dtype(dtype or "float32").name
  config = dataclasses.replace(config, dtype=dtype, param_dtype=dtype)
  tokenizer = tokenizers.load(folder)
  model = nnx.eval_shape(lambda: Decoder(config))
  params = nnx.state(model, nnx.Param)
  shapes = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(params)}
  places = dict.fromkeys(shapes, jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
  if mesh is not None:
    placed = nnx.to_flat_state(sharding.shardings_of(params, mesh))
    places = {path: leaf.get_value() for path, leaf in placed}
  table = families.rows(config)
  with contextlib.ExitStack() as stack:
    tensors = _open(folder, stack)
    _check(table, shapes, tensors, config.layers, folder)
    for row in table:
      path = _path(row)
      reader = _Reader(row, shapes[path], tensors)
      params_at(model, path).set_value(jax.make_array_from_callback(shapes[path].shape, places[path], reader))
  return model, tokenizer


def params_at(model: Decoder, path: Sequence[str]) -> nnx.Param:
  """The parameter at an attribute path such as ("layers", "q")."""
  node: Any = model
  for name in path:
    node = getattr(node, name)
  return node


def _path(row: Row) -> tuple[str, ...]:
  """Attribute path of a row in a decoder with stacked layers."""
  return tuple(part for part in row.ours.split(".") if part != "*")


def _names(row: Row, layers: int) -> list[str]:
  """Their tensor names of one row: one for each layer, or just one."""
  return [row.theirs.replace("*", str(i)) for i in range(layers)] if "*" in row.theirs else [row.theirs]


class _Reader:
  """Reads the part of one of our (stacked) weights that a device holds, layer by layer."""

  def __init__(self, row: Row, weight: jax.ShapeDtypeStruct, tensors: Mapping[str, Any]):
    self.row, self.weight, self.tensors = row, weight, tensors

  def __call__(self, index: tuple[slice, ...]) -> np.ndarray:
    shape = self.weight.shape
    if "*" not in self.row.theirs:
      return self._one(self.row.theirs, index, shape)
    layers = range(*index[0].indices(shape[0]))
    return np.stack([self._one(self.row.theirs.replace("*", str(i)), index[1:], shape[1:]) for i in layers])

  def _one(self, name: str, index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    layout = self.row.layout
    local = tuple(len(range(*s.indices(n))) for s, n in zip(index, shape, strict=True))
    part = np.asarray(self.tensors[name][layout.index(index, shape)])
    return np.ascontiguousarray(layout.to_ours(part, local), dtype=self.weight.dtype)


def _open(folder: epath.Path, stack: contextlib.ExitStack) -> dict[str, Any]:
  """Tensor name -> lazily read slice, over all files of the folder."""
  if (folder / INDEX).exists():
    index = files.read_json(folder / INDEX)["weight_map"]
    names = sorted(set(index.values()))
  elif (folder / SINGLE).exists():
    names = [SINGLE]
  elif any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
    remedy = "convert it once: transformers' AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
    raise UserError("only pickled weights here, which can run code", where=folder, remedy=remedy)
  else:
    raise UserError("no weights here", where=folder, remedy=f"it should hold {SINGLE} or {INDEX}")
  tensors = {}
  for name in names:
    path = folder / name
    if not path.exists():
      raise UserError(f"named by {INDEX} but not there", where=path, remedy=COPY_AGAIN)
    try:
      file = stack.enter_context(safetensors.safe_open(path, "numpy"))
      tensors |= {key: file.get_slice(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
      raise UserError(f"damaged ({error})", where=path, remedy=COPY_AGAIN) from None
  return tensors


def _check(table: list[Row], shapes: Mapping[Any, Any], tensors: Mapping[str, Any], layers: int, folder: Any) -> None:
  """Every tensor is used, none is lacking, all have the shape and a dtype that the config asks for."""
  wanted = {}
  for row in table:
    shape = shapes[_path(row)].shape
    wanted |= dict.fromkeys(_names(row, layers), row.layout.shape(shape[1:] if "*" in row.theirs else shape))
  problems = [f"missing: {name}" for name in wanted if name not in tensors]
  tied = {row.theirs for family in families.FAMILIES.values() for row in family.weights if row.ours == "head"}
  left = [name for name in tensors if name not in wanted and name not in tied and not IGNORED.fullmatch(name)]
  problems += [f"unexpected: {name}" for name in left]
  for name, shape in wanted.items():
    if name in tensors:
      found, dtype = tuple(tensors[name].get_shape()), tensors[name].get_dtype()
      problems += [f"{name} is {list(found)}, config.json asks for {list(shape)}"] * (found != shape)
      problems += [f"{name} is of type {dtype}, not {'/'.join(DTYPES)}"] * (dtype not in DTYPES)
  if problems:
    shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
    remedy = "weights and config.json must be of one model; take both from one place"
    raise UserError(f"tensors do not fit config.json: {shown}", where=folder, remedy=remedy)


def save(
  decoder: Decoder,
  folder: epath.PathLike,
  tokenizer: Tokenizer | None = None,
  dtype: Any = None,
  max_shard_size: int = 5 * 10**9,
) -> None:
  """Writes a folder that transformers (4 and 5) and `load` read; it appears whole or not at all.

  Args:
    decoder: weights may be sharded over a mesh, also over hosts: all processes must call, the first one writes.
    folder: replaced if it exists.
    tokenizer: its files and special ids go along.
    dtype: of the tensors, default that of the weights.
    max_shard_size: bytes of one file at most; a larger tensor gets a file of its own.
  """
  config = decoder.config
  dtype = jnp.dtype(dtype or config.param_dtype)
  plan = _plan(decoder, dtype, max_shard_size)
  if jax.process_index() != 0:
    for shard in plan:
      for source in shard.values():
        source.read(dtype)  # takes part in the gather
    return
  with files.new_folder(folder) as new:
    weight_map = {}
    for number, shard in enumerate(plan, start=1):
      name = SINGLE if len(plan) == 1 else f"model-{number:05d}-of-{len(plan):05d}.safetensors"
      data = {key: source.read(dtype) for key, source in shard.items()}
      safetensors.numpy.save_file(data, new / name, metadata={"format": "pt"})
      os.chmod(new / name, 0o644)  # the library leaves it readable by its writer only
      weight_map |= dict.fromkeys(shard, name)
    if len(plan) > 1:
      size = sum(source.size for shard in plan for source in shard.values()) * dtype.itemsize
      files.write_json(new / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})
    _write_configs(decoder, new, tokenizer, dtype)


@dataclasses.dataclass(frozen=True)
class _Source:
  """One tensor to be written: a weight, or one layer of a stack, in their layout."""

  row: Row
  array: jax.Array
  layer: int | None

  @property
  def shape(self) -> tuple[int, ...]:
    return self.row.layout.shape(self.array.shape if self.layer is None else self.array.shape[1:])

  @property
  def size(self) -> int:
    return int(np.prod(self.shape))

  def read(self, dtype: np.dtype) -> np.ndarray:
    array = self.array if self.layer is None else self.array[self.layer]
    if not array.is_fully_addressable:
      array = multihost_utils.process_allgather(array, tiled=True)
    return np.ascontiguousarray(self.row.layout.to_theirs(np.asarray(array))).astype(dtype, copy=False)


def _sources(decoder: Decoder) -> Iterator[tuple[str, _Source]]:
  config = decoder.config
  for row in families.rows(config):
    path = _path(row)
    for layer, name in enumerate(_names(row, config.layers)):
      if "*" not in row.theirs:
        yield name, _Source(row, params_at(decoder, path)[...], None)
      elif config.scan_layers:
        yield name, _Source(row, params_at(decoder, path)[...], layer)
      else:
        yield name, _Source(row, params_at(decoder.layers[layer], path[1:])[...], None)


def _plan(decoder: Decoder, dtype: np.dtype, max_shard_size: int) -> list[dict[str, _Source]]:
  """Which tensor goes to which file, in order."""
  plan: list[dict[str, _Source]] = [{}]
  held = 0
  for name, source in _sources(decoder):
    size = source.size * dtype.itemsize
    if plan[-1] and held + size > max_shard_size:
      plan.append({})
      held = 0
    plan[-1][name] = source
    held += size
  return plan


def _write_configs(decoder: Decoder, folder: epath.Path, tokenizer: Tokenizer | None, dtype: np.dtype) -> None:
  ids = {} if tokenizer is None else {f"{k}_token_id": getattr(tokenizer, f"{k}_id") for k in ("bos", "eos", "pad")}
  config = families.config_to_hf(decoder.config)
  files.write_json(folder / "config.json", config | ids | {"torch_dtype": dtype.name, "dtype": dtype.name})
  files.write_json(folder / "generation_config.json", {"do_sample": False, **ids})
  if tokenizer is not None:
    tokenizer.save(folder)
