"""Reads and describes training checkpoints, so that serving, evaluation and export need no trainer.

    checkpoints/stage1/
      model.json          DecoderConfig
      adapter.json        where adapters were trained: which model they adapt, and how
      tokenizer/          the tokenizer's own files, byte for byte
      steps/500/          one committed Orbax step: params, optimizer, data, meta
      metrics.jsonl, events.out.tfevents.*

Arrays are stored under flat names ("layers.q"), so a checkpoint can be read on another mesh, in another layer layout of
the optimizer, or not at all by us. `meta` holds a checksum of the weights; what does not match is not used.
"""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import hashlib
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from jax import numpy as jnp

from skymath_jax import distributed, files, foreign, sharding
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.errors import UserError
from skymath_jax.models import adapter_folder
from skymath_jax.models.config import DecoderConfig
from skymath_jax.models.decoder import Decoder
from skymath_jax.tokenizer import Tokenizer

MODEL, TOKENIZER, STEPS = "model.json", "tokenizer", "steps"
META = {"run", "step", "weights", "facts"}  # at least, of what is saved with a step
CHUNK_BYTES = 2**26  # of the files: read whole and then unpacked, so a chunk is held twice
DATA_FILE_BYTES = 2**27  # packed chunks are held until there are so many of them
ORBAX_SLACK = 1.1  # an array that reaches the limit on what is in flight would be an error
FOLDER_SECONDS, WRITE_SECONDS = 300, 3600  # how long one process waits for the others
STEP_NAMES = ocp.path.step.standard_name_format()


class DamagedError(Exception):
  """A step folder that cannot be read, or whose arrays are not those that were saved."""


def is_checkpoint(folder: epath.PathLike) -> bool:
  """Whether `folder` was written by the trainer (it may not hold a committed step yet)."""
  return (epath.Path(folder) / MODEL).exists()


def describe(
  folder: epath.PathLike, config: DecoderConfig, tokenizer: Tokenizer, adapter: Mapping[str, Any] | None = None
) -> None:
  """Writes what is needed beside the arrays to rebuild the model: `model.json`, `tokenizer/`, `adapter.json`."""
  folder = epath.Path(folder)
  files.write_json(folder / MODEL, dataclasses.asdict(config))
  if adapter is not None:
    files.write_json(folder / adapter_folder.OURS, adapter)
  tokenizer.save(folder / TOKENIZER)


def committed(folder: epath.PathLike) -> list[int]:
  """Numbers of the committed steps, newest first; half-written ones do not count."""
  steps = epath.Path(folder) / STEPS
  return sorted((found.step for found in STEP_NAMES.find_all(steps)), reverse=True) if steps.exists() else []


def read_meta(folder: epath.PathLike, step: int) -> dict[str, Any]:
  """The JSON object saved with a step.

  Raises:
    UserError: the step is not whole, or its number is all that it has.
  """
  path = epath.Path(folder) / STEPS / str(step)
  meta = files.read_json(path / "meta" / "metadata") if (path / "meta" / "metadata").exists() else None
  if not (isinstance(meta, dict) and META <= meta.keys()):
    raise UserError(
      "a step that is not whole", where=path, remedy=f"remove {path}: training goes on from the one before"
    )
  return meta


def named(tree: Any) -> dict[str, Any]:
  """Leaf name → leaf, e.g. {"layers.q": …}; the order is that of `jax.tree.leaves`."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {_name(path): leaf for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
  keys = (str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
  return ".".join(key for key in keys if key != "value")


def unnamed(arrays: Mapping[str, Any], like: Any) -> Any:
  """The inverse of `named`: `like`'s structure with the arrays of these names."""
  return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in named(like)])


def restore(path: epath.Path, like: Any) -> Any:
  """One array item of a step, in the structure, dtypes and shardings of `like` (abstract or real arrays).

  Large arrays are read one after the other, each into host memory and on to the devices before the next one begins.

  Raises:
    DamagedError: the item cannot be read into that shape.
  """
  wanted = {}
  for name, leaf in named(like).items():
    where = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
  try:
    process_options, limit = _multiprocessing(wanted), concurrent_gb(wanted)
    read: dict[str, jax.Array] = {}
    handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=limit, **process_options)
    with ocp.Checkpointer(handler, **process_options) as checkpointer:
      for part in _groups(wanted, limit):
        how = ocp.checkpoint_utils.construct_restore_args(part)
        args = ocp.args.PyTreeRestore(part, restore_args=how, partial_restore=True)
        read |= jax.block_until_ready(checkpointer.restore(path, args=args))
        _release_memory()
    return unnamed(read, like)
  except Exception as error:  # whatever TensorStore makes of a damaged file
    raise DamagedError(f"{path}: {type(error).__name__}: {str(error)[:200]}") from error


