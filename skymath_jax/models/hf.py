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
from typing import Any, TypeAlias

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax import numpy as jnp
from jax.sharding import Mesh

from skymath_jax import distributed, files, foreign, sharding
from skymath_jax import tokenizer as tokenizers
from skymath_jax.console import log_once
from skymath_jax.errors import UserError
from skymath_jax.models import families, misfits, weight_files
from skymath_jax.models.config import DecoderConfig
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.layouts import Experts, Index, Linear, Same
from skymath_jax.models.tensor_rows import Row
from skymath_jax.models.weight_files import DTYPES, Stored, Together
from skymath_jax.tokenizer import Tokenizer

TIED_ROWS = 4096  # of a head that are compared at a time
STAGING = 128 * 2**20  # bytes of a stacked weight that the host reads before it hands them to the devices
WRITE_SECONDS = 3600  # how long the other processes wait for the one that writes
SHOWN = 10  # problems that a message names
# Buffers that old transformers versions wrote beside the weights; they follow from the config
IGNORED = re.compile(r"(.*\.)?(rotary_emb\.((original_)?inv_freq|(cos|sin)_cached)|self_attn\.(masked_)?bias)")


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
  config, tensors = _described(folder)
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
  _check(config, shapes, tensors, folder)
  _require_tied(config, tensors, folder)
  for row in table:
    for part, offset in zip(_parts(row), _offsets(config, row, shapes), strict=True):
      for path, names in arrays_of(config, part):
        stored = [tensors[name] for name in names]
        params_at(model, path).set_value(_place(part, stored, shapes[path], places[path], offset))
  return model, tokenizer


def _described(folder: epath.Path) -> tuple[DecoderConfig, dict[str, Stored | Together]]:
  """What config.json says of a folder, and the tensors of its language model."""
  described = foreign.read_object(folder / "config.json")
  config, tensors = families.config_from_hf(described, where=folder / "config.json"), weight_files.scan(folder)
  if families.text_part(described) is not described:
    tensors = _language_model(tensors)
  if config.layers * max(1, config.experts) > len(tensors):
    each = f" of {config.experts:,} experts" if config.experts else ""
    what = f"config.json says {config.layers:,} layers{each}, the weights are {len(tensors):,} tensors"
    raise UserError(what, where=folder, remedy="weights and config.json must be of one model")
  joint = [name for row in families.rows(config) if "#" in row.theirs for name in names_of(row, config.layers)]
  return config, weight_files.together(tensors, joint, config.experts)


def _require_tied(config: DecoderConfig, tensors: Mapping[str, Stored | Together], folder: epath.Path) -> None:
  """Refuses a head that lies beside an embedding to which config.json ties it, and is another: readers disagree."""
  names = {row.ours: row.theirs for row in families.FAMILIES[config.family].weights}
  if not config.tie_embeddings or names["head"] not in tensors:
    return
  rows = tensors[names["embedding"]].shape[0]
  with tensors[names["head"]].open() as head, tensors[names["embedding"]].open() as embed:
    same = tensors[names["head"]].shape == tensors[names["embedding"]].shape and all(
      np.array_equal(np.asarray(head[start:stop], np.float32), np.asarray(embed[start:stop], np.float32))
      for start, stop in ((at, min(rows, at + TIED_ROWS)) for at in range(0, rows, TIED_ROWS))
    )
  if not same:
    what = f"{names['head']} is not {names['embedding']}, though tie_word_embeddings is on"
    raise UserError(what, where=folder, remedy='write "tie_word_embeddings": false, or remove the tensor')


