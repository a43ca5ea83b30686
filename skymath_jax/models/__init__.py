"""Decoders: what they are (`config`, `decoder`), which exist (`families`), how they are kept (`hf`, `orbax_folder`)."""

import fnmatch
import functools
import hashlib
from typing import Any

from etils import epath
from jax.sharding import Mesh

from skymath_jax import files, foreign, hub, mirror
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.errors import UserError
from skymath_jax.models import families, hf
from skymath_jax.models.config import DecoderConfig, RopeScaling
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.published import PUBLISHED
from skymath_jax.tokenizer import Tokenizer

__all__ = [
  "Decoder",
  "DecoderConfig",
  "RopeScaling",
  "config_of",
  "load_any",
  "model_id",
  "resolve",
  "stored_dtype",
  "tokenizer_of",
  "weights_hash",
]


ASSETS = epath.Path(__file__).parents[1] / "assets"


def resolve(path: epath.PathLike) -> epath.Path:
  """The folder that `path` means: `asset:NAME` is a bundled model, `~` the home folder, `ORG/NAME` one of the hub.

  A folder of that name takes precedence over the hub. A Hugging Face folder in a bucket is copied to this machine.

  Raises:
    UserError: there is no such folder, and no such model on the hub.
  """
  text = str(path)
  folder = ASSETS / text.removeprefix("asset:") if text.startswith("asset:") else epath.Path(path).expanduser()
  if text and "://" in text:
    return _from_bucket(text)
  if text and folder.is_dir():
    return folder
  if hub.is_id(text):
    return hub.model(text)
  remedy = "check the path; bundled models are asset:NAME, those of the hub ORG/NAME"
  raise UserError("no such model folder", where=text or "model", remedy=remedy)


@functools.cache
def _from_bucket(text: str) -> epath.Path:
  """A checkpoint is read where it lies; of a Hugging Face folder the files of a model are copied."""
  with mirror.reachable(text):
    names = [path.name for path in epath.Path(text).iterdir()]
  if "config.json" not in names:
    return epath.Path(text)
  local = mirror.scratch(text)
  for name in names:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in hub.MODEL_FILES):
      mirror.fetch(epath.Path(text) / name, local / name)
  return local


def model_id(path: epath.PathLike) -> str:
  """`NAME@WEIGHTS_HASH` of a model folder: what provenance and the response store identify a model by."""
  return f"{str(path).removeprefix('asset:').rstrip('/').rsplit('/', 1)[-1]}@{weights_hash(path)}"


def load_any(path: epath.PathLike, mesh: Mesh | None = None, dtype: Any = None) -> tuple[Decoder, Tokenizer]:
  """The decoder and tokenizer of a Hugging Face folder (it has a config.json) or of one of our checkpoints.

  Raises:
    UserError: no such folder, or what it holds cannot be read.
  """
  path = resolve(path)
  if (path / "config.json").exists():
    return hf.load(path, mesh=mesh, dtype=dtype)
  from skymath_jax.models import orbax_folder  # brings Orbax in, which takes a second

  return orbax_folder.load(path, mesh=mesh, dtype=dtype)


def config_of(path: epath.PathLike) -> DecoderConfig:
  """The sizes of a model without its weights: from its folder, by its name among `PUBLISHED`, or from the hub.

  Raises:
    UserError: no such folder and not published, or a config that cannot be read.
  """
  text = str(path)
  name, here = text.rstrip("/").rsplit("/", 1)[-1], epath.Path(text).expanduser().is_dir()
  if name in PUBLISHED and not here:
    return PUBLISHED[name]
  try:
    folder = hub.model(text, "config.json") if hub.is_id(text) and not here else resolve(path)
  except UserError as error:
    remedy = f"check the path, or use one of the published {', '.join(PUBLISHED)}"
    raise UserError(error.what, where=error.where, remedy=remedy) from None
  if (folder / "config.json").exists():
    return families.config_from_hf(foreign.read_object(folder / "config.json"), where=folder / "config.json")
  from skymath_jax.models import orbax_folder

  return orbax_folder.config_of(folder)


def stored_dtype(path: epath.PathLike) -> str:
  """The number format that a model's weights have on disk.

  Raises:
    UserError: no such folder, or it cannot be read.
  """
  folder = resolve(path)
  return hf.stored_dtype(folder) if (folder / "config.json").exists() else config_of(folder).param_dtype


def tokenizer_of(path: epath.PathLike) -> Tokenizer:
  """The tokenizer of a model, without its weights.

  Raises:
    UserError: no such folder, or no tokenizer in it.
  """
  folder = resolve(path)
  own = folder / "tokenizer"  # of a checkpoint
  return tokenizer_lib.load(folder if (folder / "config.json").exists() or not own.exists() else own)


def weights_hash(path: epath.PathLike) -> str:
  """16 hex digits that change when the weights, the config or the tokenizer do, and with nothing else."""
  folder = resolve(path)
  if not (folder / "config.json").exists():
    from skymath_jax.models import orbax_folder

    return orbax_folder.weights_hash(folder)[:16]
  digest = hashlib.sha256()
  for file in sorted(folder.iterdir()):
    if file.suffix in (".safetensors", ".json", ".model"):
      foreign.require_regular(file, most=foreign.MAX_WEIGHTS)
      digest.update(f"{file.name}\0{files.sha256(file)}\n".encode())
  return digest.hexdigest()[:16]