def _multiprocessing(wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
  """Orbax waits for all processes of a job, unless this one reads a copy of its own and says so."""
  if distributed.process_count() == 1 or not all(leaf.sharding.is_fully_addressable for leaf in wanted.values()):
    return {}
  me = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}_alone"
  )
  return {"multiprocessing_options": alone}


def concurrent_gb(arrays: Mapping[str, Any]) -> float:
  """GB that Orbax may hold between disk and devices: enough for the largest array, not for all at once.

  It is the whole array's size, not this process' share: one saved on fewer devices is read in pieces as large.
  """
  largest = max(_size(x) for x in arrays.values())
  return max(1.0, ORBAX_SLACK * largest / 1e9)


def _groups(arrays: Mapping[str, Any], limit: float) -> Iterator[dict[str, Any]]:
  """The arrays in groups of at most `limit` GB; Orbax' own limit counts what it has handed to a device as done."""
  group: dict[str, Any] = {}
  held = 0.0
  for name, array in arrays.items():
    size = _size(array) / 1e9
    if group and held + size > limit:
      yield group
      group, held = {}, 0.0
    group[name] = array
    held += size
  yield group


def _size(array: Any) -> int:
  return math.prod(array.shape) * array.dtype.itemsize


@functools.partial(jax.jit, static_argnames="stacked")
def _sums(x: jax.Array, *, stacked: bool) -> jax.Array:
  """Two position-dependent uint32 sums over the bits of an array; integers, so no sharding changes them.

  A stack of layers is summed layer by layer: what is computed on the way is as large as what it is computed from.
  """
  kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]

  def part(x: jax.Array, first: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, kind).astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
      index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    index = index + first
    odd = index * jnp.uint32(2_654_435_761) | 1
    return jnp.stack([jnp.sum(bits * odd, dtype=jnp.uint32), jnp.sum((bits ^ odd) * (index | 1), dtype=jnp.uint32)])

  if not stacked:
    return part(x, jnp.uint32(0))
  firsts = jnp.arange(x.shape[0], dtype=jnp.uint32) * jnp.uint32(x[0].size)
  return jax.lax.map(lambda layer: part(*layer), (x, firsts)).sum(axis=0, dtype=jnp.uint32)


STACKED = re.compile(r"(^|\.)layers\.(?!\d)")  # not layers.0.q, which is one layer's


def checksum(tree: Any) -> str:
  """16 hex digits over names, shapes, dtypes and bits of all arrays; the same on every mesh."""
  digest = hashlib.sha256()
  for name, array in named(tree).items():
    sums = np.asarray(_sums(array, stacked=bool(STACKED.search(name))))
    digest.update(f"{name} {array.shape} {array.dtype} {sums.tolist()}\n".encode())
  return digest.hexdigest()[:16]


def verify(tree: Any, expected: str, path: epath.Path) -> None:
  """Raises `DamagedError` unless the arrays are bit for bit those that were saved."""
  if checksum(tree) != expected:
    raise DamagedError(f"{path}: the arrays are not those that were saved")


def weights_hash(folder: epath.PathLike) -> str:
  """Checksum of the newest step's weights (of adapters: and of what they adapt), from its `meta`: no array is touched.

  Raises:
    UserError: the folder has no finished checkpoint.
  """
  found: str = read_meta(folder, _newest(folder))["weights"]
  path = epath.Path(folder) / adapter_folder.OURS
  return hashlib.sha256(found.encode() + path.read_bytes()).hexdigest()[:16] if path.exists() else found


def _newest(folder: epath.PathLike) -> int:
  steps = committed(folder)
  if not steps:
    raise UserError("no finished checkpoint here", where=folder, remedy="train, or give another folder")
  return steps[0]


