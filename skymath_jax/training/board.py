"""Scalars for TensorBoard, written where they are made: no thread that could die, no queue that could fill up."""

import os
import time

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from skymath_jax.console import log


class Board:
  """An events file in `folder`. One that cannot be written is told once and left; the work goes on without.

  Args:
    folder: where TensorBoard looks.
    purge_step: the first step of which an earlier attempt's values do not count; None = it begins anew.
  """

  def __init__(self, folder: epath.PathLike, *, purge_step: int | None):
    self._writer: EventsWriter | None = None
    try:
      os.makedirs(folder, exist_ok=True)
      self._writer = EventsWriter(os.path.join(folder, "events"), f".{os.getpid()}")
    except OSError as error:
      self._give_up(error)
    if purge_step is not None:
      start = SessionLog(status=SessionLog.START)
      self._write(Event(wall_time=time.time(), step=purge_step, session_log=start))

  def add_scalar(self, name: str, value: float, step: int) -> None:
    """One number of one step."""
    values = Summary(value=[Summary.Value(tag=name, simple_value=value)])
    self._write(Event(wall_time=time.time(), step=step, summary=values))

  def _write(self, event: Event) -> None:
    try:
      if self._writer is not None:
        self._writer.write_event(event)
    except (OSError, ValueError) as error:
      self._give_up(error)

  def flush(self) -> None:
    """What was added is on disk."""
    try:
      if self._writer is not None:
        self._writer.flush()
    except (OSError, ValueError) as error:
      self._give_up(error)

  def close(self) -> None:
    """Nothing can be added any more."""
    try:
      if self._writer is not None:
        self._writer.close()
    except (OSError, ValueError) as error:
      self._give_up(error)
    self._writer = None

  def _give_up(self, error: Exception) -> None:
    self._writer = None
    log(f"warning: TensorBoard's events cannot be written ({error}); training goes on without, metrics.jsonl has all")
