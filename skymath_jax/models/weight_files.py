"""The safetensors files of a Hugging Face folder, read tensor by tensor and written as a stream.

The library's own writer wants all tensors of a file in memory at once; a file here is written one tensor after the
other, so an export of any size holds one. Reading opens a file for each tensor, so that no more than its pages stay
mapped. Format: 8 bytes length, a JSON header (name -> dtype, shape, byte range), the raw values.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath

from skymath_jax import files, foreign
from skymath_jax.console import log_once
from skymath_jax.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": np.dtype("float32"), "F16": np.dtype("float16"), "BF16": np.dtype(ml_dtypes.bfloat16)}
EXPONENTS = {DTYPES["F32"]: 0x7F800000, DTYPES["F16"]: 0x7C00, DTYPES["BF16"]: 0x7F80}
LOOK_AT_ONCE = 2**18  # numbers: they stay in the processor's cache
CODES = {dtype: code for code, dtype in DTYPES.items()}
COPY_AGAIN = "copy the file again from its origin"
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclasses.dataclass(frozen=True)
class Stored:
  """One tensor of a file, unread; `code` is safetensors' name of its type."""

  name: str
  path: epath.Path
  shape: tuple[int, ...]
  code: str

  @contextlib.contextmanager
  def open(self) -> Iterator[Any]:
    """Yields what `[slices]` reads from; the file is closed, and its pages are let go, at the end.

    Raises:
      UserError: the file changed since it was listed, or is damaged.
    """
    try:
      with safetensors.safe_open(self.path, "numpy") as file:
        yield file.get_slice(self.name)
    except (safetensors.SafetensorError, OSError) as error:
      raise UserError(f"{self.name} cannot be read ({error})", where=self.path, remedy=COPY_AGAIN) from None


@dataclasses.dataclass(frozen=True)
class Together:
  """Tensors of one shape and type read as one, with an axis in front that counts them: those of a layer's experts."""

  name: str
  each: tuple[Stored, ...]

  @property
  def path(self) -> epath.Path:
    """Where the first one lies."""
    return self.each[0].path

  @property
  def shape(self) -> tuple[int, ...]:
    """Of all together."""
    return (len(self.each), *self.each[0].shape)

  @property
  def code(self) -> str:
    """Safetensors' name of their type."""
    return self.each[0].code

  @contextlib.contextmanager
  def open(self) -> Iterator[Any]:
    """Yields what `[slices]` reads from, as `Stored.open` does."""
    yield self

  def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
    some, *rest = index
    parts = []
    for stored in self.each[some]:
      with stored.open() as tensor:
        parts.append(np.asarray(tensor[tuple(rest)]))
    return np.stack(parts)


def together(tensors: Mapping[str, Stored], names: Iterable[str], count: int) -> dict[str, Stored | Together]:
  """The tensors, those `numbered` by one of `names` as one under that name; incomplete or odd ones as they are."""
  found: dict[str, Stored | Together] = dict(tensors)
  for name in names:
    each = [tensors[one] for one in numbered(name, count) if one in tensors]
    if len(each) == count and len({(one.shape, one.code) for one in each}) == 1:
      found[name] = Together(name, tuple(each))
      for one in each:
        del found[one.name]
  return found


def numbered(name: str, count: int) -> list[str]:
  """The names of the tensors that lie together under a name with `#`."""
  return [name.replace("#", str(number)) for number in range(count)]


def scan(folder: epath.Path) -> dict[str, Stored]:
  """Every tensor of the folder's weight files by name; values stay on disk.

  Where both are there, the single file is read and the index is not, as transformers does.

  Raises:
    UserError: no weights, pickled ones only, a file that is missing or damaged, or an index that does not fit them.
  """
  index: Mapping[str, str] = {}
  if (folder / SINGLE).exists():
    names = [SINGLE]
    if (folder / INDEX).exists():
      log_once(f"{folder}: {SINGLE} is read, and the {INDEX} beside it is not, as transformers does")
  elif (folder / INDEX).exists():
    index = _index(folder / INDEX)
    names = sorted(set(index.values()))
  else:
    raise _nothing(folder)
  tensors: dict[str, Stored] = {}
  for name in names:
    path = folder / name
    if not path.exists():
      raise UserError(f"named by {INDEX} but not there", where=path, remedy=COPY_AGAIN)
    foreign.require_regular(path, most=foreign.MAX_WEIGHTS)
    for stored in list_file(path):
      if stored.name in tensors:
        where = f"{tensors[stored.name].path.name} and {name}"
        raise UserError(f"{stored.name} lies in two files, {where}", where=folder, remedy=COPY_AGAIN)
      tensors[stored.name] = stored
  if lost := sorted(name for name in index if name not in tensors or tensors[name].path.name != index[name]):
    raise UserError(f"{lost[0]} is not in {index[lost[0]]}", where=folder / INDEX, remedy=COPY_AGAIN)
  return tensors


def _nothing(folder: epath.Path) -> UserError:
  """What a folder has in place of weights that can be read."""
  loose = sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")
  if loose:
    remedy = f"take {INDEX} from where they come from, too; one file that is the whole model is called {SINGLE}"
    return UserError(f"weight files ({', '.join(loose[:3])}, …) without {INDEX}", where=folder, remedy=remedy)
  if any(path.suffix in PICKLED for path in folder.iterdir()):
    remedy = "convert it once: transformers' AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
    return UserError("only pickled weights here, which can run code", where=folder, remedy=remedy)
  if any(path.suffix == ".gguf" for path in folder.iterdir()):
    remedy = "take the model's safetensors: GGUF files are made from them"
    return UserError("only GGUF weights here, which are not read", where=folder, remedy=remedy)
  return UserError("no weights here", where=folder, remedy=f"it should hold {SINGLE} or {INDEX}")


