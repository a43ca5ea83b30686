"""Adapters on disk: a checkpoint of ours that holds them alone, or a folder of PEFT's. Neither holds what they adapt.

A `Reference` says which model that is: by the name under which `models.resolve` finds it, and by its fingerprint.
"""

import dataclasses
from typing import Any

from etils import epath
from flax import nnx

from skymath_jax import foreign
from skymath_jax.errors import UserError
from skymath_jax.models import lora, peft
from skymath_jax.models.decoder import Decoder
from skymath_jax.models.lora import Adapters

OURS = "adapter.json"  # beside the model.json of a checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
  """What adapters belong to. `base_hash` is `models.weights_hash` of the base; empty where nobody says (PEFT)."""

  base: str
  base_hash: str
  adapters: Adapters

  def as_json(self) -> dict[str, Any]:
    """What lies in `adapter.json`."""
    return dataclasses.asdict(self)


def reference(folder: epath.Path) -> Reference | None:
  """What the adapters in `folder` belong to; None where there are none.

  Raises:
    UserError: a file that does not say it.
  """
  if (folder / OURS).exists():
    values = foreign.read_object(folder / OURS)
    try:
      return Reference(**{**values, "adapters": Adapters(**values["adapters"])})
    except (KeyError, TypeError):
      raise UserError("not what describes adapters", where=folder / OURS, remedy=foreign.COPY) from None
  if not peft.is_folder(folder):
    return None
  path = folder / peft.CONFIG
  values = foreign.read_object(path)
  base, revision = values.get("base_model_name_or_path"), values.get("revision")
  if not isinstance(base, str) or not base:
    raise UserError("base_model_name_or_path is missing", where=path, remedy="name there the model that it adapts")
  named = f"{base}@{revision}" if revision else base
  return Reference(base=named, base_hash="", adapters=peft.adapters_of(values, where=path))


def require_same(kept: Adapters, wanted: Adapters | None, *, where: object) -> None:
  """Compares rank and alpha of adapters with those that are wanted; the type of the base is free.

  Raises:
    UserError: one of them differs.
  """
  for key in ("rank", "alpha") if wanted is not None else ():
    if getattr(kept, key) != getattr(wanted, key):
      what = f"the adapters' {key} is {getattr(kept, key)}, not {getattr(wanted, key)}"
      raise UserError(what, where=where, remedy=f"set config.training.lora_{key} = {getattr(kept, key)}")


def read(folder: epath.Path, decoder: Decoder) -> None:
  """Puts the adapters of `folder` into the decoder, which has such: those of the newest step, or PEFT's.

  Raises:
    UserError: they cannot be read, or are of another model.
  """
  if not (folder / OURS).exists():
    peft.read(folder, decoder)
    return
  from skymath_jax.models import orbax_folder  # brings Orbax in, which takes a second

  nnx.update(decoder, orbax_folder.weights(folder, lora.split(decoder)[1]))
