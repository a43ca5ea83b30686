"""The folder of a run: who may write it, which config it belongs to, what in it is complete, and its copy in a bucket.

workdir = Workdir("gs://bucket/runs/a")
with workdir.opened(config, made_with):  # locked, bound to the config, seen by all processes of the job
  files.write_text(workdir / "seeds" / "problems.jsonl", "…")
  workdir.complete("seeds", {"output": "hash"})
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Set

from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import distributed, files, integrity
from skymath_jax.config import Experiment
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.mirror import Mirror
from skymath_jax.records import Facts

CONFIG, CONFIG_HASH, SEEDS = "config.json", "config_hash", "seeds"
CONFIG_REMEDY = "remove both, then run the same command: it writes them anew"
FETCH_SECONDS = 3600  # how long processes wait for the one that copies a workdir from a bucket
WORK_SECONDS = 14 * 24 * 3600  # how long they wait for a stage's work


class Workdir:
  """One run's folder, on a file system or in a bucket; all processes of a job hold one.

  `workdir / NAME` is on a file system: of a workdir in a bucket, in this process's local copy. Training's checkpoints
  lie in `checkpoints`, which all processes share.

  Raises:
    UserError: the folder has no name, or an address with `..` or of a kind that is not read.
  """

  def __init__(self, where: epath.PathLike):
    if not os.fspath(where):
      raise UserError("its name is empty", where="--workdir", remedy="name a folder; . is the current one")
    if "://" in os.fspath(where) and ".." in os.fspath(where).split("/"):  # a name like any other to a bucket
      raise UserError("an address with ..", where="--workdir", remedy="name the folder itself")
    self.where = files.located(where)
    self._mirror = Mirror(self.where, process=distributed.process_index())
    self.path = self._mirror.local
    self.checkpoints = self._mirror.durable / "checkpoints"
    self._seen: dict[str, Facts | None] = {}  # folder → facts, of what was looked at and is whole

  @property
  def in_bucket(self) -> bool:
    """Whether what is worked on here is a local copy."""
    return self._mirror.remote

  def __truediv__(self, name: str) -> epath.Path:
    return self.path / name

  @contextlib.contextmanager
  def opened(self, config: Experiment, made_with: Mapping[str, Set[str]]) -> Iterator[None]:
    """Locks the workdir while the block runs, and binds it to `config`.

    Args:
      config: the resolved config is left in the workdir.
      made_with: folder → keys and groups of the config whose values bind what is in it.

    Raises:
      UserError: the folder cannot be written, is in use, or holds what another config has made (the key is named).
    """
    files.require_plain_name(self.where)
    with contextlib.ExitStack() as stack:
      if distributed.is_writer():
        stack.enter_context(self.owned())
      self._mirror.open(writer=distributed.is_writer())
      if distributed.is_writer():
        self._claim(config, made_with)
        self._mirror.push_files(CONFIG, CONFIG_HASH)
      distributed.barrier("the workdir is open", seconds=FETCH_SECONDS)
      if not (self._mirror.durable / CONFIG).exists():
        raise UserError(
          f"process {distributed.process_index()} does not see what process 0 has written here",
          where=self.where,
          remedy="give a --workdir that all hosts share: a bucket (gs://...) or a network file system",
        )
      yield

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Brings the local copy up to date and keeps others out while the block runs; changes nothing.

    Raises:
      UserError: this is no workdir, or it is in use.
    """
    self._mirror.require_reachable()
    if not (self._mirror.durable / CONFIG).exists():
      raise UserError(f"no {CONFIG} here, so this is no workdir", where=self.where, remedy="name the folder of a run")
    with self.owned():
      self._mirror.open(writer=False)
      yield

  @contextlib.contextmanager
  def owned(self) -> Iterator[None]:
    """Keeps others out while the block runs: those of this machine by a lock, other machines by a lease in the bucket.

    Raises:
      UserError: the folder cannot be written, or somebody works in it.
    """
    if self._mirror.remote:  # beside the local copy, which may be thrown away
      self._require_writable(self.path.parent)
      lock = self.path.parent / f".{self.path.name}.lock"
    else:
      self._require_writable(self.path)
      lock = self / ".lock"
    with files.lock(lock, f"the workdir {self.where}"), self._mirror.owned():
      yield

  def _require_writable(self, folder: epath.Path) -> None:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      (folder / ".writable").touch()
      (folder / ".writable").unlink()
    except OSError as error:
      what, remedy = f"cannot write here ({error.strerror})", "choose another --workdir"
      raise UserError(what, where=folder, remedy=remedy) from None

  def _claim(self, config: Experiment, made_with: Mapping[str, Set[str]]) -> None:
    """Leaves the resolved config in the workdir, or refuses one with which something there was not made."""
    path, written = self / CONFIG, config_lib.as_json(config)
    if path.exists():
      found = files.read_json(path)
      if found == written:
        return
      if (self / CONFIG_HASH).exists() and not self.fits(found):
        raise UserError(f"does not fit {self / CONFIG_HASH}", where=path, remedy=CONFIG_REMEDY)
      self._require_same(config, found, made_with)
    else:
      self._require_ours()
    files.write_json(path, written)
    files.write_text(self / CONFIG_HASH, config_lib.config_hash(config) + "\n")

  def fits(self, found: Facts) -> bool:
    """Whether `found`, which the stored config says, is what was stored, by whichever version."""
    known = self / CONFIG_HASH
    return known.exists() and known.read_bytes() == f"{integrity.checksum(found)[: config_lib.HASH_DIGITS]}\n".encode()

  def _require_ours(self) -> None:
    """Refuses a folder in which no run has been, where what somebody keeps in it would be written over.

    The seeds of another run may be copied here. The other stages look for themselves (`files.new_folder`).
    """
    held = [path.name for path in (self / SEEDS).iterdir()] if (self / SEEDS).is_dir() else []
    if held and files.COMPLETE not in held:
      what = f"{SEEDS}/ holds what no run of skymath has made ({held[0]}, …)"
      raise UserError(what, where=self.where, remedy="choose a new --workdir")

  def _require_same(self, config: Experiment, found: Facts, made_with: Mapping[str, Set[str]]) -> None:
    """Refuses a config with which something here was not made; `found` is the one that is stored."""
    path = self / CONFIG
    old, new = config_lib.bound(config_lib.stored(found, where=path)), config_lib.bound(config)
    there = sorted(folder for folder in made_with if (self / folder).exists())
    for key in new:
      if old[key] == new[key]:
        continue
      was, now = repr(old[key]), repr(new[key])
      bound = [folder for folder in there if key in config_lib.bound(config, *made_with[folder])]
      if bound:
        raise UserError(
          f"what is in {' and '.join(bound)} was made with config.{key} = {was}, now it is {now}",
          where=self.where,
          remedy=f"use another --workdir, or the config of this one (its {CONFIG}), or move {bound[0]}/ away",
        )
      log(f"config.{key} was {was} here, now it is {now}: nothing that stays was made with it")

  def completion(self, folder: str) -> Facts | None:
    """The facts with which `folder` was completed; None while it is not, or where a file has been removed since.

    The writer looks at the files, once until the folder is completed anew; the others trust it.

    Raises:
      DamagedError: a file is not what it was.
    """
    if not distributed.is_writer():
      return files.completion(self / folder)
    if self._seen.get(folder) is None:
      self._seen[folder] = integrity.completion(self / folder)
    return self._seen[folder]

  def mark(self, folder: str) -> Facts | None:
    """The facts that the completion mark of `folder` holds, whatever lies beside it; None without a mark."""
    return files.completion(self / folder)

  def reopen(self, folder: str) -> None:
    """The writer takes the mark of `folder` away, here and in the bucket, before it is worked on again."""
    self._seen.pop(folder, None)
    if distributed.is_writer():
      for place in (self / folder, self._mirror.durable / folder):
        integrity.reopen(place)

  def complete(self, folder: str, facts: Facts) -> Facts:
    """The writer marks `folder` complete; returns the facts, in every process, when all have come here and see it."""
    if distributed.is_writer():
      in_bucket = self.checkpoints.parent / folder if folder.startswith("checkpoints/") else None
      integrity.complete(self / folder, facts, files_in=in_bucket)
      self._seen.pop(folder, None)
      self.push(folder)
    distributed.barrier(f"{folder} is complete", seconds=WORK_SECONDS)
    if not distributed.is_writer():
      self.pull(folder)
    return self.facts(folder)

  def facts(self, folder: str) -> Facts:
    """The facts of a complete folder."""
    facts: Facts = files.read_json(self / folder / files.COMPLETE)
    return facts

  def push(self, folder: str) -> None:
    """Copies what has changed in `folder` to the bucket, if the workdir lies in one."""
    self._mirror.push(folder)

  def push_files(self, *names: str) -> None:
    """Copies these files to the bucket, if the workdir lies in one."""
    self._mirror.push_files(*names)

  def put(self, name: str, data: bytes) -> None:
    """Makes an object in the bucket that the workdir lies in; it goes when its folder is copied the next time."""
    self._mirror.put(name, data)

  def pull(self, folder: str) -> None:
    """Copies what is missing or different in `folder` from the bucket, if the workdir lies in one."""
    self._mirror.pull(folder)

  def kept_up(self, folder: str) -> contextlib.AbstractContextManager[None]:
    """While the block runs, the writer copies `folder` to the bucket now and then."""
    return self._mirror.kept_up(folder) if distributed.is_writer() else contextlib.nullcontext()