def save(decoder: Decoder, tokenizer: Tokenizer, folder: epath.PathLike) -> None:
  """Writes a model that was not trained here (an imported one) as step 0 of a new checkpoint folder.

  The folder appears whole or not at all. With several processes all must call, and all must see the folder.
  """
  target, params = epath.Path(folder).resolve(), nnx.state(decoder, nnx.Param)
  _release_memory()  # what reading the model left
  meta = {"run": {}, "step": 0, "weights": checksum(params), "facts": {}}
  token, first = distributed.gather("name of a new checkpoint", secrets.token_hex(4))[0], distributed.is_writer()
  with files.new_folder(target, token=token) if first else contextlib.nullcontext():
    new = files.temporary(target, token)
    if first:
      describe(new, decoder.config, tokenizer)
    distributed.barrier("the new checkpoint's folder", seconds=FOLDER_SECONDS)
    handlers = {"params": _bounded_handler(named(params)), "meta": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(new / STEPS, item_names=tuple(handlers), item_handlers=handlers) as manager:
      manager.save(0, args=ocp.args.Composite(params=in_chunks(params), meta=ocp.args.JsonSave(meta)))
    distributed.barrier("the new checkpoint's arrays", seconds=WRITE_SECONDS)
  distributed.barrier("the new checkpoint's name", seconds=FOLDER_SECONDS)
  _release_memory()


def in_chunks(tree: Any) -> ocp.args.PyTreeSave:
  """What has Orbax write `tree` under flat names and in small pieces, so that a reader never has to hold a whole array.

  Left to itself it writes each device's share of an array as one piece: 2 GB for the matrices of a 7B model on one GPU.
  """
  arrays = named(tree)
  small = dict.fromkeys(arrays, ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES))
  return ocp.args.PyTreeSave(arrays, save_args=small, ocdbt_target_data_file_size=DATA_FILE_BYTES)


def _bounded_handler(arrays: Mapping[str, Any]) -> ocp.PyTreeCheckpointHandler:
  """What writes arrays as `StandardSave` does, but copies the next to the host only when the one before is written."""
  limit = concurrent_gb(arrays)
  return ocp.PyTreeCheckpointHandler(
    save_concurrent_gb=limit, save_device_host_concurrent_gb=limit, is_prioritized_key_fn=lambda _: False
  )


def _release_memory() -> None:
  """Hands memory that nobody uses to the system.

  JAX holds what it has copied to a device until the next collection, and Orbax's threads leave most of a model's size
  in the pools of glibc.
  """
  gc.collect()
  with contextlib.suppress(OSError, AttributeError):  # another C library
    ctypes.CDLL(None).malloc_trim(0)


def load(
  folder: epath.PathLike, mesh: jax.sharding.Mesh | None = None, dtype: Any = None, *, step: int | None = None
) -> tuple[Decoder, Tokenizer]:
  """The model of the newest (or the given) step, without its optimizer.

  Args:
    folder: `checkpoints/STAGE`.
    mesh: where to place the weights; None = the first device.
    dtype: of weights and compute; None = as trained.
    step: a step number of `committed`.

  Raises:
    UserError: no checkpoint there, or it is damaged.
  """
  folder = epath.Path(folder)
  if not is_checkpoint(folder):
    raise UserError(f"no {MODEL} here, so this is no checkpoint", where=folder, remedy="give checkpoints/STAGE")
  config = config_of(folder)
  params = weights(folder, _abstract(config, mesh)[1], step=step)
  if dtype is not None:
    name = jnp.dtype(dtype).name
    config = dataclasses.replace(config, dtype=name, param_dtype=name)
    params = jax.tree.map(lambda x: x.astype(name), params)
  return nnx.merge(_abstract(config, None)[0], params), tokenizer_lib.load(folder / TOKENIZER)


def weights(folder: epath.PathLike, like: Any, *, step: int | None = None) -> Any:
  """What was trained, at the newest (or the given) step, in the structure, dtypes and shardings of `like`.

  Raises:
    UserError: no checkpoint there, or it is damaged.
  """
  folder = epath.Path(folder)
  step = _newest(folder) if step is None else step
  path = folder.resolve() / STEPS / str(step) / "params"
  try:
    params = restore(path, like)
    verify(params, read_meta(folder, step)["weights"], path)
  except DamagedError as error:
    remedy = f"remove {path.parent} and run the training again: it goes on from the step before"
    raise UserError(f"damaged ({error})", where=path, remedy=remedy) from error
  return params


def config_of(folder: epath.PathLike) -> DecoderConfig:
  """Sizes and switches of the model.

  Raises:
    UserError: `model.json` is missing or damaged.
  """
  path = epath.Path(folder) / MODEL
  values = foreign.read_object(path)
  try:
    return DecoderConfig.from_json(values)
  except (TypeError, ValueError, AttributeError) as error:
    raise UserError(f"not what describes a model ({error})", where=path, remedy=foreign.COPY) from None


def _abstract(config: DecoderConfig, mesh: jax.sharding.Mesh | None) -> tuple[nnx.GraphDef[Any], Any]:
  """Structure and abstract weights of a decoder, placed on `mesh` if there is one."""
  graph, like = nnx.split(nnx.eval_shape(functools.partial(Decoder, config)), nnx.Param)
  if mesh is not None:
    leaves, tree = jax.tree.flatten(like)
    places = jax.tree.leaves(sharding.shardings_of(like, mesh))
    pairs = zip(leaves, places, strict=True)
    like = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s) for x, s in pairs])
  return graph, like
