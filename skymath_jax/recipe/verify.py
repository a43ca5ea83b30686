"""`skymath verify`: reads every recorded file of a workdir and says which are not what they were."""

import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import files, integrity
from skymath_jax.errors import UserError
from skymath_jax.recipe import stages
from skymath_jax.recipe.workdir import CONFIG, CONFIG_HASH, CONFIG_REMEDY, Workdir


def verify(where: epath.PathLike) -> Iterator[tuple[str, str]]:
  """(folder, what is wrong with it) of every complete folder of a workdir; "" for nothing.

  Raises:
    UserError: this is no workdir, it is in use, or its config cannot be read.
  """
  workdir = Workdir(where)
  with workdir.held():
    path = workdir / CONFIG
    found = files.read_json(path)
    if damaged := not workdir.fits(found):
      yield ".", str(UserError(f"does not fit {workdir / CONFIG_HASH}", where=path, remedy=CONFIG_REMEDY))
    try:
      config = config_lib.stored(found, where=path)
    except UserError:
      if damaged:
        return  # what was made with it cannot be told
      raise
    root = Path(os.fspath(workdir.path))
    for held in sorted({mark.parent for name in (files.COMPLETE, integrity.MANIFEST) for mark in root.rglob(name)}):
      folder = str(held.relative_to(root))
      place = workdir.path / folder
      yield folder, _told(integrity.damages(place, contents=True), place, folder, config)


def _told(bad: dict[str, str], place: epath.Path, folder: str, config: config_lib.Experiment) -> str:
  if changed := [name for name, how in bad.items() if how == "changed"]:
    return str(stages.damaged(integrity.DamagedError(place, changed), folder, config))
  if missing := [name for name, how in bad.items() if how == "missing"]:
    return f"{place}: {integrity.gone(missing)}. Run the same command again: what is missing is made anew."
  return ""
