"""Where an import or an export may write: never over what somebody else made, nor over what it reads."""

import os

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError


def require_output(out: epath.PathLike, source: epath.PathLike, *, overwrite: bool) -> epath.Path:
  """The absolute path of `out`, which is not there yet, or is empty, or may be replaced.

  Args:
    out: the folder to write.
    source: the folder that is read meanwhile.
    overwrite: whether a folder of an earlier import or export may be replaced.

  Raises:
    UserError: something lies there that is not ours, or `overwrite` is needed, or the two folders are or hold another;
      or it lies in a bucket.
  """
  target, read = files.absolute(out), files.absolute(source)
  pair = [os.fspath(path) for path in (target, read)]
  if "://" in pair[0]:  # a folder there is not replaced as a whole, nor read back tensor by tensor
    remedy = "name a folder of this machine, then copy it there"
    raise UserError("imports and exports are not written into a bucket", where=out, remedy=remedy)
  if "://" not in pair[1] and os.path.commonpath(pair) in pair:
    raise UserError(f"the output is, holds or lies in {read}, which is read", where=out, remedy="name a new folder")
  files.require_replaceable(target)
  if not overwrite and target.exists() and any(target.iterdir()):
    raise UserError("this folder is there already", where=out, remedy="--overwrite replaces it")
  return target
