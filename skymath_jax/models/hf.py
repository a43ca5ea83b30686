"""Hugging Face folders in and out: `load` and `save`, safetensors only, by the tables of `families`.

Tensors go one by one from file to devices and back, so the host holds a few of them at most, however large the model::

  decoder, tokenizer = hf.load("Mistral-7B-v0.1", mesh=mesh, dtype="float32")
  hf.save(decoder, "export/stage2", tokenizer, dtype="bfloat16")
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax import numpy as jnp
from jax.sharding import Mesh

from skymath_jax import distributed, files, foreign, sharding
from skymath_jax import tokenizer as tokenizers
from skymath_jax.errors import UserError
from skymath_jax.models import families, weight_files
from skymath_jax.models.config import DecoderConfig
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.families import Row
from skymath_jax.models.layouts import Index
from skymath_jax.models.weight_files import DTYPES, Stored
from skymath_jax.tokenizer import Tokenizer

STAGING = 128 * 2**20  # bytes of a stacked weight that the host reads before it hands them to the devices
WRITE_SECONDS = 3600  # how long the other processes wait for the one that writes
# Buffers that old transformers versions wrote beside the weights; they follow from the config
WRAPPERS = {  # what programs wrap a model in, by what they put before the names of its tensors
  "_orig_mod.": "saved from under torch.compile; save model._orig_mod instead",
  "module.": "saved from under DistributedDataParallel; save model.module instead",
  "base_model.model.": "saved from under PEFT; save model.merge_and_unload() instead",
}
SHOWN = 10  # problems that a message names
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def load(folder: epath.PathLike, mesh: Mesh | None = None, dtype: Any = None) -> tuple[Decoder, Tokenizer]:
  """A decoder and its tokenizer from a Hugging Face folder.

  With several processes each reads only what its own devices hold.

  Args:
    folder: holds config.json, safetensors (one file, or several with an index) and the tokenizer's files.
    mesh: where the weights go, as `sharding.RULES` say; None = this process' first device.
    dtype: of weights and compute, default float32; `decoder.replace(dtype=…)` changes compute alone.

  Raises:
    UserError: a missing, damaged or unsupported file, or tensors missing, left over or mis-shaped (all are named).
  """
  folder = epath.Path(folder).expanduser()
  config = families.config_from_hf(foreign.read_object(folder / "config.json"), where=folder / "config.json")
  dtype = jnp.dtype(dtype or "float32").name
  config = dataclasses.replace(config, dtype=dtype, param_dtype=dtype)
  tensors = weight_files.scan(folder)
  if config.layers > len(tensors):
    what = f"config.json says {config.layers:,} layers, the weights are {len(tensors):,} tensors"
    raise UserError(what, where=folder, remedy="weights and config.json must be of one model")
  tokenizer = tokenizers.load(folder)
  model = nnx.eval_shape(lambda: Decoder(config))
  params = nnx.state(model, nnx.Param)
  shapes = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(params)}
  places = dict.fromkeys(shapes, jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
  if mesh is not None:
    placed = nnx.to_flat_state(sharding.shardings_of(params, mesh))
    places = {path: leaf.get_value() for path, leaf in placed}
  table = families.rows(config)
  _check(table, shapes, tensors, config.layers, folder)
  for row in table:
    path = _path(row)
    stored = [tensors[name] for name in names_of(row, config.layers)]
    params_at(model, path).set_value(_place(row, stored, shapes[path], places[path]))
  return model, tokenizer


def stored_dtype(folder: epath.PathLike) -> str:
  """The type that all weights of a folder have, or the one that holds them all exactly: float32.

  Raises:
    UserError: the weight files cannot be read.
  """
  tensors = weight_files.scan(epath.Path(folder).expanduser())
  kinds = {stored.code for name, stored in tensors.items() if not IGNORED.fullmatch(name)} & DTYPES.keys()
  return DTYPES[kinds.pop()].name if len(kinds) == 1 else "float32"


def params_at(module: nnx.Module, path: Sequence[str]) -> nnx.Param[jax.Array]:
  """The parameter at an attribute path such as ("layers", "q"); its shape is `shape_of` its row."""
  node: Any = module
  for name in path:
    node = getattr(node, name)
  found: nnx.Param[jax.Array] = node
  return found


def shape_of(config: DecoderConfig, row: Row) -> tuple[int, ...]:
  """Our shape of one tensor of a row, without the axis of layers."""
  params = nnx.state(nnx.eval_shape(lambda: Decoder(config)), nnx.Param)
  shape = dict(nnx.to_flat_state(params))[_path(row)].get_value().shape
  return shape[1:] if "*" in row.theirs else shape


def _path(row: Row) -> tuple[str, ...]:
  """Attribute path of a row in a decoder with stacked layers."""
  return tuple(part for part in row.ours.split(".") if part != "*")


def names_of(row: Row, layers: int) -> list[str]:
  """Hugging Face's names of one row: one for each layer, or just one."""
  return [row.theirs.replace("*", str(i)) for i in range(layers)] if "*" in row.theirs else [row.theirs]