def _language_model(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
  """The tensors of the language model in a folder that holds others, too, by the names that they have alone."""
  found = {}
  for name, stored in tensors.items():
    if "language_model." in name:
      rest = name.split("language_model.", 1)[1]
      found[rest if rest.startswith(("model.", "lm_head.")) else f"model.{rest}"] = stored
    elif name == "lm_head.weight":
      found[name] = stored
  log_once(f"{len(tensors) - len(found)} tensors are no part of the language model and are left out")
  return found


def stored_dtype(folder: epath.PathLike) -> str:
  """The type that all weights of a folder's language model have, or the one that holds them all exactly: float32.

  Raises:
    UserError: config.json or the weight files cannot be read.
  """
  config, tensors = _described(epath.Path(folder).expanduser())
  read = (name for row in families.rows(config) for name in names_of(row, config.layers))
  kinds = {tensors[name].code for name in read if name in tensors} & DTYPES.keys()
  return DTYPES[kinds.pop()].name if len(kinds) == 1 else "float32"


def params_at(module: nnx.Module, path: Sequence[str | int]) -> nnx.Param[jax.Array]:
  """The parameter at a path such as ("layers", "q") or ("layers", 0, "q"); its shape is our own."""
  node: Any = module
  for name in path:
    node = node[name] if isinstance(name, int) else getattr(node, name)
  found: nnx.Param[jax.Array] = node
  return found


def _shape_of(config: DecoderConfig, part: Row, shapes: Mapping[Any, Any]) -> tuple[int, ...]:
  """Our shape of one tensor of a part, without the axis of layers."""
  shape: tuple[int, ...] = shapes[arrays_of(config, part)[0][0]].shape
  return shape[1:] if "*" in part.theirs else shape


def _theirs(layout: Same | Linear | Experts, ours: Sequence[Sequence[int]]) -> tuple[int, ...]:
  """The shape of a tensor that holds arrays of these shapes, one behind the other."""
  first, *rest = [layout.shape(shape) for shape in ours]
  return (first[0] + sum(shape[0] for shape in rest), *first[1:]) if rest else first


def _parts(row: Row) -> list[Row]:
  """A row for each of our weights that lie in its tensor."""
  return [dataclasses.replace(row, ours=ours, joined=()) for ours in (row.ours, *row.joined)]


def _offsets(config: DecoderConfig, row: Row, shapes: Mapping[Any, Any]) -> list[int]:
  """Where each part begins along the first axis of the tensor."""
  lengths = [row.layout.shape(_shape_of(config, part, shapes))[0] for part in _parts(row)[:-1]]
  return list(itertools.accumulate(lengths, initial=0))


def arrays_of(config: DecoderConfig, part: Row) -> list[tuple[tuple[str | int, ...], list[str]]]:
  """Paths of our arrays in a decoder with stacked layers, and the names of the tensors that each is made of."""
  names = names_of(part, config.layers)
  first, *rest = (name for name in part.ours.split(".") if name != "*")
  if "*" not in part.theirs or len(config.segments) == 1:
    return [((first, *rest), names)]
  segments = enumerate(config.segments)
  return [((first, i, *rest), names[segment.layers.start : segment.layers.stop]) for i, segment in segments]


def names_of(row: Row, layers: int) -> list[str]:
  """Hugging Face's names of one row: one for each layer, or just one."""
  return [row.theirs.replace("*", str(i)) for i in range(layers)] if "*" in row.theirs else [row.theirs]


def _place(
  row: Row, stored: Sequence[Stored | Together], weight: jax.ShapeDtypeStruct, place: Any, offset: int
) -> jax.Array:
  """One of our weights, read from `stored` (one tensor, or one for each layer) straight into its device shards.

  It begins at `offset` along the first axis of the tensors.
  """
  where = place.addressable_devices_indices_map(weight.shape)
  if "*" not in row.theirs:
    held = _read(row, stored[0], weight.shape, weight.dtype, where, offset)
    pieces = jax.block_until_ready([jax.device_put(part, device) for device, part in held.items()])
    return jax.make_array_from_single_device_arrays(weight.shape, place, pieces)
  size = int(np.prod(weight.shape[1:])) * weight.dtype.itemsize
  at_once = min(len(stored), max(1, STAGING // size))
  inner = {device: index[1:] for device, index in where.items()}  # no rule cuts the axis of layers
  buffers: dict[Any, jax.Array] = {}
  for first in range(0, len(stored), at_once):
    some = stored[first : first + at_once]
    parts = [_read(row, one, weight.shape[1:], weight.dtype, inner, offset) for one in some]
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
  row: Row, stored: Stored | Together, shape: Sequence[int], dtype: np.dtype, where: Mapping[Any, Index], offset: int
) -> dict[Any, np.ndarray]:
  """What each device holds of one tensor, in our layout; copies of one part are read once."""
  parts: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
  held = {}
  with stored.open() as tensor:
    for device, index in where.items():
      local = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
      if local not in parts:
        first, *rest = row.layout.index(index, shape)
        start, stop, _ = first.indices(row.layout.shape(shape)[0])
        theirs = np.asarray(tensor[(slice(start + offset, stop + offset), *rest)])
        ours = row.layout.to_ours(theirs, [stop - start for start, stop in local])
        parts[local] = np.ascontiguousarray(ours, dtype=dtype)
      held[device] = parts[local]
  return held


def _check(
  config: DecoderConfig, shapes: Mapping[Any, Any], tensors: Mapping[str, Stored | Together], folder: Any
) -> None:
  """Every tensor is used, none is lacking, all have the shape and a dtype that the config asks for."""
  wanted: dict[str, tuple[int, ...]] = {}
  for row in families.rows(config):
    shape = _theirs(row.layout, [_shape_of(config, part, shapes) for part in _parts(row)])
    wanted |= dict.fromkeys(names_of(row, config.layers), shape)
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
    remedy = misfits.remedy(wanted, left, {stored.code for stored in tensors.values()})
    raise UserError(f"tensors do not fit config.json: {shown}", where=folder, remedy=remedy)


def _both(missing: list[str], unexpected: list[str]) -> list[str]:
  """The two kinds in turns, so that neither hides the other where there are many."""
  turns = itertools.zip_longest(missing, unexpected)
  return [problem for pair in turns for problem in pair if problem is not None]


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
    parts = [_arrays(decoder, part) for part in _parts(row)]
    for name, *arrays in zip(names_of(row, config.layers), *parts, strict=True):
      if "#" not in name:
        yield _tensor(name, row.layout, arrays, dtype)
        continue
      ((array, layer),) = arrays
      for number, one in enumerate(weight_files.numbered(name, config.experts)):
        yield _tensor(one, Linear(), [(array, (*layer, number))], dtype)


Part: TypeAlias = tuple[jax.Array, tuple[int, ...]]  # an array, and the layer and expert of it that is meant


def _tensor(
  name: str, layout: Same | Linear | Experts, parts: Sequence[Part], dtype: np.dtype
) -> tuple[str, tuple[int, ...], Callable[[], np.ndarray]]:
  """Name, shape and reader of a tensor that holds these parts of our arrays, one behind the other."""

  def read() -> np.ndarray:
    theirs = [layout.to_theirs(_fetch(array, index)) for array, index in parts]
    return weight_files.rounded(name, theirs[0] if len(theirs) == 1 else np.concatenate(theirs), dtype)

  return name, _theirs(layout, [array.shape[len(index) :] for array, index in parts]), read


def _arrays(decoder: Decoder, part: Row) -> list[Part]:
  """For each tensor our array, and which layer of it is meant if it is a stack."""
  config, last = decoder.config, part.ours.rsplit(".", 1)[-1]
  if "*" in part.theirs and not config.scan_layers:
    return [(params_at(decoder, ("layers", i, last)).get_value(), ()) for i in range(config.layers)]
  found: list[Part] = []
  for path, names in arrays_of(config, part):
    array = params_at(decoder, path).get_value()
    found += [(array, (i,) if "*" in part.theirs else ()) for i in range(len(names))]
  return found


def _fetch(array: jax.Array, index: tuple[int, ...]) -> np.ndarray:
  """The whole array, or one layer or expert of it, on every host; the devices hold that once more meanwhile."""
  one = _one(array, tuple(jnp.int32(i) for i in index)) if index else array
  if not array.is_fully_addressable and isinstance(array.sharding, jax.sharding.NamedSharding):
    everywhere = jax.sharding.NamedSharding(array.sharding.mesh, jax.sharding.PartitionSpec())
    one = jax.device_put(one, everywhere).addressable_data(0)
  return np.asarray(one)


@jax.jit
def _one(stack: jax.Array, index: tuple[jax.Array, ...]) -> jax.Array:
  """One layer of a stack; the index is an argument, so that all layers share one compilation."""
  for i in index:
    stack = jax.lax.dynamic_index_in_dim(stack, i, 0, keepdims=False)
  return stack


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
