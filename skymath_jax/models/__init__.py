"""Decoders: what they are (`config`, `decoder`), which exist (`families`), how they are kept (`hf`, `orbax_folder`)."""

import fnmatch
import functools
import hashlib
import os
from collections.abc import Callable
from typing import Any

from etils import epath
from flax import nnx
from jax.sharding import Mesh

from skymath_jax import files, foreign, hub, mirror
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.errors import UserError
from skymath_jax.models import adapter_folder, families, hf, lora, peft
from skymath_jax.models.adapter_folder import Reference
from skymath_jax.models.config import DecoderConfig, RopeScaling
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.lora import Adapters
from skymath_jax.models.published import PUBLISHED
from skymath_jax.tokenizer import Tokenizer

__all__ = [
  "Decoder",
  "DecoderConfig",
  "Reference",
  "RopeScaling",
  "config_of",
  "laid_out",
  "load_adapted",
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
  folder = ASSETS / text.removeprefix("asset:") if text.startswith("asset:") else files.located(text)
  if "://" in os.fspath(folder):
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

  Adapters, a checkpoint's or a folder of PEFT's, are merged into the model that they adapt.

  Raises:
    UserError: no such folder, or what it holds cannot be read.
  """
  path = resolve(path)
  if adapter_folder.reference(path) is not None:
    decoder, tokenizer, _ = load_adapted(path, mesh=mesh)
    return lora.plain(decoder, mesh, dtype=dtype), tokenizer
  if (path / "config.json").exists():
    return hf.load(path, mesh=mesh, dtype=dtype)
  from skymath_jax.models import orbax_folder  # brings Orbax in, which takes a second

  return orbax_folder.load(path, mesh=mesh, dtype=dtype)


def load_adapted(
  path: epath.PathLike,
  adapters: Adapters | None = None,
  *,
  mesh: Mesh | None = None,
  dtype: Any = None,
  prepare: Callable[[Decoder], Decoder] | None = None,
  rng_seed: int = 0,
) -> tuple[Decoder, Tokenizer, Reference]:
  """A decoder with adapters beside its weights, its tokenizer, and what they adapt.

  Args:
    path: adapters, a checkpoint's or PEFT's; or a model, which gets new ones that change nothing yet.
    adapters: what they must be, or shall be; None = as they are in `path`.
    mesh: where the frozen weights go; None = the first device.
    dtype: of the frozen weights before they are rounded; None = as trained.
    prepare: what is done to the base before it gets adapters; None = as trained.
    rng_seed: of new adapters.

  Raises:
    UserError: no such folder, the base is not the one that was adapted, or rank or alpha are other ones.
  """
  folder = resolve(path)
  kept = adapter_folder.reference(folder)
  if kept is not None:
    adapter_folder.require_same(kept.adapters, adapters, where=folder)
    adapters = adapters or kept.adapters
  if adapters is None:
    raise UserError("no adapters here", where=path, remedy="give a checkpoint of a training with training.lora_rank")
  base = kept.base if kept is not None else _lasting(path)
  fingerprint = weights_hash(base)
  if kept is not None and kept.base_hash not in ("", fingerprint):
    what = f"it has the fingerprint {fingerprint}, and the model that {path} adapts had {kept.base_hash}"
    raise UserError(what, where=base, remedy="put that model there, or its place into adapter.json")
  if kept is not None and not peft.is_folder(folder):
    config = config_of(folder)
    dtype, prepare = dtype or config.param_dtype, prepare or functools.partial(laid_out, config=config)
  decoder, tokenizer = load_any(base, mesh=mesh, dtype=dtype)
  decoder = prepare(decoder) if prepare is not None else decoder  # nothing else may hold what is rounded now
  reference = Reference(base=base, base_hash=fingerprint, adapters=adapters)
  lora.attach(decoder, reference.adapters, rngs=nnx.Rngs(rng_seed))
  if kept is not None:
    adapter_folder.read(folder, decoder)
    tokenizer = tokenizer_of(folder)
  return decoder, tokenizer, reference


def laid_out(decoder: Decoder, config: DecoderConfig) -> Decoder:
  """The decoder with the compute dtype, rematerialisation and layer layout of `config`."""
  decoder = decoder.replace(dtype=config.dtype, remat=config.remat)
  return decoder if config.scan_layers else decoder.unstacked()


def _lasting(path: epath.PathLike) -> str:
  """A name by which `resolve` finds the model from another folder, too."""
  text = str(path)
  named = text.startswith("asset:") or "://" in text or (hub.is_id(text) and not epath.Path(text).is_dir())
  return text if named else str(files.absolute(epath.Path(path).expanduser()))


def _peft_base(folder: epath.Path) -> str:
  found = adapter_folder.reference(folder)
  assert found is not None
  return found.base


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
  if peft.is_folder(folder):
    return config_of(_peft_base(folder))
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
  if peft.is_folder(folder):
    return stored_dtype(_peft_base(folder))
  return hf.stored_dtype(folder) if (folder / "config.json").exists() else config_of(folder).param_dtype


def tokenizer_of(path: epath.PathLike) -> Tokenizer:
  """The tokenizer of a model, without its weights.

  Raises:
    UserError: no such folder, or no tokenizer in it.
  """
  folder = resolve(path)
  if peft.is_folder(folder) and not (folder / "tokenizer_config.json").exists():
    return tokenizer_of(_peft_base(folder))
  own = folder / "tokenizer"  # of a checkpoint
  return tokenizer_lib.load(folder if (folder / "config.json").exists() or not own.exists() else own)


def weights_hash(path: epath.PathLike) -> str:
  """16 hex digits that change when the weights, the config, the tokenizer or the prompt of training do."""
  folder = resolve(path)
  if not (folder / "config.json").exists() and not peft.is_folder(folder):
    from skymath_jax.models import orbax_folder

    return orbax_folder.weights_hash(folder)[:16]
  digest = hashlib.sha256(weights_hash(_peft_base(folder)).encode() if peft.is_folder(folder) else b"")
  for file in sorted(folder.iterdir()):
    if file.suffix in (".safetensors", ".json", ".model"):
      foreign.require_regular(file, most=foreign.MAX_WEIGHTS)
      digest.update(f"{file.name}\0{files.sha256(file)}\n".encode())
  return digest.hexdigest()[:16]
