"""Orbax checkpoints of a run: atomic, asynchronous, checked, and tied to the run that wrote them.

A step is what is trained (weights, or adapters alone), optimizer state, the data iterator's state and `meta` (what run
this is, checksums). A step that cannot be read back bit for bit is put aside with a message and the one before it is
taken.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from skymath_jax import distributed
from skymath_jax.config import Training
from skymath_jax.console import log
from skymath_jax.errors import UserError
from skymath_jax.keys import first_difference
from skymath_jax.models import orbax_folder
from skymath_jax.training.step import TrainState

ITEMS = ("params", "optimizer", "data", "meta")
STOPPED = 143  # exit code of a process that ended on SIGTERM


def finished(folder: epath.PathLike, run: dict[str, Any]) -> dict[str, Any] | None:
  """The facts of the run that `folder` holds if it came to its last step, else None.

  Raises:
    UserError: the newest readable step is of another run; nothing in the folder has been touched.
  """
  for step in orbax_folder.committed(folder):
    try:
      meta = orbax_folder.read_meta(folder, step)
    except UserError:
      continue  # damaged; `restore` will say so
    require_same_run(meta["run"], run, folder)
    return meta["facts"] if meta["facts"]["steps"] == step else None
  return None


def require_same_run(saved: dict[str, Any], now: dict[str, Any], folder: epath.PathLike) -> None:
  """Compares the run of a checkpoint with this one.

  Raises:
    UserError: they differ; it names the first entry that does.
  """
  found = first_difference({k: v for k, v in saved.items() if k in now}, now)  # older versions said more
  if found:
    key, old, new = found
    raise UserError(
      f"the checkpoint here belongs to another run: {key} was {old!r}, now it is {new!r}",
      where=folder,
      remedy="train in another folder, or remove this one to start again",
    )


class Checkpointer:
  """The steps of one run in `folder/steps`; a context manager that waits for the last write.

  Args:
    folder: `checkpoints/STAGE`.
    run: JSON object that identifies the run; a step of another run is refused on restore.
    keep: number of newest steps kept.
    keep_best: also the step with the lowest `held_out_loss`.
  """

  def __init__(self, folder: epath.PathLike, *, run: dict[str, Any], keep: int, keep_best: bool = Training.keep_best):
    self.folder = epath.Path(folder).resolve()
    self._run = run
    policies: list[preservation_policy.PreservationPolicy] = [preservation_policy.LatestN(keep)]
    if keep_best:
      policies.append(preservation_policy.BestN(get_metric_fn=lambda m: m["held_out_loss"], reverse=True, n=1))
    options = ocp.CheckpointManagerOptions(
      preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
      create=True,
      enable_async_checkpointing=True,
      cleanup_tmp_directories=True,
    )
    self._manager = ocp.CheckpointManager(self.folder / orbax_folder.STEPS, item_names=ITEMS, options=options)

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if kind is not None:  # what failed first is what the user should read
      with contextlib.suppress(Exception):
        self._manager.close()
      return
    with self._writing():
      self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:  # whatever TensorStore makes of a disk that is full
      raise UserError(
        f"a checkpoint could not be written ({str(error).splitlines()[0][:300]})",
        where=self.folder,
        remedy="make room, then run the same command again: it goes on from the last whole step",
      ) from error

  def save(self, state: TrainState, step: int, data_state: Any, facts: dict[str, Any]) -> None:
    """Starts writing a step; returns when the arrays are copied, not when they are on disk.

    Raises:
      UserError: an earlier step could not be written.
    """
    meta = {
      "run": self._run,
      "step": step,
      "weights": orbax_folder.checksum(state.params),
      "optimizer": orbax_folder.checksum(state.opt_state),
      "facts": facts,
    }
    items = ocp.args.Composite(
      params=orbax_folder.in_chunks(state.params),
      optimizer=orbax_folder.in_chunks(state.opt_state),
      data=ocp.args.JsonSave(data_state),
      meta=ocp.args.JsonSave(meta),
    )
    with self._writing():
      self._manager.save(step, args=items, metrics={k: v for k, v in facts.items() if k == "held_out_loss"} or None)

  def check(self) -> None:
    """Looks, without waiting, whether a write in the background has failed.

    Raises:
      UserError: it has.
    """
    with self._writing():
      self._manager.check_for_errors()

  def wait(self) -> None:
    """Returns when the last step is on disk.

    Raises:
      UserError: it could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()

  def preempted(self, step: int) -> bool:
    """Whether the scheduler announced the end of this machine to any process of the job."""
    return self._manager.reached_preemption(step)

  def restore(self, like: TrainState) -> tuple[TrainState, Any, dict[str, Any]] | None:
    """(state, data state, meta) of the newest good step, in the shardings of `like`; None if there is none.

    Raises:
      UserError: the newest readable step is of another run.
    """
    for step in orbax_folder.committed(self.folder):
      path = self.folder / orbax_folder.STEPS / str(step)
      try:
        return self._read(path, step, like)
      except (orbax_folder.DamagedError, OSError, KeyError, ValueError) as error:
        aside = path.parent / f"damaged-{step}"
        log(f"checkpoint of step {step} cannot be used and is kept as {aside}: {error}")
        if distributed.is_writer():
          path.rename(aside)
        distributed.barrier(f"damaged step {step} put aside", seconds=600)
        self._manager.reload()
    return None

  def _read(self, path: epath.Path, step: int, like: TrainState) -> tuple[TrainState, Any, dict[str, Any]]:
    try:
      meta = orbax_folder.read_meta(self.folder, step)
    except UserError as error:
      raise orbax_folder.DamagedError(str(error)) from error
    require_same_run(meta["run"], self._run, self.folder)
    params = orbax_folder.restore(path / "params", like.params)
    opt_state = orbax_folder.restore(path / "optimizer", like.opt_state)
    orbax_folder.verify(params, meta["weights"], path / "params")
    orbax_folder.verify(opt_state, meta["optimizer"], path / "optimizer")
    data = self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore()))["data"]
    return like._replace(params=params, opt_state=opt_state, step=like.step + step), data, meta


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
  """An event that SIGTERM sets, so that the loop can save and leave; the old handler comes back at the end."""
  event = threading.Event()
  # With several processes the handler stays JAX's own, which makes all of them stop at the same step (`preempted`).
  if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
    yield event
    return
  before = signal.signal(signal.SIGTERM, lambda *_: event.set())
  try:
    yield event
  finally:
    signal.signal(signal.SIGTERM, before)