def _index(path: epath.Path) -> Mapping[str, str]:
  """The index's tensor name -> file name; a file name is one in this folder, never a path out of it."""
  index = foreign.read_object(path).get("weight_map")
  if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
    raise UserError("no weight_map of tensor and file names", where=path, remedy=COPY_AGAIN)
  if outside := [name for name in index.values() if "/" in name or os.sep in name or not name.endswith(".safetensors")]:
    raise UserError(f"{outside[0]!r} is no safetensors file of this folder", where=path, remedy=COPY_AGAIN)
  return index


def list_file(path: epath.Path) -> list[Stored]:
  """Every tensor of one file; values stay on disk.

  Raises:
    UserError: it is damaged, or the pointer that Git LFS leaves in the place of a file.
  """
  try:
    with safetensors.safe_open(path, "numpy") as file:
      slices = ((name, file.get_slice(name)) for name in file.keys())
      return [Stored(name, path, tuple(part.get_shape()), part.get_dtype()) for name, part in slices]
  except (safetensors.SafetensorError, OSError) as error:
    what, remedy = files.LFS_FOUND if files.is_lfs_pointer(path) else (f"damaged ({error})", COPY_AGAIN)
    raise UserError(what, where=path, remedy=remedy) from None


def require_finite(name: str, values: np.ndarray, *, where: object) -> None:
  """Looks at every number of a tensor, of any shape.

  Raises:
    UserError: some are infinite or no numbers; the tensor is named.
  """
  kind = {2: np.uint16, 4: np.uint32}[values.itemsize]
  exponent = kind(EXPONENTS[values.dtype])  # all its bits are set in what is not finite; NumPy's own test is far slower
  bits = np.ascontiguousarray(values).reshape(-1).view(kind)
  parts = (bits[start : start + LOOK_AT_ONCE] for start in range(0, bits.size, LOOK_AT_ONCE))
  if bad := sum(np.count_nonzero((part & exponent) == exponent) for part in parts):
    raise UserError(
      f"{bad:,} of the {values.size:,} numbers of {name} are not finite in {values.dtype.name}",
      where=where,
      remedy="take float32 or bfloat16, which reach further, if float16 was asked for; else the model is broken",
    )


def rounded(name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """The values of a tensor, of any shape, in another type and the same shape.

  Raises:
    UserError: float16 turns more than half of them into zeros; the tensor is named.
  """
  found = values.astype(dtype, copy=False)
  if dtype == np.float16 != values.dtype:
    before, after = np.count_nonzero(values), np.count_nonzero(found)
    if 2 * after < before:
      what = f"{before - after:,} of the {values.size:,} numbers of {name} become 0 in float16"
      raise UserError(what, remedy="take float32 or bfloat16, which hold smaller numbers")
  return found


@dataclasses.dataclass(frozen=True)
class Source:
  """One tensor to be written: `read()` yields its values when it is their turn."""

  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]

  @property
  def size(self) -> int:
    """Number of values."""
    return int(np.prod(self.shape, dtype=np.int64))


def plan(sources: Mapping[str, Source], dtype: np.dtype, max_shard_size: int) -> list[dict[str, Source]]:
  """Which tensor goes to which file, in order; one larger than `max_shard_size` bytes gets a file of its own."""
  shards: list[dict[str, Source]] = [{}]
  held = 0
  for name, source in sources.items():
    size = source.size * dtype.itemsize
    if shards[-1] and held + size > max_shard_size:
      shards.append({})
      held = 0
    shards[-1][name] = source
    held += size
  return shards


def write(folder: epath.Path, shards: list[dict[str, Source]], dtype: np.dtype) -> None:
  """Writes the files of a plan, and their index if there are several, as transformers names them.

  Raises:
    UserError: a tensor that holds numbers which are not finite.
  """
  weight_map: dict[str, str] = {}
  for number, shard in enumerate(shards, start=1):
    name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    write_file(folder / name, shard, dtype)
    weight_map |= dict.fromkeys(shard, name)
  if len(shards) > 1:
    size = sum(source.size for shard in shards for source in shard.values()) * dtype.itemsize
    files.write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})


def write_file(path: epath.Path, tensors: Mapping[str, Source], dtype: np.dtype) -> None:
  """Writes one file, holding one tensor at a time.

  Raises:
    UserError: a tensor that holds numbers which are not finite.
  """
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  end = 0
  for name, source in tensors.items():
    start, end = end, end + source.size * dtype.itemsize
    header[name] = {"dtype": CODES[dtype], "shape": list(source.shape), "data_offsets": [start, end]}
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)  # values start at a multiple of 8
  with path.open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for name, source in tensors.items():
      values = source.read()
      if values.shape != source.shape or values.dtype != dtype:
        raise ValueError(f"{name} came as {values.dtype}{values.shape}, announced was {dtype}{source.shape}")
      require_finite(name, values, where=path)
      file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    file.flush()
    with contextlib.suppress(AttributeError, OSError):  # remote file objects have no descriptor
      os.fsync(file.fileno())
