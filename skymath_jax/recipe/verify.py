"""`skymath verify`: reads every recorded file of a workdir and says which are not what they were."""

import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import files, integrity
from skymath_jax.recipe import stages
from skymath_jax.recipe.workdir import CONFIG, CONFIG_HASH, Workdir


def verify(where: epath.PathLike) -> Iterator[tuple[str, str]]:
  """(folder, what is wrong with it) of every complete folder of a workdir; "" for nothing.

  Raises:
    UserError: this is no workdir, it is in use, or its config cannot be read.
  """
  workdir = Workdir(where)
  with workdir.held():
    path = workdir / CONFIG
    config = config_lib.stored(files.read_json(path), where=path)
    known = workdir / CONFIG_HASH
    if not known.exists() or known.read_bytes() != f"{config_lib.config_hash(config)}\n".encode():
      yield ".", f"{path}: does not fit {known}. Remove both, then run the same command: it writes them anew."
    root = Path(os.fspath(workdir.path))
    for found in sorted({mark.parent for name in (files.COMPLETE, integrity.MANIFEST) for mark in root.rglob(name)}):
      folder = str(found.relative_to(root))
      place = workdir.path / folder
      yield folder, _told(integrity.damages(place, contents=True), place, folder, config)


def _told(bad: dict[str, str], place: epath.Path, folder: str, config: config_lib.Experiment) -> str:
  if changed := [name for name, how in bad.items() if how == "changed"]:
    return str(stages.damaged(integrity.DamagedError(place, changed), folder, config))
  if missing := [name for name, how in bad.items() if how == "missing"]:
    return f"{place}: {integrity.gone(missing)}. Run the same command again: what is missing is made anew."
  return ""