def _place(row: Row, stored: Sequence[Stored], weight: jax.ShapeDtypeStruct, place: Any) -> jax.Array:
  """One of our weights, read from `stored` (one tensor, or one for each layer) straight into its device shards."""
  where = place.addressable_devices_indices_map(weight.shape)
  if "*" not in row.theirs:
    held = _read(row, stored[0], weight.shape, weight.dtype, where)
    pieces = jax.block_until_ready([jax.device_put(part, device) for device, part in held.items()])
    return jax.make_array_from_single_device_arrays(weight.shape, place, pieces)
  size = int(np.prod(weight.shape[1:])) * weight.dtype.itemsize
  at_once = min(len(stored), max(1, STAGING // size))
  inner = {device: index[1:] for device, index in where.items()}  # no rule cuts the axis of layers
  buffers: dict[Any, jax.Array] = {}
  for first in range(0, len(stored), at_once):
    parts = [_read(row, one, weight.shape[1:], weight.dtype, inner) for one in stored[first : first + at_once]]
    for device in where:
      part = jax.device_put(np.stack([layer[device] for layer in parts]), device)
      if at_once == len(stored):
        buffers[device] = part
        continue
      if device not in buffers:
        shape = (len(stored), *part.shape[1:])
        buffers[device] = jnp.zeros(shape, weight.dtype, device=device)
      buffers[device] = _put_layers(buffers[device], part, jnp.int32(first))
    jax.block_until_ready(list(buffers.values()))  # else what is read waits for the transfers, in host memory
  return jax.make_array_from_single_device_arrays(weight.shape, place, list(buffers.values()))


@functools.partial(jax.jit, donate_argnums=0)
def _put_layers(held: jax.Array, new: jax.Array, first: jax.Array) -> jax.Array:
  """`held` with the layers from `first` on replaced, in place."""
  return jax.lax.dynamic_update_slice_in_dim(held, new, first, 0)


def _read(
  row: Row, stored: Stored, shape: Sequence[int], dtype: np.dtype, where: Mapping[Any, Index]
) -> dict[Any, np.ndarray]:
  """What each device holds of one tensor, in our layout; copies of one part are read once."""
  parts: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
  held = {}
  with stored.open() as tensor:
    for device, index in where.items():
      local = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
      if local not in parts:
        theirs = np.asarray(tensor[row.layout.index(index, shape)])
        ours = row.layout.to_ours(theirs, [stop - start for start, stop in local])
        parts[local] = np.ascontiguousarray(ours, dtype=dtype)
      held[device] = parts[local]
  return held


def _check(
  table: list[Row], shapes: Mapping[Any, Any], tensors: Mapping[str, Stored], layers: int, folder: Any
) -> None:
  """Every tensor is used, none is lacking, all have the shape and a dtype that the config asks for."""
  wanted: dict[str, tuple[int, ...]] = {}
  for row in table:
    shape = shapes[_path(row)].shape
    wanted |= dict.fromkeys(names_of(row, layers), row.layout.shape(shape[1:] if "*" in row.theirs else shape))
  missing = [f"missing: {name}" for name in wanted if name not in tensors]
  tied = {row.theirs for family in families.FAMILIES.values() for row in family.weights if row.ours == "head"}
  left = [name for name in tensors if name not in wanted and name not in tied and not IGNORED.fullmatch(name)]
  problems = _both(missing, [f"unexpected: {name}" for name in left])
  for name, shape in wanted.items():
    if name in tensors:
      found, code = tensors[name].shape, tensors[name].code
      problems += [f"{name} is {list(found)}, config.json asks for {list(shape)}"] * (found != shape)
      problems += [f"{name} is of type {code}, not {'/'.join(DTYPES)}"] * (code not in DTYPES)
  if problems:
    shown = "; ".join(problems[:SHOWN]) + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
    remedy = _remedy(wanted, left, {stored.code for stored in tensors.values()})
    raise UserError(f"tensors do not fit config.json: {shown}", where=folder, remedy=remedy)


def _both(missing: list[str], unexpected: list[str]) -> list[str]:
  """The two kinds in turns, so that neither hides the other where there are many."""
  turns = itertools.zip_longest(missing, unexpected)
  return [problem for pair in turns for problem in pair if problem is not None]


def _remedy(wanted: Mapping[str, Any], left: Sequence[str], codes: set[str]) -> str:
  """What to do about tensors that do not fit, where their names or types tell where they come from."""
  for prefix, remedy in WRAPPERS.items():
    if any(name.startswith(prefix) and name.removeprefix(prefix) in wanted for name in left):
      return f"the names begin with {prefix}: {remedy}"
  if quantized := sorted(code for code in codes if code not in DTYPES and code[:2] in ("F8", "F4", "I8", "U8", "I4")):
    return f"{', '.join(quantized)} are quantized weights, whose scales lie elsewhere: take the model before that"
  return "weights and config.json must be of one model; take both from one place"


def save(
  decoder: Decoder,
  folder: epath.PathLike,
  tokenizer: Tokenizer | None = None,
  dtype: Any = None,
  max_shard_size: int = 5 * 10**9,
  *,
  card: str | None = None,
) -> None:
  """Writes a folder that transformers (4 and 5) and `load` read; it appears whole or not at all.

  Args:
    decoder: weights may be sharded over a mesh, also over hosts: all processes must call, the first one writes.
    folder: replaced if it exists.
    tokenizer: its files and special ids go along.
    dtype: of the tensors, default that of the weights.
    max_shard_size: bytes of one file at most; a larger tensor gets a file of its own.
    card: text of the model card, README.md.

  Raises:
    UserError: a tensor that holds numbers which are not finite in `dtype`.
  """
  dtype = jnp.dtype(dtype or decoder.config.param_dtype)
  sources = {name: weight_files.Source(shape, read) for name, shape, read in tensors_of(decoder, dtype)}
  if distributed.is_writer():
    with files.new_folder(folder) as new:
      weight_files.write(new, weight_files.plan(sources, dtype, max_shard_size), dtype)
      _write_configs(decoder, new, tokenizer, dtype)
      if card is not None:
        files.write_text(new / "README.md", card)
  else:
    for source in sources.values():
      source.read()  # takes part in the gather
  distributed.barrier("the exported folder", seconds=WRITE_SECONDS)


def verify(decoder: Decoder, folder: epath.PathLike, dtype: Any = None) -> int:
  """Compares every tensor of a folder bit for bit with the decoder's weights in `dtype`; holds one of them at a time.

  Returns:
    The number of tensors, all equal.

  Raises:
    UserError: one that differs, or is not finite, by name. With several processes the first one compares.
  """
  dtype = jnp.dtype(dtype or decoder.config.param_dtype)
  tensors = weight_files.scan(epath.Path(folder)) if distributed.is_writer() else {}
  number = 0
  for name, shape, read in tensors_of(decoder, dtype):
    ours = read()
    number += 1
    if distributed.is_writer():
      with tensors[name].open() as tensor:
        theirs = np.asarray(tensor[tuple(slice(size) for size in shape)]).astype(dtype, copy=False)
      weight_files.require_finite(name, theirs, where=tensors[name].path)
      if not np.array_equal(theirs.view(np.uint8), np.ascontiguousarray(ours).view(np.uint8)):
        remedy = "do not use it; try again, and report it if it stays"
        raise UserError(f"{name} is not the same on both sides", where=tensors[name].path, remedy=remedy)
  return number


def tensors_of(decoder: Decoder, dtype: np.dtype) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
  """Name, shape and reader of each tensor of the folder, in their layout and `dtype`."""
  config = decoder.config
  for row in families.rows(config):
    path = _path(row)
    for layer, name in enumerate(names_of(row, config.layers)):
      stacked = "*" in row.theirs and config.scan_layers
      if "*" in row.theirs and isinstance(decoder.layers, nnx.List):
        array = params_at(decoder.layers[layer], path[1:])[...]
      else:
        array = params_at(decoder, path)[...]
      shape = row.layout.shape(array.shape[1:] if stacked else array.shape)

      def read(row: Row = row, array: jax.Array = array, layer: int | None = layer if stacked else None) -> np.ndarray:
        return row.layout.to_theirs(_fetch(array, layer)).astype(dtype, copy=False)

      yield name, shape, read


def _fetch(array: jax.Array, layer: int | None) -> np.ndarray:
  """The whole array, or one layer of it, on every host; the devices hold one layer more meanwhile."""
  if array.is_fully_addressable or not isinstance(array.sharding, jax.sharding.NamedSharding):
    return np.asarray(array if layer is None else _layer(array, jnp.int32(layer)))
  everywhere = jax.sharding.NamedSharding(array.sharding.mesh, jax.sharding.PartitionSpec())
  one = array if layer is None else _layer(array, jnp.int32(layer))
  return np.asarray(jax.device_put(one, everywhere).addressable_data(0))


@jax.jit
def _layer(stack: jax.Array, layer: jax.Array) -> jax.Array:
  """One layer of a stack; the index is an argument, so that all layers share one compilation."""
  return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)


def _write_configs(decoder: Decoder, folder: epath.Path, tokenizer: Tokenizer | None, dtype: np.dtype) -> None:
  ids: dict[str, Any] = {}
  if tokenizer is not None:
    # an id without a row of the embedding, such as that of a class's default token, would not load in transformers
    ends, bos, pad = (
      [i for i in ids if i is not None and i < decoder.config.vocab_size]
      for ids in (tokenizer.end_ids, [tokenizer.bos_id], [tokenizer.pad_id])
    )
    named = {"bos_token_id": bos, "eos_token_id": ends, "pad_token_id": pad}
    ids = {name: found if len(found) > 1 else next(iter(found), None) for name, found in named.items()}
  config = families.config_to_hf(decoder.config)
  files.write_json(folder / "config.json", config | ids | {"torch_dtype": dtype.name, "dtype": dtype.name})
  files.write_json(folder / "generation_config.json", {"do_sample": False, **ids})
  if tokenizer is not None:
    tokenizer.save(folder)  # with the generation_config.json of the folder it came from, if there was one
